"""`python -m bench.faults`: what is bad is counted, shown and answered with exit code 1."""

from __future__ import annotations

import json
import os
import random

import pytest

from bench import fault_commands, fault_files, fault_inputs, faults
from bench.fault_cuts import Disk
from bench.fault_files import Try
from toyvit.cli import COMMANDS

DRAWS = 200


def try_badly(n, seed, place):
    """Every third is bad."""
    for number in range(n):
        yield Try(f"number {number}", "silent" if number % 3 == 2 else "")


@pytest.fixture
def part(monkeypatch):
    part = faults.Part(try_badly, asked=2, quick=1, what="numbers", bad="silent")
    monkeypatch.setattr(faults, "PARTS", {"numbers": part})
    monkeypatch.setattr("logging.disable", lambda level: None)


@pytest.mark.parametrize(
    ("words", "code", "row"),
    [
        ([], 0, "| numbers | 2 | 0 | silent |"),
        (["--quick"], 0, "| numbers | 1 | 0 | silent |"),
        (["--n", "7", "--only", "numbers"], 1, "| numbers | 7 | 2 | silent |"),
    ],
)
def test_the_table_the_file_and_the_exit_code(part, capsys, tmp_path, words, code, row):
    file = tmp_path / "new/faults.json"
    assert faults.main([*words, "--seed", "5", "--to", str(file)]) == code
    shown = capsys.readouterr()
    assert row in shown.out.splitlines()
    assert ("numbers: number 2\n  silent" in shown.err) == bool(code)
    (record,) = json.loads(file.read_text())["parts"]
    assert record["seed"] == 5 and len(record["bad"]) == 2 * code


def test_nothing_tried_is_not_passed():
    assert not faults.is_passed([faults.Count("files", 9, 0)])
    assert faults.is_passed([faults.Count("files", 9, 0, tried=9)])


@pytest.mark.parametrize("words", [["--only", "fils"], ["--n", "0"], ["--n", "x"]])
def test_bad_words_are_refused(words, capsys):
    with pytest.raises(SystemExit) as end:
        faults.main(words)
    assert end.value.code == 2
    assert words[-1] in capsys.readouterr().err


def test_a_cut_leaves_what_was_flushed_and_may_take_all_else():
    disk = Disk(
        names={"kept": 1, "torn": 2, "new": 3},
        flushed_names={"kept": 1, "torn": 2, "old": 4},
        contents={1: b"whole", 2: b"flushed and more", 3: b"new", 4: b"old"},
        flushed={1: b"whole", 2: b"flushed", 4: b"old"},
    )
    rng = random.Random(0)
    cuts = [disk.cut(rng) for _ in range(DRAWS)]
    assert all(files["kept"] == b"whole" for files in cuts)
    assert all(files["torn"].startswith(b"flushed") for files in cuts)
    assert {files.get("new") for files in cuts} >= {None, b"", b"new", b"\0\0\0"}
    assert {files.get("old") for files in cuts} == {None, b"old"}
    assert {len(files["torn"]) for files in cuts} == set(range(7, 17))


def test_a_flush_is_of_what_is_there_at_that_moment(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"one")
    disk = Disk()
    disk.look(tmp_path)
    for path in (file, tmp_path):
        descriptor = os.open(path, os.O_RDONLY)
        disk.flush(descriptor, tmp_path)
        os.close(descriptor)
    file.write_bytes(b"one two")
    (tmp_path / "other").touch()
    disk.look(tmp_path)
    number = file.stat().st_ino
    assert disk.flushed_names == {"file": number} and set(disk.names) == {"file", "other"}
    assert disk.flushed[number] == b"one" and disk.contents[number] == b"one two"


def test_every_command_that_writes_is_killed_and_every_reader_gets_hostile_files():
    serving = {"follow", "view"}
    showing = {"ls", "verify", "analyses", "sites"}
    assert {words[0] for words in fault_commands.WRITING.values()} == set(
        COMMANDS
    ) - serving - showing
    tried = {words[0] for words in fault_inputs.COMMANDS}
    assert tried >= set(COMMANDS) - serving - {"analyses", "sites", "data", "sweep"}


def test_hostile_inputs_differ_from_what_was_there(tmp_path):
    rng = random.Random(0)
    for name in ("config.json", "metrics.jsonl", "state.pt"):
        for _ in range(20):
            path = tmp_path / name
            path.unlink(missing_ok=True) if not path.is_dir() else path.rmdir()
            path.write_text('{"step": 1, "parts": [{"a": "b"}]}\n')
            before = path.read_bytes()
            what = fault_inputs.spoil(path, rng)
            assert what
            assert not path.is_file() or path.is_symlink() or path.read_bytes() != before


@pytest.mark.slow
def test_faults_in_files_and_a_check_switched_off(tmp_path, monkeypatch):
    """The harness can fail."""
    attempts = list(fault_files.try_files(60, 1, tmp_path / "files"))
    assert len({attempt.what for attempt in attempts}) == 60
    assert [attempt for attempt in attempts if attempt.problem] == []

    monkeypatch.setattr(fault_files, "CHECKS", {"home": fault_files.CHECKS["home"]})
    assert [attempt.problem for attempt in fault_files.try_checks(9, 1, tmp_path / "on")] == [""]
    nothing = ("toyvit.runs.verification.CIRCUITS", "figures/circuit*.json", "state.pt", "flip")
    monkeypatch.setattr(fault_files, "CHECKS", {"nothing": nothing})
    monkeypatch.setattr(fault_files, "TRIES", 3)
    (attempt,) = fault_files.try_checks(9, 1, tmp_path / "off")
    assert attempt.problem == "switched off, and nothing is silent"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["inputs", "kills", "cuts"])
def test_one_of_each_part(name, tmp_path):
    (attempt,) = faults.PARTS[name].run(1, 3, tmp_path / name)
    assert attempt.what and not attempt.problem


@pytest.mark.slow
def test_what_a_command_loses_is_counted(tmp_path, monkeypatch):
    """The harness can fail: a command that ends as it should and leaves something else."""
    run_words = fault_commands.run_words

    def lose(words, place, seconds):
        outcome = run_words(words, place, seconds)
        if words[0] == "verify":
            (place / "runs/new/manifest.jsonl").unlink(missing_ok=True)
        return outcome

    monkeypatch.setattr(fault_commands, "run_words", lose)
    (attempt,) = fault_commands.try_kills(1, 0, tmp_path)
    assert attempt.problem.startswith("does not verify")
