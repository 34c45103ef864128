"""A run under clamps: stopped and replayed it keeps its bits, and what is measured is the model as it was trained."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import pytest
import torch

from tests.stories.processes import contents
from tests.stories.test_resume import same_bits
from toyvit.__main__ import main
from toyvit.data.tasks import accuracy, build_task
from toyvit.errors import BadInput
from toyvit.measuring import measure
from toyvit.model.forward import trace
from toyvit.recipes import RECIPES
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run, load_table
from toyvit.train import fit, replay
from toyvit.train.datamodule import BatchStream

ALL = ("0.0:previous", "0.1:copy@7", "1.0:match@12", "1.1:uniform@20")


def small(
    clamps: tuple[str, ...] = ALL,
    dropout: float = 0.1,
    recipe: str = "induction-smoke",
    **training: object,
):
    run = RECIPES[recipe]()
    train = replace(
        run.train,
        **{"steps": 40, "batch_size": 8, "n_validation": 16, "clamps": clamps, **training},
    )
    return replace(run, train=train, model=replace(run.model, dropout=dropout, n_heads=2))


@pytest.mark.slow
@pytest.mark.parametrize("at", [5, 12, 30])
def test_a_clamped_run_that_was_stopped_ends_with_the_same_bits(tmp_path, monkeypatch, at):
    """Before, at and after the steps at which clamps begin."""
    whole, batches = fit(small(), tmp_path / "whole", progress=False), BatchStream.__iter__

    def breaks(self):
        yield from islice(batches(self), at)
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(BatchStream, "__iter__", breaks)
        with pytest.raises(RuntimeError, match="broken"):
            fit(small(), tmp_path / "run", progress=False)
    fit(small(), tmp_path / "run", resume=True, progress=False)
    same_bits(whole.path, tmp_path / "run")


def test_a_clamped_stretch_is_replayed_with_the_same_bits(tmp_path):
    dense = fit(small(), tmp_path / "dense", progress=False)
    sparse = fit(small(checkpoints=(0, 11)), tmp_path / "sparse", progress=False)
    assert replay(sparse.path, 6, 13, progress=False) == [6, 7, 8, 9, 10, 12, 13]
    assert (
        contents(sparse.path, "checkpoints/*").items()
        <= contents(dense.path, "checkpoints/*").items()
    )


def test_the_run_says_its_clamps_and_another_is_refused(tmp_path):
    folder = fit(small(("0.0:previous@0",), steps=2), tmp_path / "run", progress=False)
    assert (
        folder.read_config().train.clamps == ("0.0:previous",)
        and '"0.0:previous"' in folder.config_file.read_text()
    )
    assert (
        fit(small(("0.0:previous",), steps=2), folder.path, resume=True, progress=False).path
        == folder.path
    )
    with pytest.raises(BadInput, match=r"train.clamps: \['0.0:previous'\] -> \[\]"):
        fit(small((), steps=2), folder.path, resume=True, progress=False)


def test_it_is_measured_as_it_was_trained(tmp_path, capsys):
    """The table, the manifest's score and the clamps agree at every step; checkpoints hold the bare model."""
    clamps = ("1:match@20",)
    folder = fit(small(clamps, dropout=0.0, learning_rate=1e-2), tmp_path / "run", progress=False)
    run, entries = folder.read_config(), {entry.step: entry for entry in folder.read_manifest()}
    batch = build_task(run.task).eval_batch("validation", 16, run.seeds.measure)
    assert (
        main(
            [
                "measure",
                str(folder.path),
                "--images",
                "16",
                "--split",
                "validation",
                "--steps",
                "0,19,20,40",
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "clamps in force from their steps on, as in training: 1:match@20" in said
    frame = load_table(folder.path)
    for quantity in ("loss", "accuracy"):
        found = frame[
            (frame["analysis"] == "performance") & (frame["quantity"] == quantity)
        ].set_index("step")["value"]
        assert found.to_dict() == pytest.approx(
            {step: getattr(entries[step], quantity) for step in found.index}, abs=1e-6
        )
    mass = (
        frame[(frame["quantity"] == "mass") & (frame["layer"] == 1)].groupby("step")["value"].min()
    )
    assert (mass[[20, 40]] == 1).all() and (mass[[0, 19]] < 0.5).all()
    bare = Run(folder.path).bare_model(40)
    seen = trace(bare, batch.images, ["blocks.1.attn.pattern", "logits"])
    assert not torch.allclose(seen["blocks.1.attn.pattern"].amax(-1), torch.ones(()), atol=1e-3)
    assert accuracy(seen["logits"], batch.target).item() != entries[40].accuracy


def test_clamped_and_free_measures_are_different_cells(tmp_path):
    """The same weights measured under other clamps are measured anew."""
    from toyvit.measuring import evaluation_id

    run = fit(small((), steps=2), tmp_path / "run", progress=False).read_config()
    batch = build_task(run.task).eval_batch("test", 16, 0)
    other = replace(run, train=replace(run.train, clamps=("0:frozen",)))
    assert evaluation_id(run, "test", batch) != evaluation_id(other, "test", batch)
    assert evaluation_id(run, "test", batch) == evaluation_id(
        replace(run, train=replace(run.train, steps=3)), "test", batch
    )


def test_pictures_without_a_match_cannot_be_measured_under_it(tmp_path):
    folder = fit(small(("1.0:match",), recipe="fewshot", steps=2), tmp_path / "run", progress=False)
    with pytest.raises(BadInput, match=r"'match'.*another --split"):
        measure(folder.path, images=16, split="in_weights", progress=False)
    assert not RunFolder(folder.path).measures.exists()
    done = measure(
        folder.path,
        images=16,
        split="in_context",
        analyses=["performance"],
        steps=[2],
        progress=False,
    )
    assert done.computed == 1 and done.clamps == ("1.0:match",)


@pytest.mark.slow
def test_its_figures_show_the_held_patterns(tmp_path):
    from toyvit.report import draw
    from toyvit.report.summary import summarize

    folder = fit(small(("1.0:match",), steps=4), tmp_path / "run", progress=False)
    measure(folder.path, images=16, analyses=["performance", "induction"], progress=False)
    assert summarize(folder.path).splitlines()[0].split() == [
        "clamps,",
        "in",
        "training",
        "and",
        "in",
        "these",
        "measures",
        "1.0:match",
    ]
    names = {figure.file.name for figure in draw(folder.path)}
    assert names >= {"query_attention.png", "attention.png"}
    run = Run(folder.path)
    batch = build_task(run.config.task).eval_batch("test", 3, 0)
    pattern = trace(run.model(4, batch), batch.images)["blocks.1.attn.pattern"]
    assert (pattern[torch.arange(3), 0, batch.retrieval.query, batch.retrieval.target] == 1).all()


@pytest.mark.slow
def test_the_nearer_to_the_answer_the_clamp_the_sooner_it_is_learned(tmp_path):
    """Steps to half of the bag of labels' loss (0.27 nats): no clamp > previous cell > match, as Singh 2024 reports."""
    run, steps = RECIPES["two-pairs"](), {}
    for clamp in ("none", "0.0:previous", "1.0:match"):
        clamps = () if clamp == "none" else (clamp,)
        train = replace(
            run.train,
            steps=320,
            clamps=clamps,
            checkpoints=tuple(range(0, 321, 20)),
            n_validation=256,
        )
        entries = fit(replace(run, train=train), tmp_path / clamp, progress=False).read_manifest()
        steps[clamp] = next(entry.step for entry in entries if entry.loss < 0.27)
    assert steps["none"] >= steps["0.0:previous"] + 40 >= steps["1.0:match"] + 80
