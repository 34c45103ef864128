"""The detector of transitions: planted truths, nulls, laws, refusals, several curves and seeds.

And its rates of error.
"""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from scipy.stats import binom

from toyvit.config import DECAYS, TrainConfig, find_rate_changes
from toyvit.dynamics import calibration
from toyvit.dynamics.calibration import CLOCKS, NULLS, calibrate, draw_correlated
from toyvit.dynamics.transitions import (
    detect,
    detect_jointly,
    find_first_step,
    find_window,
    order_events,
    relative_width,
    score_curve,
)
from toyvit.errors import BadInput
from toyvit.report.summary import describe_transition

STEPS = np.arange(0.0, 2001, 20)


def sigmoid(onset=1000.0, end=1200.0, steps=STEPS, noise=0.01, seed=0):
    """0.1 to 0.9, 10 % and 90 % of the way at the steps given, with white noise."""
    rise = expit(np.log(81) * ((steps - onset) / (end - onset) - 0.5))
    return 0.1 + 0.8 * rise + noise * draw_correlated(len(steps), 0, np.random.default_rng(seed))


def seeds(lags, n=5, noise=0.01):
    """Runs with an onset each and measures that follow it by given numbers of steps."""
    onsets = 700 + 100 * np.arange(n)

    runs = []
    for onset in onsets:
        starts = {name: onset + lag for name, lag in lags.items()}
        runs.append({name: rise(start, noise) for name, start in starts.items()})
    return runs


def rise(onset, noise=0.01):
    """A rise that takes 160 steps, of a seed of its own."""
    return pd.Series(sigmoid(onset, onset + 160, noise=noise, seed=onset), STEPS)


@pytest.mark.parametrize("steps", CLOCKS)
@pytest.mark.parametrize(
    ("onset", "end", "noise"),
    [(500, 560, 0.03), (800, 1000, 0.03), (1000, 1250, 0.03), (1000, 1400, 0.01), (1000, 1500, 0)],
)
def test_a_planted_transition_is_found_where_it_is(steps, onset, end, noise):
    change = detect(steps, sigmoid(onset, end, steps, noise))
    assert change is not None
    assert 0.97 <= change.confidence <= 0.999
    spacing = np.diff(steps)[np.searchsorted(steps, 1000) - 1]
    tolerance = 2 * spacing + 4 * noise * (end - onset)
    assert abs(change.onset - onset) <= tolerance
    assert abs(change.end - end) <= tolerance
    assert change.size == pytest.approx(0.8, abs=0.08)
    assert change.width == relative_width((change.onset, change.end))


def test_a_falling_loss_with_a_long_tail():
    tail = np.where(STEPS < 900, 3.0, 3.0 * np.exp(-np.maximum(0, STEPS - 900) / 100))
    change = detect(STEPS, tail - 1e-4 * STEPS)
    assert change is not None
    assert change.size < -2.5
    assert abs(change.onset - 910) <= 20
    assert abs(change.end - 1130) <= 40


def test_the_plateau_may_climb_before_the_change():
    """As visual induction does: up to the ceiling of the bag of labels first, then a rise."""
    climb = 0.03 + 0.12 * -np.expm1(-((STEPS / 300) ** 2))
    share = climb + 0.84 * expit(np.log(81) * ((STEPS - 1000) / 150 - 0.5))
    values = np.random.default_rng(0).binomial(512, share) / 512
    change = detect(STEPS, values)
    assert change is not None
    assert abs(change.onset - 1000) <= 20
    assert change.size == pytest.approx(0.84, abs=0.03)


@pytest.mark.parametrize(
    "values",
    [
        np.full(len(STEPS), 0.3),
        np.exp(-STEPS / 300),
        (1 + STEPS / 10) ** -0.5,
        -np.expm1(-((STEPS / 400) ** 2)),
        np.log1p(STEPS),
        STEPS,
        np.where(STEPS == 1000, 1.0, 0.0),
    ],
    ids=["constant", "exponential", "power law", "warm-up", "logarithm", "line", "spike"],
)
def test_without_noise_nothing_is_found_in(values):
    assert detect(STEPS, values) is None


def test_a_change_still_under_way_at_the_end_is_not_reported():
    assert detect(STEPS, sigmoid(1900, 2300)) is None


def test_a_small_part_of_the_way_is_not_reported():
    assert detect(STEPS, 0.25 * sigmoid(1000, 1060, noise=1e-3) + np.exp(-STEPS / 300)) is None


@pytest.mark.parametrize("law", ["add", "scale", "flip"])
@pytest.mark.parametrize("seed", range(3))
def test_units_of_the_values_do_not_matter(law, seed):
    values = sigmoid(noise=0.05, seed=seed)
    factor, constant = {"add": (1, 100), "scale": (1e3, 0), "flip": (-1, 0)}[law]
    change = detect(STEPS, values)
    other = detect(STEPS, factor * values + constant)
    assert (other.onset, other.end) == (change.onset, change.end)
    assert other.size == pytest.approx(factor * change.size)
    assert other.confidence == pytest.approx(change.confidence, abs=1e-6)


