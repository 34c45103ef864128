"""`verify` of a folder: every run below, the table of a sweep, the records of replications."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.stories.processes import SMALL, contents
from toyvit.__main__ import main
from toyvit.cli import sweep_tables
from toyvit.config.foreign_files import hash_file
from toyvit.measuring import measure
from toyvit.replications.record import Record, build_path, write_record
from toyvit.runs.disk import format_line
from toyvit.runs.handle import Run

SHORT = [*SMALL, "--train.steps", "2", "--analyses", "performance", "--images", "16", "--jobs", "1"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of two seeds, and two records of replications beside it."""
    place = tmp_path_factory.mktemp("place") / "runs"
    for name, seeds in (("all", "0,1"), ("other", "2,1")):
        words = ["sweep", "induction-smoke", "--runs", str(place), "--name", name, *SHORT]
        assert main([*words, "--seeds", seeds]) == 0
    for seed in (0, 1):
        record = Record(
            name="rank-one", version=1, seed=seed, minutes=0.5, numbers={"a": 1.5}, panels=[]
        )
        write_record(place / "replications", record)
    return place


@pytest.fixture
def place(swept, tmp_path):
    return Path(shutil.copytree(swept, tmp_path / "runs"))


def verify(capsys, *words: object) -> tuple[int, str, str]:
    """The exit code, what is printed, and the line of the failure."""
    capsys.readouterr()
    code = main(["verify", *map(str, words)])
    printed = capsys.readouterr()
    assert printed.err.count("\n") <= 1
    return code, printed.out, printed.err


def test_whole_folders_are_found_whole(place, capsys):
    assert verify(capsys, place / "all") == (
        0,
        f"{place}/all: 2 runs, 6 checkpoints, 1 table: all whole\n",
        "",
    )
    assert verify(capsys, place / "replications")[1] == (
        f"{place}/replications: 2 records: all whole\n"
    )
    code, out, error = verify(capsys, place)
    assert (code, error) == (0, "")
    assert out == f"{place}: 4 runs, 12 checkpoints, 2 tables, 2 records: all whole\n"
    assert verify(capsys, place / "all/seed-0")[1].endswith("all 3 checkpoints are whole\n")


