"""The families of curves that the detector is tried on, and its rates on a few of each."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from toyvit.dynamics.assessment import LEAST_SCORE
from toyvit.dynamics.calibration import (
    REPORT,
    choose_threshold,
    draw_family,
    judge_families,
    measure_rates,
    measure_reliability,
)
from toyvit.dynamics.drawn_curves import LAST
from toyvit.dynamics.nulls import NULLS
from toyvit.dynamics.planted import PLANTS, WIDTHS, plant_change
from toyvit.dynamics.transitions import CHANCES, SCORES, give_chance

N = 12


@pytest.mark.parametrize("family", [*NULLS, *PLANTS])
def test_curves_are_functions_of_the_seed(family):
    steps, values, onsets = draw_family(family, REPORT, 5)
    _, again, _ = draw_family(family, REPORT, 5)
    _, other, _ = draw_family(family, REPORT, 9)
    assert values.shape == steps.shape
    assert np.isfinite(values).all()
    assert (values == again).all()
    assert (values != other).any()
    assert bool(onsets) == (family in PLANTS)


@pytest.mark.parametrize("width", WIDTHS)
def test_planted_curves_go_ten_percent_of_the_way_at_their_onset(width):
    steps = np.arange(0.0, 2001)
    curve = plant_change(steps, np.random.default_rng(0), width, 0)
    (onset,) = curve.onsets
    before, after = np.interp([onset / 1.3, onset * 1.7], steps, curve.values)
    way = (np.interp(onset, steps, curve.values) - before) / (after - before)
    assert way == pytest.approx(0.1, abs=0.03)


def test_changes_are_planted_from_early_on_and_after_a_plateau():
    """From 0.05 of the run, and four checkpoints: there is a plateau to see."""
    first = []
    for family in PLANTS:
        for seed in range(40):
            steps, _, onsets = draw_family(family, 2, seed)
            assert steps[3] <= min(onsets), family
            assert min(onsets) >= 0.05 * LAST, family
            first.append(min(onsets))
    assert min(first) < 0.055 * LAST


@pytest.fixture(scope="module")
def verdicts():
    """A few curves of every family, on a stream of seeds of its own."""
    return judge_families(N, stream=2)


@pytest.mark.slow
def test_false_positives_stay_at_five_percent(verdicts):
    """More than the limit would be seen once in a thousand if the rate were 5 %."""
    rates = measure_rates(verdicts).set_index("family").loc[list(NULLS)]
    counts = (rates["found"] * N).round()
    assert (counts <= binom.isf(1e-3, N, 0.05)).all()
    assert counts.sum() <= binom.isf(1e-3, N * len(NULLS), 0.04)


@pytest.mark.slow
def test_power_count_and_onset(verdicts):
    """Bounds looser than the whole table's: clear changes are found, counted, and where."""
    rates = measure_rates(verdicts).set_index("family")
    clear = [name for name in PLANTS if name.endswith(("noise 0.01", "noise 0.03"))]
    assert len(clear) == 6
    assert (rates.loc[clear, "found"] >= 0.9).all()
    assert (rates.loc[clear, "near"] >= 0.75).all()
    assert (rates.loc[["two steps", "three steps"], "counted"] >= 0.5).all()
    assert (rates.loc[["crashes", "relapse"], "found"] >= 0.6).all()


@pytest.mark.slow
def test_stated_chances_are_ordered(verdicts):
    table = measure_reliability(verdicts)
    assert table["stated"].is_monotonic_increasing
    assert table["true"].iloc[0] < 0.1
    assert table["true"].iloc[-1] > 0.9


def test_the_threshold_keeps_every_null_under_its_rate():
    """Of two nulls of 100 curves one has six that score 2.2, one four that score 9."""
    scores = {"a": [2.2] * 6 + [0.0] * 94, "b": [9.0] * 4 + [0.0] * 96}
    rows = [(name, 0, score) for name, values in scores.items() for score in values]
    frame = pd.DataFrame([*rows, ("planted", 1, 1.0)], columns=["family", "planted", "score"])
    assert choose_threshold(frame) == 2.5
    assert choose_threshold(frame[frame["family"] != "a"]) == 1.0


def test_stated_chances_rise_with_the_score():
    assert list(SCORES) == sorted(SCORES)
    assert list(CHANCES) == sorted(CHANCES)
    assert give_chance(0) < 0.05
    assert give_chance(LEAST_SCORE) > 0.85
