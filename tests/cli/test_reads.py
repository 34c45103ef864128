"""A run is opened once in a command: its config, its manifest and its table of measures are read
one time each.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.stories.processes import SMALL, train_here
from toyvit.cli.main import main
from toyvit.measuring import measure
from toyvit.report import FIGURES
from toyvit.runs import table
from toyvit.runs.manifest import name_state

BOOKS = ("config.json", "manifest.jsonl")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A measured run of 20 steps."""
    path = tmp_path_factory.mktemp("original") / "run"
    train_here(path, "--train.steps", 20, "--train.checkpoints", "10", "--seeds.init", 1)
    analyses = ["performance", "induction", "attention", "heads"]
    measure(path, images=16, analyses=analyses, progress=False)
    return path


@pytest.fixture
def run(original, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(original, tmp_path / "runs" / "run")


@pytest.fixture
def reads(monkeypatch):
    """How often each book of a run was read, by the run's folder and the file."""
    counts = Counter()
    open_file = Path.open

    def count(path, mode="r", *args, **kwargs):
        if path.name in BOOKS and mode.startswith("r"):
            counts[str(path.parent), path.name] += 1
        return open_file(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", count)
    return counts


@pytest.fixture
def tables(monkeypatch):
    """How often numbers of a table of measures were read to be shown, by the run's name: all of
    them, or of some analyses, whose names follow.
    """
    counts = Counter()
    for name in ("read_contents", "read_part"):
        read = getattr(table, name)

        def count(db, run, *analyses, read=read):
            _, _, file = db.execute("pragma database_list").fetchone()
            counts[" ".join([Path(file).parent.name, *sum(analyses, ())])] += 1
            return read(db, run, *analyses)

        monkeypatch.setattr(table, name, count)
    return counts


def once(*folders):
    """What `reads` is when each book of these runs was read one time."""
    return {(str(folder), name): 1 for folder in folders for name in BOOKS}


# What is typed, by a name for the case.
COMMANDS = {
    "measure": "measure runs/run --images 16 --analyses performance,norms",
    "measure the last": "measure runs/run --images 16 --analyses norms --steps last",
    "lens": "lens runs/run --images 8",
    "verify": "verify runs/run",
    "ls": "ls runs",
    "replay": "replay runs/run --between 4 6",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_reads_a_run_once(run, reads, name):
    assert main(COMMANDS[name].split()) == 0
    assert reads == once(run.relative_to(Path.cwd()))


@pytest.mark.slow
def test_finding_a_circuit_reads_a_run_once(run, reads, as_placed):
    words = "circuit runs/run --pairs 8 --null 0 --method acdc --threshold 0 --metric kl"
    assert main(words.split()) == 0
    assert reads == once("runs/run")


@pytest.mark.parametrize("stopped", [True, False])
def test_going_on_with_a_run_reads_it_once(run, reads, stopped):
    """One that was stopped halfway, and one that is finished: its manifest is not needed."""
    if stopped:
        shutil.copy(run / "states" / name_state(10), run / "state.pt")
        (run / "states" / name_state(20)).unlink()
    steps = ["--train.steps", "20", "--train.checkpoints", "10"]
    words = ["train", "induction-smoke", *SMALL, *steps, "--seeds.init", "1"]
    assert main([*words, "--name", "run", "--resume"]) == 0
    expected = once("runs/run")
    if not stopped:
        expected.pop(("runs/run", "manifest.jsonl"))
    assert reads == expected


def test_a_new_run_is_not_read_back(tmp_path, monkeypatch, reads):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "induction-smoke", *SMALL, "--train.steps", "4"]) == 0
    assert reads == {}


@pytest.mark.slow
def test_measuring_several_runs_reads_each_once(run, original, reads):
    assert main(["measure", "runs/run", str(original), "--images", "16"]) == 0
    assert reads == once("runs/run", original)


@pytest.mark.slow
def test_a_report_reads_both_runs_once(run, original, reads, tables, monkeypatch, as_placed):
    """The second run, which stands beside it, is the one of the last report where none is named."""
    other = shutil.copytree(original, run.parent / "other")
    assert main(["report", "runs/run", "--beside", str(other)]) == 0
    assert reads == once("runs/run", other)
    assert tables == {"run": 1, "other": 1}

    reads.clear()
    tables.clear()
    headline = {"phase_transition": FIGURES["phase_transition"]}
    monkeypatch.setattr("toyvit.report.FIGURES", headline)
    monkeypatch.setattr("toyvit.report.tensorboard.draw_pictures", lambda run: ())
    assert main(["report", "runs/run"]) == 0
    assert sorted(reads.values()) == [1, 1, 1, 1]
    assert tables == {"run": 1, "other": 1}


@pytest.mark.slow
def test_tensorboard_reads_each_run_once(run, original, reads, tables, monkeypatch, as_placed):
    shutil.copytree(original, run.parent / "more" / "other")
    monkeypatch.setattr(subprocess, "call", lambda words: 0)
    assert main(["tensorboard", "runs"]) == 0
    assert reads == once("runs/run", "runs/more/other")
    assert tables == {"run": 1, "other": 1}


@pytest.mark.slow
def test_a_sweep_that_is_done_reads_each_run_once(tmp_path, monkeypatch, reads, tables, as_placed):
    monkeypatch.chdir(tmp_path)
    words = ["sweep", "induction-smoke", *SMALL, "--train.steps", "4", "--images", "16"]
    words += ["--seeds", "0,1", "--jobs", "1", "--analyses", "performance"]
    assert main(words) == 0
    reads.clear()
    tables.clear()
    assert main(words) == 0
    assert reads == once("runs/induction-smoke/seed-0", "runs/induction-smoke/seed-1")
    parts = ("performance", "induction")
    assert tables == {f"seed-{n} {part}": 1 for n in (0, 1) for part in parts}