@pytest.mark.parametrize("factor", [0.1, 50])
def test_scaling_the_steps_scales_the_answer(factor):
    values = sigmoid(noise=0.05)
    change = detect(STEPS, values)
    other = detect(STEPS * factor, values)
    assert (other.onset, other.end) == pytest.approx((factor * change.onset, factor * change.end))
    assert (other.size, other.confidence) == pytest.approx((change.size, change.confidence))


def test_more_noise_never_more_evidence():
    scores = []
    for noise in (0.01, 0.05, 0.2, 1):
        curves = [sigmoid(noise=noise, seed=seed) for seed in range(5)]
        scores.append(np.median([score_curve(STEPS, curve) for curve in curves]))
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("event", [980, 1000])
@pytest.mark.parametrize("direction", [-1, 1])
def test_a_jump_of_the_learning_rate_is_no_transition(event, direction):
    """A relaxation that starts at the event, as a loss does when the rate drops."""
    noise = 0.01 * draw_correlated(len(STEPS), 0.3, np.random.default_rng(0))
    after = -np.expm1(-np.maximum(0, STEPS - event) / 40)
    values = direction * (0.1 * np.exp(-STEPS / 200) + after + noise)
    assert detect(STEPS, values) is not None
    assert detect(STEPS, values, events=[event]) is None
    assert detect(STEPS, values, events=[100, 1900]) == detect(STEPS, values)


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("steps", [100, 2000])
def test_the_rate_changes_at_the_end_of_the_warm_up_and_nowhere_else(decay, steps):
    assert find_rate_changes(TrainConfig(steps=steps, decay=decay, warmup=0)) == ()
    assert find_rate_changes(TrainConfig(steps=steps, decay=decay, warmup=40)) == (40,)
    unended = TrainConfig(steps=steps, decay=decay, warmup=steps)
    assert find_rate_changes(unended) == ()


@pytest.mark.parametrize(("share", "steps"), [(0.5, (10, 500)), (2.0, (10, 500)), (0.9995, (10,))])
def test_the_rate_changes_where_it_jumps(monkeypatch, share, steps):
    """At the update after step 500."""
    monkeypatch.setitem(DECAYS, "jump", lambda done: 1.0 if done * 990 <= 490 else share)
    assert find_rate_changes(TrainConfig(steps=1000, warmup=10, decay="jump")) == steps


def test_a_change_as_the_rate_changes_is_said_to_be_one():
    at = (100, 500)
    near = pd.Series(sigmoid(510, 550, noise=0), STEPS)
    scheduled = "a change at 520, as the learning rate changes at 500: not called a transition"
    assert describe_transition(near, at) == scheduled
    assert describe_transition(near).startswith("step 520 to 560")
    assert describe_transition(near, [100]) == describe_transition(near)

    far = pd.Series(sigmoid(990, 1050, noise=0), STEPS)
    assert describe_transition(far, at).startswith("step 1000 to 1060, by +0.")
    noise = pd.Series(np.random.default_rng(0).normal(size=len(STEPS)), STEPS)
    assert describe_transition(noise, at) == describe_transition(noise) == "none found"
    assert describe_transition(near[:20], at).startswith("no verdict: 20 checkpoints")


def test_refusals_are_one_line():
    values = sigmoid()
    holes = values.copy()
    holes[10:15] = np.nan
    bad = {
        "39 checkpoints are too few": (STEPS[:39], values[:39]),
        "5 of 101 values are not finite, from step 200 to 280": (STEPS, holes),
        "ascend": (STEPS[::-1], values),
        "0 or more": (STEPS - 20, values),
        "one value a step": (STEPS[1:], values),
        "too short a stretch": (1e6 + STEPS / 20, values),
    }
    for words, (steps, curve) in bad.items():
        with pytest.raises(BadInput, match=words) as caught:
            detect(steps, curve)
        assert "\n" not in str(caught.value)


def test_seeds_with_a_transition_are_told_from_controls():
    verdict = detect_jointly(seeds({"accuracy": 0, "mass": 20}))
    assert all(verdict.transitions)
    assert verdict.confidence > 0.999
    assert 700 <= verdict.low <= 900 <= verdict.high <= 1140

    falls = [np.exp(-STEPS / (100 + 50 * n)) for n in range(5)]
    nothing = detect_jointly([{"accuracy": pd.Series(fall, STEPS)} for fall in falls])
    assert not any(nothing.transitions)
    assert nothing.confidence == 0
    assert np.isnan(nothing.low)


def test_a_joint_verdict_on_copies_is_the_verdict_on_one():
    values = pd.Series(sigmoid(noise=0.1), STEPS)
    alone = detect(STEPS, values)
    (both,) = detect_jointly([{"a": values, "b": -3 * values}]).transitions
    assert (both.onset, both.end) == (alone.onset, alone.end)
    assert both.confidence == pytest.approx(alone.confidence)


