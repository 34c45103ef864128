"""The detector of transitions: planted truths, nulls, laws, refusals, several curves and seeds, and its rates of error."""

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

    def one(onset):
        return pd.Series(sigmoid(onset, onset + 160, noise=noise, seed=onset), STEPS)

    return [{name: one(onset + lag) for name, lag in lags.items()} for onset in onsets]


@pytest.mark.parametrize("steps", CLOCKS)
@pytest.mark.parametrize(
    ("onset", "end", "noise"),
    [(500, 560, 0.03), (800, 1000, 0.03), (1000, 1250, 0.03), (1000, 1400, 0.01), (1000, 1500, 0)],
)
def test_a_planted_transition_is_found_where_it_is(steps, onset, end, noise):
    found = detect(steps, sigmoid(onset, end, steps, noise))
    assert found is not None and 0.97 <= found.confidence <= 0.999
    spacing = np.diff(steps)[np.searchsorted(steps, 1000) - 1]
    for seen, planted in ((found.onset, onset), (found.end, end)):
        assert abs(seen - planted) <= 2 * spacing + 4 * noise * (end - onset)
    assert found.size == pytest.approx(0.8, abs=0.08)
    assert found.width == relative_width((found.onset, found.end))


def test_a_falling_loss_with_a_long_tail():
    tail = np.where(STEPS < 900, 3.0, 3.0 * np.exp(-np.maximum(0, STEPS - 900) / 100))
    found = detect(STEPS, tail - 1e-4 * STEPS)
    assert found is not None and found.size < -2.5
    assert abs(found.onset - 910) <= 20 and abs(found.end - 1130) <= 40


def test_the_plateau_may_climb_before_the_change():
    """As visual induction does: up to the ceiling of the bag of labels first, then a rise."""
    climb = 0.03 + 0.12 * -np.expm1(-((STEPS / 300) ** 2))
    rng = np.random.default_rng(0)
    values = (
        rng.binomial(512, climb + 0.84 * expit(np.log(81) * ((STEPS - 1000) / 150 - 0.5))) / 512
    )
    found = detect(STEPS, values)
    assert (
        found is not None
        and abs(found.onset - 1000) <= 20
        and found.size == pytest.approx(0.84, abs=0.03)
    )


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
    found = detect(STEPS, values)
    factor, constant = {"add": (1, 100), "scale": (1e3, 0), "flip": (-1, 0)}[law]
    other = detect(STEPS, factor * values + constant)
    assert found and other and (other.onset, other.end) == (found.onset, found.end)
    assert other.size == pytest.approx(factor * found.size)
    assert other.confidence == pytest.approx(found.confidence, abs=1e-6)


@pytest.mark.parametrize("factor", [0.1, 50])
def test_scaling_the_steps_scales_the_answer(factor):
    values = sigmoid(noise=0.05)
    found, other = detect(STEPS, values), detect(STEPS * factor, values)
    assert (
        found
        and other
        and (other.onset, other.end) == pytest.approx((factor * found.onset, factor * found.end))
    )
    assert (other.size, other.confidence) == pytest.approx((found.size, found.confidence))


def test_more_noise_never_more_evidence():
    scores = [
        np.median([score_curve(STEPS, sigmoid(noise=noise, seed=seed)) for seed in range(5)])
        for noise in (0.01, 0.05, 0.2, 1)
    ]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("event", [980, 1000])
@pytest.mark.parametrize("direction", [-1, 1])
def test_a_jump_of_the_learning_rate_is_no_transition(event, direction):
    """A relaxation that starts at the event, as a loss does when the rate drops."""
    rng = np.random.default_rng(0)
    after = -np.expm1(-np.maximum(0, STEPS - event) / 40)
    values = direction * (
        0.1 * np.exp(-STEPS / 200) + after + 0.01 * draw_correlated(len(STEPS), 0.3, rng)
    )
    assert detect(STEPS, values) is not None
    assert detect(STEPS, values, events=[event]) is None
    assert detect(STEPS, values, events=[100, 1900]) == detect(STEPS, values)


@pytest.mark.parametrize("decay", DECAYS)
@pytest.mark.parametrize("steps", [100, 2000])
def test_the_rate_changes_at_the_end_of_the_warm_up_and_nowhere_else(decay, steps):
    assert find_rate_changes(TrainConfig(steps=steps, decay=decay, warmup=0)) == ()
    assert find_rate_changes(TrainConfig(steps=steps, decay=decay, warmup=40)) == (40,)
    assert (
        find_rate_changes(TrainConfig(steps=steps, decay=decay, warmup=steps)) == ()
    )  # it never ends


@pytest.mark.parametrize(("share", "known"), [(0.5, (10, 500)), (2.0, (10, 500)), (0.9995, (10,))])
def test_the_rate_changes_where_it_jumps(monkeypatch, share, known):
    monkeypatch.setitem(
        DECAYS, "jump", lambda done: 1.0 if done * 990 <= 490 else share
    )  # the update after step 500
    assert find_rate_changes(TrainConfig(steps=1000, warmup=10, decay="jump")) == known


