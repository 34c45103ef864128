"""The detector of abrupt changes: planted truths, nulls, laws, refusals."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from toyvit.config import DECAYS, TrainConfig, find_rate_changes, learning_rate, sum_rates
from toyvit.dynamics.calibration import draw_family
from toyvit.dynamics.contrast import LEAST_SIZE, SHARE, _measure_flanks, build_clock
from toyvit.dynamics.drawn_curves import CLOCKS, draw_correlated, rise
from toyvit.dynamics.fitting import _rise_early, _rise_late
from toyvit.dynamics.transitions import (
    detect,
    find_first_step,
    find_window,
    judge_curve,
    judge_series,
    relative_width,
)
from toyvit.errors import BadInput
from toyvit.report.summary import describe_changes

STEPS = np.arange(0.0, 2001, 20)


def sigmoid(onset=1000.0, end=1200.0, steps=STEPS, noise=0.01, seed=0):
    """0.1 to 0.9, 10 % and 90 % of the way at the steps given, with white noise."""
    rise = expit(np.log(81) * ((steps - onset) / (end - onset) - 0.5))
    return 0.1 + 0.8 * rise + noise * draw_correlated(len(steps), 0, np.random.default_rng(seed))


@pytest.mark.parametrize("steps", CLOCKS)
@pytest.mark.parametrize(
    ("onset", "end", "noise"),
    [(500, 560, 0.03), (800, 1000, 0.03), (1000, 1250, 0.03), (1000, 1200, 0.05), (1200, 1500, 0)],
)
def test_a_planted_change_is_found_where_it_is(steps, onset, end, noise):
    change = detect(steps, sigmoid(onset, end, steps, noise))
    assert change is not None
    assert 0.9 <= change.confidence <= 1
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
    assert (other.onset, other.end) == pytest.approx((change.onset, change.end))
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
        scores.append(np.median([judge_curve(STEPS, curve).score for curve in curves]))
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("at", [500, 1200])
@pytest.mark.parametrize("speed", [0.1, 10.0])
def test_a_kink_of_the_schedule_is_none_in_the_time_of_its_rates(at, speed):
    """A smooth curve of the sum of rates, which jump at a step."""
    time = np.where(at > STEPS, STEPS, at + (STEPS - at) * speed)
    noise = 0.003 * draw_correlated(len(STEPS), 0.3, np.random.default_rng(0))
    values = -np.expm1(-np.maximum(time - at, 0) / at) + noise
    assert detect(STEPS, values, time) is None

    later = values + 3 * rise(time, time[-35], 0.02)
    change = detect(STEPS, later, time)
    assert change is not None
    assert abs(change.onset - STEPS[-35]) <= 0.05 * STEPS[-35]


@pytest.mark.parametrize("decay", DECAYS)
def test_time_is_the_sum_of_learning_rates(decay):
    train = TrainConfig(steps=300, decay=decay, warmup=20, learning_rate=3e-3)
    rates = [learning_rate(train, step) / 3e-3 for step in range(1, 301)]
    assert sum_rates(train, range(301)) == pytest.approx([0, *np.cumsum(rates)])
    assert sum_rates(train, [300, 900]) == sum_rates(train, [300, 300])


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


def test_what_is_said_of_a_curve():
    rise = pd.Series(sigmoid(990, 1050, noise=0), STEPS)
    assert describe_changes(rise).startswith(
        "step 990 to 1050, 10 % to 90 % of a change of +0.80, confidence 0.9"
    )
    twice = rise + pd.Series(sigmoid(400, 430, noise=0), STEPS)
    assert describe_changes(twice).count("; then step") == 1

    noise = pd.Series(np.random.default_rng(0).normal(size=len(STEPS)), STEPS)
    assert describe_changes(noise) == "none found"
    late = pd.Series(sigmoid(1900, 1960, noise=0), STEPS)
    assert describe_changes(late).endswith("is not over when the run ends")
    back = rise - pd.Series(sigmoid(1400, 1450, noise=0), STEPS)
    assert describe_changes(back).endswith("does not last")
    assert describe_changes(rise[:20]).startswith("no verdict: 20 checkpoints")


@pytest.mark.parametrize("way", [-1, 1])
def test_several_changes_are_found_in_order(way):
    values = way * sum(sigmoid(at, 1.1 * at, seed=at) for at in (300, 700, 1400))
    changes = judge_curve(STEPS, values).changes
    assert [change.onset for change in changes] == pytest.approx([300, 700, 1400], rel=0.03)
    assert [change.size for change in changes] == pytest.approx([0.8 * way] * 3, abs=0.05)
    assert all(change.confidence >= 0.9 for change in changes)


def test_crashes_and_a_relapse_hide_no_change():
    values = sigmoid(600, 660)
    values[60:63] = 0.1
    values[70:75] = 0.3
    values[45:50] = 0.15
    (change,) = judge_curve(STEPS, values).changes
    assert change.onset == pytest.approx(600, abs=20)


def test_what_returns_is_no_change():
    there_and_back = sigmoid(600, 660) - sigmoid(1000, 1060, seed=1)
    assert judge_curve(STEPS, there_and_back).changes == ()
    spiky = np.exp(-STEPS / 400) + 0.01 * draw_correlated(len(STEPS), 0, np.random.default_rng(0))
    spiky[[30, 50, 70]] += [1, 2, 0.5]
    assert judge_curve(STEPS, spiky).changes == ()


@pytest.mark.parametrize("width", [1.0, 1.2, 1.5, 2.0])
def test_a_slow_rise_is_none_without_noise(width):
    assert detect(STEPS, rise(STEPS, 500, width)) is None


@pytest.mark.parametrize(
    ("width", "most"), [(1 / 4, 0.92), (1 / 2, 0.70), (1.0, 0.52), (1.5, 0.47), (2.0, 0.45)]
)
def test_the_share_of_a_window_is_as_stated(width, most):
    """Without noise, in the densest schedule: what the window's statistic rests on."""
    steps = np.unique(np.geomspace(1, 4000, 1500))
    clock = build_clock(steps.tobytes(), steps.tobytes())
    first, last = clock.windows.T
    z = np.log(steps / 400) / np.log1p(width)
    shapes = [
        rise(steps, 400, width),
        expit(np.log(81) * (z - 0.5)),
        _rise_early(z),
        _rise_late(z),
    ]

    shares = []
    for values in shapes:
        inside = np.abs(values[last] - values[first])
        is_large = inside > LEAST_SIZE
        whole = inside + _measure_flanks(clock, values)
        shares.append((inside[is_large] / whole[is_large]).max())
    assert most - 0.03 < max(shares) < most
    assert (max(shares) < SHARE) == (width >= 1)