def test_a_joint_verdict_needs_common_steps():
    run = {"a": pd.Series(sigmoid(), STEPS), "b": pd.Series(sigmoid(), STEPS + 1)}
    with pytest.raises(BadInput, match="same steps"):
        detect_jointly([run])


def test_the_order_of_planted_events_is_found():
    """Onsets of the seeds are 400 steps apart, lags 100: only comparison within seeds can tell."""
    order = order_events(seeds({"late": 200, "early": 0, "middle": 100}))
    assert list(order.index) == ["early", "middle", "late"]
    assert (order["runs"] == 5).all()
    assert order["first"].tolist() == [1, 0, 0]
    assert order["lag"].to_numpy() == pytest.approx([0, 100, 200], abs=20)
    assert (order["low"] <= order["lag"]).all()
    assert (order["lag"] <= order["high"]).all()
    assert order["low"].iloc[1] > 0


def test_measures_that_move_together_share_the_first_place():
    order = order_events(seeds({"a": 0, "b": 0}, noise=0))
    assert order["first"].tolist() == [1, 1]
    assert order["high"].tolist() == [0, 0]


def test_an_order_leaves_out_seeds_without_a_transition_and_needs_two():
    runs = seeds({"a": 0, "b": 100}, n=3)
    runs[0]["b"] = pd.Series(np.exp(-STEPS / 300), STEPS)
    assert (order_events(runs)["runs"] == 2).all()
    with pytest.raises(BadInput, match="there are 1"):
        order_events(runs[:2])


def test_window_and_relative_width():
    rise = pd.Series([0.1, 0.1, 0.3, 0.95, 1.0], [0, 10, 20, 30, 40])
    assert find_window(rise, 0.1) == (20, 30)
    assert find_window(rise, 0.95) is None
    assert relative_width((20, 30)) == 0.5
    assert relative_width((0, 30)) == float("inf")


def test_the_first_step_at_which_a_condition_holds():
    """Whether a level itself counts is said where it is asked."""
    curve = pd.Series([1.6, 0.6, 0.3, 0.4, 0.1], index=[0, 10, 20, 30, 40])
    assert find_first_step(curve <= 0.3) == 20
    assert find_first_step(curve < 0.3) == 40
    assert find_first_step(curve > 1) == 0
    assert find_first_step(curve <= 0.05) is None
    assert find_first_step(pd.Series([np.nan, 0.1], index=[0, 5]) < 1) == 5
    assert isinstance(find_first_step(curve < 1), int)


@pytest.fixture(scope="module")
def rates():
    """20 curves a row, on a stream of seeds of its own: 140 nulls, 320 planted."""
    return calibrate(20, stream=2)


@pytest.mark.slow
def test_false_positives_stay_at_five_percent(rates):
    """More than `limit` would be seen once in a thousand if the rate were 5 %."""
    nulls = rates[rates["width"].isna()]
    counts = (nulls["found"] * nulls["curves"]).round()
    assert len(nulls) == len(NULLS)
    assert (counts <= binom.isf(1e-3, 20, 0.05)).all()
    assert counts.sum() <= binom.isf(1e-3, 140, 0.05)


@pytest.mark.slow
def test_power_and_onset_error(rates):
    """Bounds looser than the whole table: narrow changes in little noise are found, and where."""
    clear = rates[(rates["width"] <= 0.25) & (rates["noise"] <= 0.03)]
    assert len(clear) == 6
    assert (clear["found"] >= 0.8).all()
    assert (clear["onset_error"] < 0.06).all()
    power = rates.groupby("noise")["found"].mean()
    assert power.is_monotonic_decreasing


@pytest.mark.parametrize("draw", NULLS)
def test_curves_are_functions_of_the_seed(draw):
    first, again, other = (draw(STEPS, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == STEPS.shape
    assert (first == again).all()
    assert (first != other).any()


def test_planted_curves_go_ten_percent_of_the_way_at_their_onset():
    steps = np.arange(0.0, 2001)
    values, onset = calibration.plant_transition(steps, np.random.default_rng(0), 0.1, 0)
    before, after = np.interp([onset / 1.3, onset * 1.5], steps, values)
    way = (np.interp(onset, steps, values) - before) / (after - before)
    assert way == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("last", [2, 3, 4, 5, 8, 15])
def test_a_jump_near_the_end_has_its_own_onset_or_is_unfinished(last):
    """Truth: the jump itself, however few checkpoints follow.

    One in the last two is not called a transition.
    """
    steps = np.arange(0, 2001, 20)
    noise = np.random.default_rng(last).normal(0, 0.01, len(steps))
    change = detect(steps, (steps >= steps[-last]) + noise)
    if last < 3:
        assert change is None
    else:
        assert change.onset == change.end == steps[-last]
        assert change.size == pytest.approx(1, abs=0.05)