def test_hashes_can_be_checked_by_others(place, capsys):
    code, out, _ = verify(capsys, place, "--hashes")
    files = [line.split("  ")[1] for line in out.splitlines()]
    assert code == 0 and len(files) == len(set(files))
    expected = {"all/sweep.csv", "all/sweep.json", "replications/rank-one-1.json"}
    assert expected <= set(files) and "all/seed-1/config.json" in files
    words = ["sha256sum", "--check", "--quiet"]
    done = subprocess.run(words, cwd=place, input=out, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout


FILES = (
    "all/sweep.csv",
    "all/sweep.json",
    "all/seed-1/metrics.jsonl",
    "all/seed-0/measures.sqlite",
    "replications/rank-one-0.json",
)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named(place, capsys, name):
    """Cut, and with one bit the other way: in a table of measures a bit may say nothing."""
    path = place / name
    content = path.read_bytes()
    middle = random.Random(name).randrange(len(content) // 4, len(content) // 2)
    flipped = bytearray(content)
    flipped[middle] ^= 1
    for damaged in (content[:middle], bytes(flipped))[: 1 if path.suffix == ".sqlite" else 2]:
        path.write_bytes(damaged)
        code, out, error = verify(capsys, place)
        assert code == 2 and error == f"toyvit: {place} has 1 bad file\n", out
        assert out.startswith(f"{path}") and out.count("\n") == 1


def test_a_damaged_record_is_named_with_the_command_that_makes_it_again(place, capsys):
    path = place / "replications/rank-one-0.json"
    path.write_text(path.read_text().replace("1.5", "2.5"))
    for folder in (place, place / "replications"):
        code, out, _ = verify(capsys, folder)
        assert code == 2
        command = f"toyvit replicate rank-one --seeds 0 --runs {place}"
        assert out == (
            f"{path} is not a record of a replication (is damaged: it is not what was written):"
            f" delete it, and `{command}` makes it again\n"
        )
    path.unlink()
    assert main(command.split()[1:]) == 0
    assert verify(capsys, place / "replications")[0] == 0


def edit_table(place):
    """A number of the table, with a digest that fits."""
    table = place / "all/sweep.csv"
    table.write_text(table.read_text().replace("finished", "diverged", 1))
    write_fact(place, "table", hash_file(table))


def swap_tables(place):
    for name in ("sweep.csv", "sweep.json"):
        shutil.copy(place / "other" / name, place / "all" / name)


def swap_alike(place):
    """Of a sweep of runs of the same names and other numbers."""
    swap_tables(place)
    shutil.copytree(place / "all/seed-0", place / "all/seed-2")


def measure_on_more(place):
    for seed in (0, 1):
        measure(place / f"all/seed-{seed}", analyses=["performance"], images=8, progress=False)
        (place / f"all/seed-{seed}/measures.sqlite").unlink()
        measure(place / f"all/seed-{seed}", analyses=["performance"], images=8, progress=False)


def write_fact(place, name, value):
    """In the record of the table, with a digest that fits."""
    record = json.loads((place / "all/sweep.json").read_text())
    record.pop("check")
    record[name] = value
    (place / "all/sweep.json").write_text(format_line(record))


MEANINGS = {
    "a number": (edit_table, "sweep.csv is not what its runs say now: the same `toyvit sweep`"),
    "of another sweep": (swap_tables, "sweep.csv cannot be compared with its runs"),
    "of another sweep, alike": (swap_alike, "sweep.csv is not what its runs say now"),
    "measured since": (measure_on_more, "sweep.csv is not what its runs say now"),
    "runs beside it": (
        lambda place: write_fact(place, "runs", ["../other/seed-1"]),
        "sweep.json names runs that are not in its folder",
    ),
    "runs elsewhere": (
        lambda place: write_fact(place, "runs", [str(place / "other/seed-1")]),
        "sweep.json names runs that are not in its folder",
    ),
    "no table": (lambda place: (place / "all/sweep.csv").unlink(), "sweep.csv is missing"),
    "a run without a config": (
        lambda place: (place / "all/seed-0/config.json").unlink(),
        "seed-0/config.json is missing",
    ),
    "a run that is gone": (
        lambda place: shutil.rmtree(place / "all/seed-1"),
        "sweep.csv cannot be compared with its runs",
    ),
}


@pytest.mark.parametrize("case", MEANINGS)
def test_valid_text_with_another_meaning_is_named(place, capsys, case):
    change, words = MEANINGS[case]
    change(place)
    code, out, _ = verify(capsys, place / "all")
    assert code == 2 and f"{place}/all/{words}" in out


def test_a_check_that_is_switched_off_finds_nothing(place, capsys, monkeypatch):
    """The test above can fail."""
    monkeypatch.setattr(sweep_tables, "_compare_with_runs", lambda *arguments: None)
    edit_table(place)
    assert verify(capsys, place / "all")[0] == 0


def test_a_table_is_compared_by_the_version_that_wrote_it(place, capsys):
    edit_table(place)
    write_fact(place, "version", "0.0")
    assert verify(capsys, place / "all")[0] == 0


def test_a_table_is_compared_where_runs_elsewhere_are_bad(place, capsys):
    edit_table(place)
    (place / "other/seed-1/config.json").write_text("{")
    code, out, _ = verify(capsys, place)
    assert code == 2 and "all/sweep.csv is not what its runs say now" in out


def test_a_table_of_an_earlier_version_is_taken_as_it_is_and_it_is_said(place, capsys, caplog):
    (place / "all/sweep.json").unlink()
    assert verify(capsys, place / "all")[0] == 0
    assert "sweep.csv has no digest, as of version 0.2 and before" in caplog.text


def test_a_bad_run_hides_no_other(place, capsys):
    (place / "all/seed-0/config.json").write_text("{")
    (place / "all/seed-1/states/step_00000002.pt").write_bytes(b"")
    code, out, _ = verify(capsys, place / "all")
    assert code == 2
    assert "seed-0/config.json is damaged" in out and "states/step_00000002.pt cannot be" in out


def test_what_holds_no_run_is_refused_and_foreign_files_are_left_alone(place, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/note-3.json").write_text("{}")
    assert verify(capsys, tmp_path / "empty")[2].startswith(
        f"toyvit: {tmp_path}/empty is not a run folder: it has no config.json"
    )
    (place / "notes-1.json").write_text("no JSON")
    assert verify(capsys, place)[0] == 0
    assert build_path(place, "notes", 1).name == "notes-1.json"  # called as a record is


def test_looking_writes_nothing(place, capsys):
    before = contents(place)
    verify(capsys, place)
    assert contents(place) == before and len(Run(place / "all/seed-0")) == 3
