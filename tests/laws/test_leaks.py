"""Tasks that claim to need relation or context.

Neither all pixels nor any one patch may give the answer away.
"""

from __future__ import annotations

import pytest

from tests.data.test_cards import stated
from toyvit.config import (
    AdditionConfig,
    ClassifyConfig,
    DspritesConfig,
    InductionConfig,
    RegressConfig,
    TaskConfig,
)
from toyvit.data.baselines import fit_baselines, score_patch_probes
from toyvit.data.task import build_task
from toyvit.recipes import RECIPES

# Task, size of a patch, and what a linear probe may score: on all pixels, on the best patch by
# itself. Chance is 1 / classes; scores are on 1,000 pictures, and the best of many patches lies
# three or four standard errors over chance.
CLAIMS: dict[str, tuple[TaskConfig, int, float, float]] = {
    "induction": (
        InductionConfig(),
        8,
        0.10,
        0.12,
    ),  # the label shown last is a little likelier; the bag of labels has 0.174
    "addition": (AdditionConfig(), 8, 0.03, 0.08),
    "dsprites same shape": (DspritesConfig(ask="same"), 32, 0.56, 0.56),
    "dsprites same scale": (DspritesConfig(ask="same", factor="scale"), 32, 0.56, 0.56),
    "dsprites same x": (DspritesConfig(ask="same", factor="x"), 32, 0.56, 0.56),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CLAIMS)
def test_pixels_do_not_give_the_answer_away(name):
    config, size, on_all, on_one = CLAIMS[name]
    whole = score_patch_probes(config, max(build_task(config).world.image_size))
    assert whole.shape == (1, 1) and whole.item() <= on_all
    assert score_patch_probes(config, size).max() <= on_one


@pytest.mark.parametrize(
    ("ask", "bound"),
    [("default", 0.5), ("--task.ask relational", 0.5), ("--task.ask non-relational", 0.55)],
)
def test_sort_of_clevr_is_not_read_by_a_linear_probe(ask, bound):
    """By what its card states, which is what comes out (`tests/data/test_cards.py`).

    The question alone answers 0.44 of the relational and 0.5 of the other questions.
    """
    scores = stated("sort-of-clevr")[ask]
    for probe in ("accuracy.pixel_probe", "accuracy.best_patch_probe"):
        assert 0 < float(scores[probe]) < bound


def test_the_probes_find_what_is_there():
    """Digits are told apart by their pixels.

    The probe of one corner patch is worth little more than chance.
    """
    digits = ClassifyConfig(world="digits")
    found = fit_baselines(digits)
    assert found["accuracy.pixel_probe"] > 0.9 and found["accuracy.nearest_neighbour"] > 0.95
    patches = score_patch_probes(digits, 4)
    assert (
        patches.shape == (2, 2)
        and 0.4 < patches.min() <= patches.max() < found["accuracy.pixel_probe"]
    )
    assert score_patch_probes(digits, 1)[0, 0] < 0.2  # a pixel that is always paper


@pytest.mark.slow
def test_numbers_are_read_off_pixels_where_they_are_there():
    """R^2: a sprite's column moves its pixels.

    Its orientation, over all shapes and places, is in no pixel's mean.
    """
    column, angle = (
        fit_baselines(RegressConfig(world="dsprites", factor=factor))
        for factor in ("x", "orientation")
    )
    assert column["accuracy.pixel_probe"] > 0.75 and column["accuracy.nearest_neighbour"] > 0.95
    assert angle["accuracy.pixel_probe"] < 0.05
    assert (
        0.1
        < fit_baselines(DspritesConfig())["accuracy.pixel_probe"]
        < column["accuracy.pixel_probe"]
    )  # all factors, x and y too


@pytest.mark.parametrize("name", ["objects", "reconstruct", "markov"])
def test_a_task_that_asks_each_patch_has_no_such_probe(name):
    assert fit_baselines(RECIPES[name]().task) == {}