def test_what_the_run_cuts_off_is_said_to_be_unfinished():
    verdicts = [judge_curve(*draw_family("cut_off", 3, seed)[:2]) for seed in range(8)]
    reasons = [[why for why, _ in verdict.refused] for verdict in verdicts]
    assert not any(verdict.changes for verdict in verdicts)
    assert sum("unfinished" in whys for whys in reasons) >= 7


def test_smooth_curves_and_noise_are_not_said_to_be_unfinished():
    families = ("power_law", "noise", "slow_s", "waves")
    curves = [draw_family(family, 3, seed)[:2] for family in families for seed in range(4)]
    assert not any(judge_curve(*curve).refused for curve in curves)


def test_a_change_where_the_curriculum_changes_the_task_is_the_tasks():
    values = pd.Series(sigmoid(1000, 1100), STEPS.astype(int))
    train = TrainConfig(steps=2000, curriculum=("alike=0.8", "alike=0.5@1000"))
    verdict = judge_series(values, train)
    assert verdict.changes == ()
    assert [why for why, _ in verdict.refused] == ["task"]
    assert describe_changes(values, train).endswith("comes as the curriculum changes the task")
    assert judge_series(values, TrainConfig(steps=2000, warmup=0)).changes
    elsewhere = TrainConfig(steps=2000, curriculum=("alike=0.8", "alike=0.5@400"))
    assert judge_series(values, elsewhere).changes


def test_noise_that_grows_is_told_from_a_change():
    noise = draw_correlated(len(STEPS), 0.5, np.random.default_rng(3)) * 10 ** (STEPS / 2000)
    assert detect(STEPS, noise) is None
    assert detect(STEPS, 0.01 * noise + sigmoid(400, 440)) is not None


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


def test_window_and_relative_width():
    curve = pd.Series([0.1, 0.1, 0.3, 0.95, 1.0], [0, 10, 20, 30, 40])
    assert find_window(curve, 0.1) == (20, 30)
    assert find_window(curve, 0.95) is None
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


@pytest.mark.parametrize("last", [2, 3, 4, 5, 8, 15])
def test_a_jump_near_the_end_has_its_own_onset_or_is_unfinished(last):
    """Truth: the jump itself. Before three checkpoints follow it nothing is said."""
    steps = np.arange(0, 2001, 20)
    noise = np.random.default_rng(last).normal(0, 0.01, len(steps))
    change = detect(steps, (steps >= steps[-last]) + noise)
    if last < 4:
        assert change is None
    else:
        assert change is not None
        assert steps[-last] - 20 <= change.onset <= change.end <= steps[-last]
        assert change.size == pytest.approx(1, abs=0.05)
