"""A report says what it knows: which steps, of how many, on how many pictures, with which data."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from tests.report.planted import CHECKPOINTS, PERFORMANCE, plant, shrink, train, write_arrays
from toyvit.__main__ import main
from toyvit.config import TrainConfig
from toyvit.dynamics.latent import QUANTILES, Latent, read_scores
from toyvit.measuring import measure
from toyvit.report import FIGURES, recall_comparison, tensorboard
from toyvit.report.summary import _describe_change, summarize
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    return train(folder / "run", shrink(write_arrays(folder / "own.npz"))).path


@pytest.fixture
def run(trained, tmp_path) -> Run:
    return Run(shutil.copytree(trained, tmp_path / "run"))


ABLATED = [("accuracy", {"ablation": "zero", "layer": 0, "head": 0}, 0.1)]
LOSSES = [("loss", {"ablation": "zero", "layer": 0, "head": 0}, 3.0)]
PROBED = [("accuracy", {"factor": "class", "group": "cls", "layer": 0}, 0.9)]
INDUCED = [
    (name, {"layer": 0, "head": 0}, 0.25) for name in ("mass", "previous_cell", "prefix_matching")
]
CEILING = {"accuracy.bag_of_labels": 0.5}


def read_lines(run: Run, beside: Run | None = None) -> dict[str, str]:
    """The table that ends a report, by what it says."""
    return {line[:40].strip(): line[41:].strip() for line in summarize(run, beside).splitlines()}


def test_what_was_measured_to_the_end_is_final(run):
    plant(run, {"performance": PERFORMANCE, "head_ablation": ABLATED + LOSSES, "probes": PROBED})
    lines = read_lines(run)
    assert "state" not in lines and "last measured step" not in lines
    assert lines["final accuracy on 10 test pictures"] == "0.2500"
    assert lines["accuracy without layer 0, head 0"] == "0.100"
    assert lines["probe of class by layer, cls"] == "0.900"
    assert read_lines(run, run)["accuracy of run"] == "0.250"


def test_what_was_measured_to_an_earlier_step_says_which(run):
    rows = {"performance": PERFORMANCE, "head_ablation": ABLATED + LOSSES, "probes": PROBED}
    plant(run, rows, steps=[0, 2])
    lines = read_lines(run, run)
    assert lines["last measured step"] == "2 of 4" and "final" not in str(lines)
    assert lines["accuracy at step 2 on 10 test pictures"] == "0.2500"
    assert lines["accuracy without layer 0, head 0 at step"] == "2 0.100"
    assert lines["probe of class by layer, cls at step 2"] == "0.900"
    assert lines["accuracy of run at step 2"] == "0.250"


def test_an_analysis_that_ends_earlier_than_the_others_says_so(run):
    plant(run, {"performance": PERFORMANCE})
    plant(run, {"probes": PROBED}, steps=[2])
    plant(run, {"performance": PERFORMANCE}, steps=[0], split="train")
    lines = read_lines(run)
    assert lines["final accuracy on 10 test pictures"] == "0.2500"
    assert lines["accuracy at step 0 on 10 train pictures"] == "0.2500"
    assert lines["probe of class by layer, cls at step 2"] == "0.900"


def test_induction_measured_in_part(run):
    plant(run, {"performance": PERFORMANCE, "induction": INDUCED}, [2], baselines=CEILING)
    lines = read_lines(run)
    assert lines["accuracy at step 2"] == "0.250" and "final" not in str(lines)
    assert lines["induction mass (layer 0, head 0)"] == "0.250 at step 2"
    plant(run, {"performance": PERFORMANCE, "induction": INDUCED}, [0], baselines=CEILING)
    lines = read_lines(run)
    assert lines["previous-cell mass on label cells"] == "0.250 before, 0.250 at step 2"
    plant(run, {"performance": PERFORMANCE, "induction": INDUCED}, [4], baselines=CEILING)
    lines = read_lines(run)
    assert lines["final accuracy"] == "0.250"
    assert lines["previous-cell mass on label cells"] == "0.250 before, 0.250 after"


def test_induction_without_its_ceiling_is_reported_as_any_task(run):
    plant(run, {"performance": PERFORMANCE, "induction": INDUCED})
    assert "final accuracy on 10 test pictures" in read_lines(run)


def test_an_unfinished_run_says_how_far_it_is(run):
    folder = RunFolder(run.path)
    folder.truncate(2)
    run = Run(run.path)
    plant(run, {"performance": PERFORMANCE}, steps=[0, 2])
    lines = read_lines(run)
    assert lines["state"] == "stopped, last checkpoint at step 2 of 4"
    assert "accuracy at step 2 on 10 test pictures" in lines
    with folder.lock():
        assert read_lines(run)["state"].startswith("running, ")


def test_checkpoints_that_are_gone_were_not_measured(run, capsys):
    plant(run, {"performance": PERFORMANCE}, steps=[4])
    RunFolder(run.path).truncate(2)
    line = f"toyvit: {run.path} is not measured: run `toyvit measure {run.path}`\n"
    assert main(["report", str(run.path), "--no-page"]) == 2
    assert capsys.readouterr().err == line
    assert main(["report", str(run.path)]) == 0  # the page has what there is
    assert capsys.readouterr().err == line
    assert (run.path / "figures" / "page.html").is_file()


@pytest.fixture
def quick(monkeypatch):
    """One figure of curves, one of pictures."""
    few = {name: FIGURES[name] for name in ("learning", "cls_attention", "attention")}
    monkeypatch.setattr("toyvit.report.FIGURES", few)


def lose(file: Path) -> None:
    file.unlink()


def replace(file: Path) -> None:
    write_arrays(file, 101)


def garble(file: Path) -> None:
    file.write_bytes(b"PK")


@pytest.mark.parametrize("harm", [lose, replace, garble])
def test_without_the_pictures_the_rest_is_drawn(tmp_path, capsys, quick, caplog, harm):
    """A line for the figures that are left out, one for the page and one for TensorBoard."""
    file = write_arrays(tmp_path / "own.npz")
    run = train(tmp_path / "run", shrink(file))
    plant(run, {"performance": PERFORMANCE})
    harm(file)
    assert main(["report", str(run.path)]) == 0
    printed = capsys.readouterr().out
    assert "final accuracy" in printed and "learning.png" in printed
    written = sorted(path.name for path in (run.path / "figures").iterdir())
    assert written == ["learning.png", "page.html"]
    lines = [record.getMessage() for record in caplog.records[-3:]]
    starts = (
        "not drawn: 2 figures (cls_attention, attention): ",
        "not on the page: ",
        "no pictures for TensorBoard",
    )
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start) and str(file) in line and "\n" not in line


def test_curves_of_a_figure_are_drawn_without_what_needs_pictures(tmp_path, caplog):
    """The induction transition without its chance levels, updates without the maps of layers."""
    file = write_arrays(tmp_path / "own.npz")
    run = train(tmp_path / "run", shrink(file))
    plant(run, {"performance": PERFORMANCE, "induction": INDUCED}, baselines=CEILING)
    whole = FIGURES["updates"].draw(run, None)
    file.unlink()
    run = Run(run.path)
    assert len(FIGURES["phase_transition"].draw(run, None).panels()) == 4
    assert FIGURES["updates"].draw(run, None).panels()[0].title == whole.panels()[0].title
    assert len(whole.blocks) == 2 and len(FIGURES["updates"].draw(run, None).blocks) == 1
    assert "without chance levels" in caplog.text and "without its maps" in caplog.text


def test_where_nothing_can_be_drawn_the_command_fails(tmp_path, capsys, monkeypatch):
    file = write_arrays(tmp_path / "own.npz")
    run = train(tmp_path / "run", shrink(file))
    plant(run, {"performance": PERFORMANCE})
    file.unlink()
    monkeypatch.setattr("toyvit.report.FIGURES", {"cls_attention": FIGURES["cls_attention"]})
    assert main(["report", str(run.path), "--no-page"]) == 2
    assert "no figure of" in capsys.readouterr().err


@pytest.mark.slow
def test_the_smallest_data_set_is_reported(tmp_path, capsys, caplog):
    """Twenty pictures, two of which are for testing: all figures but that of probes."""
    config = shrink(write_arrays(tmp_path / "own.npz", 20))
    run = train(tmp_path / "run", config)
    measure(run, progress=False)
    assert main(["report", str(run.path), "--all"]) == 0
    printed = capsys.readouterr().out
    assert "test pictures                            2, too few for probes" in printed
    assert "probe of" not in printed and "nan" not in printed and "inf " not in printed
    drawn = {path.stem for path in (run.path / "figures").iterdir()}
    assert {"learning", "updates", "lens", "attention"} <= drawn and "probes" not in drawn
    assert "not drawn: 1 figure (probes): 2 test pictures are too few" in caplog.text
    assert "without its maps of layers: 2 test pictures are too few" in caplog.text


@pytest.fixture
def two(run) -> tuple[Run, Run]:
    """A run and its neighbour."""
    return run, Run(shutil.copytree(run.path, run.path.parent / "neighbour"))


def test_the_neighbour_is_remembered_by_its_name(two):
    run, neighbour = two
    assert recall_comparison(run, None) is None
    assert recall_comparison(run, neighbour).path == neighbour.path
    assert (run.path / "figures/beside").read_text() == "neighbour"
    assert recall_comparison(run, None).name == "neighbour"


def test_a_run_elsewhere_is_compared_once(two, tmp_path):
    run, neighbour = two
    elsewhere = Run(shutil.copytree(run.path, tmp_path / "deep/run"))
    assert recall_comparison(run, elsewhere) is elsewhere
    assert recall_comparison(run, neighbour, note=False) is neighbour
    assert not (run.path / "figures").exists()


@pytest.mark.parametrize(
    "note",
    [
        b"../../deep/run",
        b"deep/run",
        b"/TMP/deep/run",
        b"..",
        b"",
        b"linked",
        b"a\0b",
        b"\xff" * 999,
    ],
)
def test_a_note_leads_to_no_other_folder(two, tmp_path, note):
    run, _ = two
    elsewhere = shutil.copytree(run.path, tmp_path / "deep/run")
    (tmp_path / "linked").symlink_to(elsewhere)
    (run.path / "figures").mkdir()
    (run.path / "figures/beside").write_bytes(note.replace(b"/TMP", os.fsencode(tmp_path)))
    assert recall_comparison(run, None) is None


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_note_that_is_no_file_is_none(two, tmp_path, kind):
    run, _ = two
    note = run.path / "figures/beside"
    note.parent.mkdir()
    (tmp_path / "note").write_text("neighbour")
    if kind == "link":
        note.symlink_to(tmp_path / "note")
    elif kind == "pipe":
        os.mkfifo(note)
    else:
        note.mkdir()
    assert recall_comparison(run, None) is None


def test_a_lock_that_is_a_link_is_not_followed(run, tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard, "draw_pictures", lambda run: ())
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (run.path / "tensorboard").mkdir(exist_ok=True)
    lock = run.path / "tensorboard/lock"
    lock.unlink(missing_ok=True)
    lock.symlink_to(precious)
    with pytest.raises(OSError, match="symbolic"):
        tensorboard.write(run)
    assert precious.read_text() == "precious"


def test_planted_steps_are_those_of_the_run(run):
    assert tuple(run.steps) == CHECKPOINTS


def test_a_change_of_accuracy_alone_is_explained():
    """One slow margin behind both; a share of variance is not explained so."""
    steps = np.arange(0, 2001, 20)
    margin = Latent(onset=400, width=1.0, low=-2, high=6, spread=0.4)
    accuracy, loss = read_scores(margin, steps.astype(float), QUANTILES)
    curves = {"accuracy": pd.Series(accuracy, steps), "loss": pd.Series(loss, steps)}
    planted = SimpleNamespace(
        curve=lambda analysis, quantity: curves[quantity],
        config=SimpleNamespace(train=TrainConfig(steps=2000, warmup=0)),
        baselines={},
    )
    lines = dict(_describe_change(planted))
    assert lines["abrupt change in accuracy"].startswith("step 4")
    assert lines["accuracy against loss"].startswith("accuracy alone changes abruptly")
    planted.baselines = {"accuracy.mean": 0.0}
    assert list(dict(_describe_change(planted))) == ["abrupt change in R^2"]