def test_a_change_as_the_rate_changes_is_said_to_be_one():
    rise, at = pd.Series(sigmoid(510, 550, noise=0), STEPS), (100, 500)
    assert (
        describe_transition(rise, at)
        == "a change at 520, as the learning rate changes at 500: not called a transition"
    )
    assert describe_transition(pd.Series(sigmoid(990, 1050, noise=0), STEPS), at).startswith(
        "step 1000 to 1060, by +0."
    )
    assert describe_transition(rise).startswith("step 520 to 560") and describe_transition(
        rise, [100]
    ) == describe_transition(rise)
    noise = np.random.default_rng(0).normal(size=len(STEPS))
    assert (
        describe_transition(pd.Series(noise, STEPS), at)
        == describe_transition(pd.Series(noise, STEPS))
        == "none found"
    )
    assert describe_transition(rise[:20], at).startswith("no verdict: 20 checkpoints")


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
    controls = [{"accuracy": pd.Series(np.exp(-STEPS / (100 + 50 * n)), STEPS)} for n in range(5)]
    found = detect_jointly(seeds({"accuracy": 0, "mass": 20}))
    assert all(found.transitions) and found.confidence > 0.999
    assert 700 <= found.low <= 900 <= found.high <= 1140
    nothing = detect_jointly(controls)
    assert not any(nothing.transitions) and nothing.confidence == 0 and np.isnan(nothing.low)


def test_a_joint_verdict_on_copies_is_the_verdict_on_one():
    values = pd.Series(sigmoid(noise=0.1), STEPS)
    one = detect(STEPS, values)
    (both,) = detect_jointly([{"a": values, "b": -3 * values}]).transitions
    assert one and both and (both.onset, both.end) == (one.onset, one.end)
    assert both.confidence == pytest.approx(one.confidence)


def test_a_joint_verdict_needs_common_steps():
    run = {"a": pd.Series(sigmoid(), STEPS), "b": pd.Series(sigmoid(), STEPS + 1)}
    with pytest.raises(BadInput, match="same steps"):
        detect_jointly([run])


def test_the_order_of_planted_events_is_found():
    """Onsets of the seeds are 400 steps apart, lags 100: only the comparison within seeds can tell."""
    order = order_events(seeds({"late": 200, "early": 0, "middle": 100}))
    assert list(order.index) == ["early", "middle", "late"]
    assert (order["runs"] == 5).all() and order["first"].tolist() == [1, 0, 0]
    assert order["lag"].to_numpy() == pytest.approx([0, 100, 200], abs=20)
    assert (order["low"] <= order["lag"]).all() and (order["lag"] <= order["high"]).all()
    assert order["low"].iloc[1] > 0


def test_measures_that_move_together_share_the_first_place():
    order = order_events(seeds({"a": 0, "b": 0}, noise=0))
    assert order["first"].tolist() == [1, 1] and order["high"].tolist() == [0, 0]


def test_an_order_leaves_out_seeds_without_a_transition_and_needs_two():
    runs = seeds({"a": 0, "b": 100}, n=3)
    runs[0]["b"] = pd.Series(np.exp(-STEPS / 300), STEPS)
    assert (order_events(runs)["runs"] == 2).all()
    with pytest.raises(BadInput, match="there are 1"):
        order_events(runs[:2])


def test_window_and_relative_width():
    rise = pd.Series([0.1, 0.1, 0.3, 0.95, 1.0], [0, 10, 20, 30, 40])
    assert find_window(rise, 0.1) == (20, 30) and relative_width((20, 30)) == 0.5
    assert find_window(rise, 0.95) is None and relative_width((0, 30)) == float("inf")


@pytest.fixture(scope="module")
def rates():
    """20 curves a row, on a stream of seeds of its own: 140 nulls, 320 planted."""
    return calibrate(20, stream=2)


@pytest.mark.slow
def test_false_positives_stay_at_five_percent(rates):
    """More than `limit` would be seen once in a thousand if the rate were 5 %."""
    nulls = rates[rates["width"].isna()]
    found = (nulls["found"] * nulls["curves"]).round()
    assert len(nulls) == len(NULLS)
    assert (found <= binom.isf(1e-3, 20, 0.05)).all() and found.sum() <= binom.isf(1e-3, 140, 0.05)


@pytest.mark.slow
def test_power_and_onset_error(rates):
    """Bounds looser than the whole table: narrow changes in little noise are found, where they are."""
    clear = rates[(rates["width"] <= 0.25) & (rates["noise"] <= 0.03)]
    assert len(clear) == 6 and (clear["found"] >= 0.8).all() and (clear["onset_error"] < 0.06).all()
    power = rates.groupby("noise")["found"].mean()
    assert power.is_monotonic_decreasing


@pytest.mark.parametrize("draw", NULLS)
def test_curves_are_functions_of_the_seed(draw):
    one, other, third = (draw(STEPS, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.shape == STEPS.shape and (one == other).all() and (one != third).any()


def test_planted_curves_go_ten_percent_of_the_way_at_their_onset():
    steps = np.arange(0.0, 2001)
    values, onset = calibration.plant_transition(steps, np.random.default_rng(0), 0.1, 0)
    before, after = np.interp([onset / 1.3, onset * 1.5], steps, values)
    assert (np.interp(onset, steps, values) - before) / (after - before) == pytest.approx(
        0.1, abs=0.03
    )


@pytest.mark.parametrize("last", [2, 3, 4, 5, 8, 15])
def test_a_jump_near_the_end_has_its_own_onset_or_is_unfinished(last):
    """Truth: the jump itself, however few checkpoints follow; one in the last two is not called a transition."""
    steps = np.arange(0, 2001, 20)
    values = (steps >= steps[-last]) * 1.0 + np.random.default_rng(last).normal(0, 0.01, len(steps))
    found = detect(steps, values)
    if last < 3:
        assert found is None
    else:
        assert found is not None and found.onset == found.end == steps[-last]
        assert found.size == pytest.approx(1, abs=0.05)
