"""Recipes do what their docstrings say, on the ones that take seconds."""

from dataclasses import replace

import pytest

from toyvit.config.overrides import apply_overrides
from toyvit.measuring import measure
from toyvit.recipes import RECIPES
from toyvit.report.curves import name_score
from toyvit.report.summary import summarize
from toyvit.runs.handle import Run
from toyvit.train import fit


def train_and_measure(config, path, images, analyses):
    """A run with two checkpoints, measured at both."""
    ends = (0, config.train.steps)
    fit(replace(config, train=replace(config.train, checkpoints=ends)), path, progress=False)
    measure(path, steps=list(ends), analyses=analyses, images=images, progress=False)
    return Run(path)


@pytest.mark.slow
def test_two_layers_find_the_label_and_one_layer_does_not(tmp_path):
    """The smoke recipe and its one-layer twin: accuracy, and the head that makes it.

    And what is left without that head.
    """
    config = RECIPES["induction-smoke"]()
    shallow = replace(config, model=replace(config.model, n_layers=1))
    analyses = ["performance", "induction", "head_ablation"]
    two = train_and_measure(config, tmp_path / "two", 256, analyses)
    alone = train_and_measure(shallow, tmp_path / "one", 256, ["performance"])
    ceiling = two.baselines["accuracy.bag_of_labels"]
    assert two.curve("performance", "accuracy")[500] > 0.9
    assert alone.curve("performance", "accuracy")[500] < ceiling + 0.1
    assert two.curve("induction", "mass")[500] > 0.8
    assert two.curve("head_ablation", "accuracy", ablation="zero", layer=1)[500] < ceiling


@pytest.mark.slow
def test_a_factor_is_said_as_a_number(tmp_path):
    """A fifth of the steps: where a sprite is, better than a linear probe of its pixels."""
    config = apply_overrides(RECIPES["regress"](), ["--train.steps", "200"])
    run = train_and_measure(config, tmp_path / "run", 256, ["performance"])
    assert abs(run.baselines["accuracy.mean"]) < 1e-6
    probe = run.baselines["accuracy.pixel_probe"]
    assert run.curve("performance", "accuracy")[200] > probe + 0.05 > 0.8
    assert "final R^2 on 256 test pictures" in summarize(run.path)
    assert name_score(run) == "R^2"


@pytest.mark.slow
def test_digits_are_read(tmp_path):
    """In a third of the steps."""
    config = apply_overrides(RECIPES["digits"](), ["--train.steps", "350"])
    run = train_and_measure(config, tmp_path / "run", 300, ["performance", "probes"])
    assert run.curve("performance", "accuracy")[350] > 0.9
    untrained, trained = run.curve("probes", "accuracy", group="cls", layer=2)
    assert trained > 0.85 > untrained
