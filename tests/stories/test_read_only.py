"""A finished run that nobody may write to: looked at, drawn elsewhere; what must write says so."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.report.planted import shrink, train, write_arrays
from tests.stories.processes import SMALL, contents
from toyvit.__main__ import main
from toyvit.measuring import measure
from toyvit.replications.record import Record, write_record
from toyvit.report import FIGURES, tensorboard
from toyvit.runs.access import is_writable
from toyvit.runs.database import open_to_read
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run, load_table
from toyvit.runs.table_writer import MeasureTable

NOBODY = 65534  # a user without rights
PERFORMANCE = ["--analyses", "performance", "--images", "10"]


@contextmanager
def without_rights() -> Iterator[None]:
    """As a user who owns nothing; where the tests run as one, as that one."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@contextmanager
def open_place() -> Iterator[Path]:
    """A folder that everybody may write to, on a path that everybody may go."""
    folder = Path(tempfile.mkdtemp(prefix="toyvit-"))
    folder.chmod(0o777)
    try:
        yield folder
    finally:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def trained() -> Iterator[Path]:
    """A measured run of pictures that everybody may read."""
    with open_place() as folder:
        run = train(folder / "run", shrink(write_arrays(folder / "own.npz")))
        measure(run, analyses=["performance"], images=10, progress=False)
        yield run.path


@pytest.fixture
def place() -> Iterator[Path]:
    with open_place() as folder:
        yield folder


@pytest.fixture
def run(trained, place) -> Path:
    """A copy of it that cannot be written to, nor can the folder that it stands in."""
    shutil.copytree(trained, place / "runs" / "run")
    return freeze(place / "runs") / "run"


def freeze(folder: Path) -> Path:
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Two figures, no pictures in TensorBoard, no server."""
    few = {name: FIGURES[name] for name in ("learning", "cls_attention")}
    monkeypatch.setattr("toyvit.report.FIGURES", few)
    monkeypatch.setattr(tensorboard, "draw_pictures", lambda run: ())
    monkeypatch.setattr("toyvit.cli.viewing.subprocess.call", lambda words: 0)


@pytest.fixture(autouse=True)
def unchanged(run) -> Iterator[None]:
    """Whatever is done, the run's files stay, and no other comes."""
    before = contents(run)
    yield
    assert contents(run) == before


def ask(*words: object) -> int:
    """The exit code of a command of somebody without rights."""
    with without_rights():
        assert not is_writable(Path(str(words[1])))
        return main([str(word) for word in words])


def test_what_only_looks_works(run, place, capsys):
    assert ask("ls", run.parent) == 0
    assert "finished" in capsys.readouterr().out
    assert ask("verify", run) == 0 and ask("verify", run, "--hashes") == 0
    with without_rights():
        assert len(load_table(run)) == 6
        assert Run(run).status == "finished" and len(list(Run(run))) == 3
    assert ask("measure", run, *PERFORMANCE) == 0
    assert "measured 0 analyses of checkpoints, 3 were there" in capsys.readouterr().out


@pytest.mark.slow
def test_it_is_reported_elsewhere(run, place, capsys):
    assert ask("report", run, "--to", place / "out" / "here") == 0
    assert {path.name for path in (place / "out/here").iterdir()} == {
        "learning.png",
        "cls_attention.png",
        "page.html",
        "tensorboard",
    }
    assert len(list((place / "out/here/tensorboard").glob("events.*"))) == 1
    assert f"figure: {place}/out/here/learning.png" in capsys.readouterr().out
    assert ask("report", run, "--to", place / "out/here", "--beside", run) == 0


def test_tensorboard_is_shown_from_elsewhere(run, place, capsys):
    assert ask("tensorboard", run.parent) == 0
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{run} cannot be written to" in error and "--to" in error
    assert ask("tensorboard", run.parent, "--to", place / "board") == 0
    assert len(list((place / "board/run/tensorboard").glob("events.*"))) == 0
    assert len(list((place / "board/run").glob("events.*"))) == 1
    assert capsys.readouterr().err == ""


