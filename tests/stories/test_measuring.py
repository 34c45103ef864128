"""Measuring is done once a cell, however it is interrupted, repeated or shared among workers."""

import shutil
from collections import Counter
from dataclasses import replace

import pandas as pd
import pytest

from tests.analyses.planted import iterate_less
from tests.stories.processes import finish, kill, toyvit, train, train_here, wait_for
from toyvit.__main__ import main
from toyvit.analyses import ANALYSES, behaviour
from toyvit.analyses.llc import LlcConfig
from toyvit.measuring import measure
from toyvit.recipes import RECIPES
from toyvit.runs.cells import Cell
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import load_table
from toyvit.runs.table_writer import MeasureTable
from toyvit.train import fit


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that was never measured."""
    config = RECIPES["induction-smoke"]()
    training = replace(config.train, steps=30, batch_size=8, n_validation=16, checkpoints=(10, 20))
    path = tmp_path_factory.mktemp("trained") / "run"
    return fit(replace(config, train=training), path, progress=False).path


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def counted(monkeypatch, fails_at=None):
    """Calls of the analysis `performance` by the loss it found.

    The call number `fails_at` raises.
    """
    calls = []

    def count(model, batch, trace):
        calls.append(1)
        if len(calls) == fails_at:
            raise RuntimeError("interrupted")
        return behaviour.measure_performance(model, batch, trace)

    monkeypatch.setitem(ANALYSES, "performance", replace(ANALYSES["performance"], measure=count))
    return calls


@pytest.mark.slow
def test_interrupted_and_repeated(run, monkeypatch):
    calls = counted(monkeypatch, fails_at=3)
    with pytest.raises(RuntimeError, match="interrupted"):
        measure(run, images=16, progress=False)
    assert set(load_table(run)["step"]) == {0, 10}
    second = measure(run, images=16, progress=False)
    assert (
        len(calls) == 3 + 2 and second.computed == 2 * second.done / 2
    )  # two steps were done, two were left
    third = measure(run, images=16, progress=False)
    assert third.computed == 0 and third.done == second.done + second.computed and len(calls) == 5


@pytest.mark.slow
def test_another_evaluation_batch_is_another_cell(run):
    first = measure(run, images=16, progress=False)
    assert measure(run, images=24, progress=False).computed == first.computed
    assert set(load_table(run)["images"]) == {16, 24}


def plain(path):
    frame = (
        load_table(path)
        .drop(columns="run")
        .sort_values(["step", "analysis", "quantity", "value"], ignore_index=True)
    )
    return frame[sorted(frame.columns)]


@pytest.mark.slow
def test_checkpoints_at_which_a_sampler_diverged_are_named_and_have_no_number(
    run, monkeypatch, capsys
):
    words = [
        "measure",
        str(run),
        "--analyses",
        "performance,llc",
        "--images",
        "8",
        "--split",
        "train",
    ]
    iterate_less(monkeypatch)
    monkeypatch.setattr(
        "toyvit.analyses.llc.DEFAULT",
        LlcConfig(step_size=1e-9, localisation=1e6, draws=4, burn_in=2),
    )
    assert main([*words, "--steps", "0"]) == 0
    printed = capsys.readouterr().out
    place = "where its value is that of the settings (docs/llc.md): step 0\n"
    assert "diverged" not in printed and f"llc is not local at 1 checkpoint {place}" in printed
    monkeypatch.setattr("toyvit.analyses.llc.DEFAULT", LlcConfig(step_size=1e6, draws=4, burn_in=2))
    assert main([*words, "--steps", "30"]) == 0
    assert (
        "llc diverged at 1 checkpoint and has no number there: step 30\n" in capsys.readouterr().out
    )
    assert main(words) == 0  # the same again for what is done already
    printed = capsys.readouterr().out
    line = "llc diverged at 3 checkpoints and has no number there: steps 10, 20, 30\n"
    assert printed.count(line) == 1 and printed.count("is not local at 1 checkpoint") == 1
    assert main([*words, "--steps", "0"]) == 0
    assert "diverged" not in capsys.readouterr().out
    found = load_table(run).query("quantity == 'llc'")
    assert list(found["step"]) == [0]


@pytest.mark.slow
def test_workers_and_single_analyses_find_the_same_numbers(run, tmp_path):
    """One traced forward pass for all analyses = one each; two workers = one."""
    copies = [shutil.copytree(run, tmp_path / name) for name in ("alone", "jobs")]
    measure(run, images=32, progress=False)
    measure(copies[1], images=32, jobs=2, progress=False)
    for name in sorted(set(load_table(run)["analysis"])):
        measure(copies[0], analyses=[name], images=32, progress=False)
    for copy in copies:
        pd.testing.assert_frame_equal(
            plain(copy), plain(run), check_exact=copy.name == "jobs", rtol=1e-6, atol=1e-7
        )


@pytest.mark.slow
def test_rows_of_checkpoints_that_are_no_more_are_left_out(run):
    measure(run, images=16, progress=False)
    folder = RunFolder(run)
    folder.truncate(10)
    assert set(load_table(run)["step"]) == {0, 10}


@pytest.mark.slow
def test_killed_while_two_workers_measure(tmp_path):
    train_here(tmp_path / "run", "--train.steps", 60)
    analyses = ["performance", "probes", "head_ablation"]
    process = toyvit(
        "measure", tmp_path / "run", "--jobs", 2, "--images", 64, "--analyses", ",".join(analyses)
    )
    wait_for((tmp_path / "run/measures.sqlite").exists, process)
    wait_for(lambda: n_cells(tmp_path / "run") > 3, process)
    kill(process)
    done = n_cells(tmp_path / "run")
    rest = measure(tmp_path / "run", images=64, analyses=analyses, progress=False)
    assert 0 < rest.done == done and done + rest.computed == n_cells(tmp_path / "run") == 61 * len(
        analyses
    )
    assert (
        max(
            Counter(
                zip(
                    *(load_table(tmp_path / "run")[column] for column in ("step", "analysis")),
                    strict=True,
                )
            ).values()
        )
        < 100
    )


def n_cells(path):
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(path / "measures.sqlite", timeout=60)) as db:
        tables = db.execute("select count(*) from sqlite_master where name = 'cells'").fetchone()[0]
        return db.execute("select count(*) from cells").fetchone()[0] if tables else 0


@pytest.mark.slow
def test_following_a_run_in_training_ends_with_it(tmp_path):
    training = train(tmp_path / "run", "--train.steps", 300)
    wait_for(lambda: RunFolder(tmp_path / "run").manifest.exists(), training)
    following = toyvit(
        "measure", tmp_path / "run", "--follow", "--images", 16, "--analyses", "performance"
    )
    assert finish(training)[0] == 0 and finish(following)[0] == 0
    assert set(load_table(tmp_path / "run")["step"]) == {
        entry.step for entry in RunFolder(tmp_path / "run").read_manifest()
    }


def test_a_cell_that_another_process_wrote_meanwhile_stays_as_it_is(run):
    """Two sweeps of one run both find a cell missing.

    The first to finish writes it, the second changes nothing.
    """
    cell = Cell(10, "sha", "norms", 1, "digest")
    with MeasureTable(RunFolder(run)) as one, MeasureTable(RunFolder(run)) as other:
        one.write(cell, "test", 16, [("weight_total", {}, 1.0)])
        other.write(cell, "test", 16, [("weight_total", {}, 2.0)])
        assert cell in one.list_done() and cell in other.list_done()
        numbers = other.db.execute(
            "select value from numbers join cells on cells.id = numbers.cell where sha256 = 'sha'"
        ).fetchall()
    assert numbers == [(1.0,)]
