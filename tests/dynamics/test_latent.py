"""Accuracy against loss of planted margins: closed forms, the stated ratio, what is said of it."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from toyvit.config import TrainConfig
from toyvit.dynamics.drawn_curves import LAST, rise
from toyvit.dynamics.latent import (
    QUANTILES,
    SHARPER,
    Latent,
    compare_scores,
    draw_latent,
    explain_difference,
    measure_ratio,
    measure_width,
    read_scores,
    summarize_scores,
)

STEPS = np.arange(0.0, LAST + 1, 20)


def test_scores_of_a_planted_margin():
    """Accuracy is the normal's share above 0; without spread the loss is softplus of the margin."""
    latent = Latent(onset=500, width=1.0, low=-2, high=3, spread=1.5)
    common = -2 + 5 * rise(STEPS, 500, 1.0)
    accuracy, _ = read_scores(latent, STEPS, QUANTILES)
    assert accuracy == pytest.approx(norm.cdf(common / 1.5), abs=0.006)
    accuracy, loss = read_scores(latent._replace(spread=0), STEPS, QUANTILES)
    assert accuracy.tolist() == (common > 0).tolist()
    assert loss == pytest.approx(np.log1p(np.exp(-common)))


@pytest.mark.parametrize("way", [-1, 1])
@pytest.mark.parametrize("width", [0.25, 1.5])
def test_the_width_of_a_logistic_is_its_own(way, width):
    t = np.linspace(0, 6000, 6001)
    assert measure_width(t, way * rise(t, 1000, width)) == pytest.approx(width, rel=0.04)


def test_the_stated_ratio_is_what_is_measured():
    draws = [draw_latent(np.random.default_rng([seed, 100]), 1.0) for seed in range(300)]
    ratios = [measure_ratio(latent) for latent in draws]
    assert np.quantile(ratios, (0.05, 0.5, 0.95)) == pytest.approx(SHARPER, rel=0.1)
    assert min(ratios) > 1, "accuracy is never the wider one"


@pytest.mark.slow
def test_a_slow_margin_looks_abrupt_in_accuracy_first():
    table = summarize_scores(compare_scores(12, (0.25, 1.0)))
    assert table["ratio"].gt(1).all()
    assert table.loc[0.25, "accuracy"] == 1
    assert table.loc[1.0, "accuracy"] > table.loc[1.0, "loss"]


def test_the_difference_is_explained_in_words():
    slow = Latent(onset=400, width=1.0, low=-2, high=6, spread=0.4)
    accuracy, loss = (pd.Series(scores, STEPS) for scores in read_scores(slow, STEPS, QUANTILES))
    text = explain_difference(accuracy, loss)
    assert text.startswith("accuracy alone changes abruptly")
    assert f"{SHARPER[1]:.2g} times narrower" in text

    train = TrainConfig(steps=LAST, warmup=0)
    early = pd.Series(rise(STEPS, 800, 0.1), STEPS)
    late = pd.Series(-rise(STEPS, 820, 0.2), STEPS)
    both = explain_difference(early, late, train)
    assert (
        both
        == "both change abruptly, the loss +20 steps from accuracy and in a window 2 times as wide"
    )
    flat = pd.Series(0.5, STEPS)
    assert explain_difference(flat, late, train) == "the loss alone changes abruptly"
    assert explain_difference(flat, flat, train) == ""