WRITING = {
    "report": (["report", "RUN"], "--to DIR"),
    "report to a folder of others": (["report", "RUN", "--to", "RUN/here"], "cannot be written to"),
    "other measures": (["measure", "RUN", "--analyses", "norms", "--images", "10"], "a copy"),
    "other pictures": (["measure", "RUN", "--analyses", "performance", "--images", "9"], "a copy"),
    "lens": (["lens", "RUN", "--images", "10"], "a copy"),
}


@pytest.mark.parametrize("case", WRITING)
def test_what_must_write_says_so_in_a_line(run, capsys, case):
    words, hint = WRITING[case]
    assert ask(*(word.replace("RUN", str(run)) for word in words)) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1 and printed.out == ""
    assert str(run) in printed.err and "cannot be written to" in printed.err and hint in printed.err


@pytest.fixture(scope="module")
def swept() -> Iterator[Path]:
    """A finished sweep and a record of a replication, in a folder that nobody may write to."""
    with open_place() as folder:
        assert main([*SWEEP, "--runs", str(folder)]) == 0
        record = Record(name="rank-one", version=1, seed=0, minutes=1.0, numbers={}, panels=[])
        write_record(folder / "replications", record)
        yield freeze(folder)


SWEEP = ["sweep", "induction-smoke", "--name", "all", "--seeds", "0", "--jobs", "1", *SMALL]
SWEEP += ["--train.steps", "2", "--analyses", "performance", "--images", "16"]
OF_SEVERAL = {
    "ls": (["ls", "PLACE"], 0, ""),
    "verify": (["verify", "PLACE"], 0, ""),
    "done": (["replicate", "rank-one", "--runs", "PLACE"], 0, ""),
    "another": (
        ["replicate", "rank-one", "--seeds", "1", "--runs", "PLACE"],
        2,
        "PLACE/replications/rank-one-1.json: Permission denied",
    ),
    "the table": ([*SWEEP, "--runs", "PLACE"], 2, "PLACE/all/sweep.csv: Permission denied"),
    "a new sweep": (
        [*SWEEP, "--name", "new", "--runs", "PLACE"],
        2,
        "PLACE/new/seed-0 cannot be made: Permission denied",
    ),
}


@pytest.mark.parametrize("case", OF_SEVERAL)
def test_sweeps_and_replications_are_looked_at_or_refused_in_a_line(swept, capsys, case):
    words, code, says = OF_SEVERAL[case]
    with without_rights():
        assert main([word.replace("PLACE", str(swept)) for word in words]) == code
    error = capsys.readouterr().err
    assert error == (f"toyvit: {says}\n".replace("PLACE", str(swept)) if says else "")


def test_without_a_table_there_is_nothing_to_look_up(run, capsys):
    folder = RunFolder(run)
    run.chmod(0o755)
    table = folder.measures.read_bytes()
    folder.measures.unlink()
    run.chmod(0o555)
    assert ask("report", run, "--no-page", "--to", run.parent.parent / "out") == 2
    assert "is not measured" in capsys.readouterr().err
    assert ask("measure", run, *PERFORMANCE) == 2
    assert capsys.readouterr().err.count("\n") == 1
    folder.measures.write_bytes(table)


def test_the_log_of_a_killed_writer_is_read_or_said(trained, place, run, capsys):
    """A cell that stands only in SQLite's log beside the table."""
    other = Path(shutil.copytree(trained, place / "other"))
    with MeasureTable(RunFolder(other)) as table:
        table.write_baselines("digest", {"accuracy.late": 0.5})
        copy = place / "runs-of-the-killed" / "run"
        shutil.copytree(other, copy)
    assert (copy / "measures.sqlite-wal").stat().st_size > 0
    freeze(copy.parent)
    before = contents(copy)
    with without_rights(), open_to_read(copy / "measures.sqlite") as db:
        query = "select count(*) from baselines where name = 'accuracy.late'"
        assert db.execute(query).fetchone() == (1,)
    assert contents(copy) == before
