"""A run under clamps keeps its bits, and what is measured is the model as it was trained.

Whether it was stopped or replayed.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import torch

from tests.stories.processes import contents
from tests.stories.test_resume import break_after, check_same_bits
from toyvit.__main__ import main
from toyvit.data.task import accuracy, build_task
from toyvit.dynamics.transitions import find_first_step
from toyvit.errors import BadInput
from toyvit.measuring import evaluation_id, measure
from toyvit.model.forward import trace
from toyvit.recipes import RECIPES
from toyvit.report import FIGURES, draw
from toyvit.report.summary import summarize
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run
from toyvit.train import fit, replay

ALL = ("0.0:previous", "0.1:copy@7", "1.0:match@12", "1.1:uniform@20")


def small(
    clamps: tuple[str, ...] = ALL,
    dropout: float = 0.1,
    recipe: str = "induction-smoke",
    **training: object,
):
    config = RECIPES[recipe]()
    short = {"steps": 40, "batch_size": 8, "n_validation": 16, "clamps": clamps}
    train = replace(config.train, **short | training)
    return replace(config, train=train, model=replace(config.model, dropout=dropout, n_heads=2))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A clamped run with every checkpoint, left alone."""
    return fit(small(), tmp_path_factory.mktemp("whole") / "run", progress=False)


@pytest.mark.slow
@pytest.mark.parametrize("at", [5, 12, 30])
def test_a_clamped_run_that_was_stopped_ends_with_the_same_bits(whole, tmp_path, monkeypatch, at):
    """Before, at and after the steps at which clamps begin."""
    break_after(at, small(), tmp_path / "run", monkeypatch)
    fit(small(), tmp_path / "run", resume=True, progress=False)
    check_same_bits(whole.path, tmp_path / "run")


@pytest.mark.slow
def test_a_clamped_stretch_is_replayed_with_the_same_bits(whole, tmp_path):
    sparse = fit(small(checkpoints=(0, 11)), tmp_path / "sparse", progress=False)
    assert replay(sparse.path, 6, 13, progress=False) == [6, 7, 8, 9, 10, 12, 13]
    files = contents(sparse.path, "checkpoints/*")
    assert files.items() <= contents(whole.path, "checkpoints/*").items()


def test_the_run_says_its_clamps_and_another_is_refused(tmp_path):
    path = tmp_path / "run"
    folder = fit(small(("0.0:previous@0",), steps=2), path, progress=False)
    assert folder.read_config().train.clamps == ("0.0:previous",)
    assert '"0.0:previous"' in folder.config_file.read_text()
    fit(small(("0.0:previous",), steps=2), path, resume=True, progress=False)
    with pytest.raises(BadInput, match=r"train.clamps: \['0.0:previous'\] -> \[\]"):
        fit(small((), steps=2), path, resume=True, progress=False)


@pytest.mark.slow
def test_it_is_measured_as_it_was_trained(tmp_path, capsys):
    """The table, the manifest's score and the clamps agree at every step.

    Checkpoints hold the bare model.
    """
    config = small(("1:match@20",), dropout=0.0, learning_rate=1e-2)
    path = fit(config, tmp_path / "run", progress=False).path
    words = ["--images", "16", "--split", "validation", "--steps", "0,19,20,40"]
    assert main(["measure", str(path), *words]) == 0
    output = capsys.readouterr().out
    assert "clamps in force from their steps on, as in training: 1:match@20" in output

    run = Run(path)
    for quantity in ("loss", "accuracy"):
        curve = run.curve("performance", quantity, split="validation")
        assert list(curve.index) == [0, 19, 20, 40]
        scores = {step: getattr(run.entries[step], quantity) for step in curve.index}
        assert curve.to_dict() == pytest.approx(scores, abs=1e-6)
    mass = run.curve("induction", "mass", how="min", split="validation", layer=1)
    assert (mass[[20, 40]] == 1).all()
    assert (mass[[0, 19]] < 0.5).all()

    batch = run.batch("validation", 16)
    cache = trace(run.bare_model(40), batch.images, ["blocks.1.attn.pattern", "logits"])
    strongest = cache["blocks.1.attn.pattern"].amax(-1)
    assert not torch.allclose(strongest, torch.ones(()), atol=1e-3)
    assert accuracy(cache["logits"], batch.target).item() != run.entries[40].accuracy


def test_clamped_and_free_measures_are_different_cells(tmp_path):
    """The same weights measured under other clamps are measured anew."""
    config = fit(small((), steps=2), tmp_path / "run", progress=False).read_config()
    batch = build_task(config.task).eval_batch("test", 16, 0)
    clamped = replace(config, train=replace(config.train, clamps=("0:frozen",)))
    longer = replace(config, train=replace(config.train, steps=3))
    assert evaluation_id(config, "test", batch) != evaluation_id(clamped, "test", batch)
    assert evaluation_id(config, "test", batch) == evaluation_id(longer, "test", batch)


@pytest.mark.slow
def test_pictures_without_a_match_cannot_be_measured_under_it(tmp_path):
    config = small(("1.0:match",), recipe="fewshot", steps=2)
    path = fit(config, tmp_path / "run", progress=False).path
    with pytest.raises(BadInput, match=r"'match'.*another --split"):
        measure(path, images=16, split="in_weights", progress=False)
    assert not RunFolder(path).measures.exists()

    which = {"split": "in_context", "analyses": ["performance"], "steps": [2]}
    report = measure(path, images=16, progress=False, **which)
    assert report.computed == 1
    assert report.clamps == ("1.0:match",)


@pytest.mark.slow
def test_its_figures_show_the_held_patterns(tmp_path, monkeypatch):
    path = fit(small(("1.0:match",), steps=4), tmp_path / "run", progress=False).path
    measure(path, images=16, analyses=["performance", "induction"], progress=False)
    line = summarize(path).splitlines()[0]
    assert " ".join(line.split()) == "clamps, in training and in these measures 1.0:match"
    few = {name: FIGURES[name] for name in ("query_attention", "attention")}
    monkeypatch.setattr("toyvit.report.FIGURES", few)
    assert [figure.file.name for figure in draw(path)] == [f"{name}.png" for name in few]

    run = Run(path)
    batch = run.batch("test", 3)
    pattern = trace(run.model(4, batch), batch.images)["blocks.1.attn.pattern"]
    matched = pattern[torch.arange(3), 0, batch.retrieval.query, batch.retrieval.target]
    assert (matched == 1).all()


@pytest.mark.slow
def test_the_nearer_to_the_answer_the_clamp_the_sooner_it_is_learned(tmp_path):
    """Steps to half of the bag of labels' loss (0.27 nats): as Singh 2024 reports.

    No clamp > previous cell > match.
    """
    config = RECIPES["two-pairs"]()
    steps = {}
    for clamp, last in {"none": 320, "0.0:previous": 220, "1.0:match": 160}.items():
        clamps = () if clamp == "none" else (clamp,)
        checkpoints = tuple(range(0, last + 1, 20))
        short = {"steps": last, "checkpoints": checkpoints, "n_validation": 256}
        train = replace(config.train, clamps=clamps, **short)
        folder = fit(replace(config, train=train), tmp_path / clamp, progress=False)
        losses = pd.Series({entry.step: entry.loss for entry in folder.read_manifest()})
        steps[clamp] = find_first_step(losses < 0.27)
    assert steps["none"] >= steps["0.0:previous"] + 40 >= steps["1.0:match"] + 80
