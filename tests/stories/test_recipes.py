"""Recipes do what their docstrings say, on the ones that take seconds."""

from dataclasses import replace

import pytest

from toyvit.cli.overrides import apply_overrides
from toyvit.measuring import measure
from toyvit.recipes import RECIPES
from toyvit.report.curves import name_score
from toyvit.report.summary import summarize
from toyvit.runs.handle import Run, load_baselines, load_table
from toyvit.train import fit


def last(path, analysis, quantity):
    frame = load_table(path)
    rows = frame[(frame["analysis"] == analysis) & (frame["quantity"] == quantity)]
    return rows[rows["step"] == rows["step"].max()]


def seldom(run):
    """The same training with two checkpoints."""
    return replace(run, train=replace(run.train, checkpoints=(0, run.train.steps)))


@pytest.mark.slow
def test_two_layers_find_the_label_and_one_layer_does_not(tmp_path):
    """The smoke recipe: accuracy, the head that makes it, and what is left without that head; its one-layer twin."""
    two = RECIPES["induction-smoke"]()
    for name, run in (("two", two), ("one", replace(two, model=replace(two.model, n_layers=1)))):
        fit(seldom(run), tmp_path / name, progress=False)
        measure(tmp_path / name, steps=[0, 500], images=256, progress=False)
    ceiling = load_baselines(tmp_path / "two")["accuracy.bag_of_labels"]
    assert last(tmp_path / "two", "performance", "accuracy")["value"].item() > 0.9
    assert last(tmp_path / "one", "performance", "accuracy")["value"].item() < ceiling + 0.1
    assert last(tmp_path / "two", "induction", "mass")["value"].max() > 0.8
    without = last(tmp_path / "two", "head_ablation", "accuracy").query(
        "ablation == 'zero' and layer == 1"
    )
    assert without["value"].max() < ceiling


@pytest.mark.slow
def test_a_factor_is_said_as_a_number(tmp_path):
    """A fifth of the recipe's steps say where a sprite is better than a linear probe of its pixels does."""
    fit(
        apply_overrides(RECIPES["regress"](), ["--train.steps", "200"]),
        tmp_path / "run",
        progress=False,
    )
    measure(tmp_path / "run", steps=[0, 200], analyses=["performance"], images=256, progress=False)
    naive = load_baselines(tmp_path / "run")
    assert abs(naive["accuracy.mean"]) < 1e-6
    assert (
        last(tmp_path / "run", "performance", "accuracy")["value"].item()
        > naive["accuracy.pixel_probe"] + 0.05
        > 0.8
    )
    assert (
        "final R^2 on 256 test pictures" in summarize(tmp_path / "run")
        and name_score(Run(tmp_path / "run")) == "R^2"
    )


@pytest.mark.slow
def test_digits_are_read(tmp_path):
    fit(seldom(RECIPES["digits"]()), tmp_path / "run", progress=False)
    measure(
        tmp_path / "run",
        steps=[0, 1000],
        analyses=["performance", "probes"],
        images=300,
        progress=False,
    )
    assert last(tmp_path / "run", "performance", "accuracy")["value"].item() > 0.9
    frame = load_table(tmp_path / "run").query(
        "analysis == 'probes' and quantity == 'accuracy' and group == 'cls' and layer == 2"
    )
    untrained, trained = frame.sort_values("step")["value"]
    assert trained > 0.85 > untrained
