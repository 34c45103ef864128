"""Order of events and transitions over seeds: truths, nulls, coverage, refusals."""

import numpy as np
import pandas as pd
import pytest

from toyvit.analyses.registry import ANALYSES
from toyvit.data.task import build_task, resolve_config
from toyvit.dynamics.drawn_curves import draw_correlated, rise
from toyvit.dynamics.judgement import Seed, judge_transition
from toyvit.dynamics.order import median_interval, order_events
from toyvit.errors import BadInput
from toyvit.model import ViT
from toyvit.recipes import ORDER_PARAMETERS, RECIPES

STEPS = np.arange(0.0, 2001, 20)


def grow(onset, length=160, noise=0.01):
    """A rise that takes so many steps, of a seed of its own."""
    rng = np.random.default_rng(int(onset))
    values = rise(STEPS, onset, length / onset) + noise * draw_correlated(len(STEPS), 0, rng)
    return pd.Series(values, STEPS.astype(int))  # as a run has them


def seeds(lags, n=8, noise=0.01):
    """Runs with an onset each and measures that follow it by given numbers of steps."""
    onsets = 600 + 60 * np.arange(n)
    return [
        {name: grow(onset + lag, noise=noise) for name, lag in lags.items()}
        for onset in onsets.tolist()
    ]


@pytest.mark.parametrize(
    ("n", "rank"), [(6, 1), (7, 1), (8, 1), (9, 2), (11, 2), (12, 3), (20, 6), (40, 14)]
)
def test_intervals_are_the_tables(n, rank):
    """Ranks of the sign test in any table, as in Conover (1999), table A3."""
    assert median_interval(np.arange(1, n + 1)) == (rank, n + 1 - rank)


def test_an_interval_holds_the_median_as_often_as_it_says():
    rng = np.random.default_rng(0)
    draws = rng.exponential(size=(2000, 12))
    inside = [low <= np.log(2) <= high for low, high in map(median_interval, draws)]
    assert 0.95 <= np.mean(inside) <= 0.98  # 0.961, since ranks are whole


@pytest.mark.parametrize("n", range(6))
def test_under_six_there_is_no_interval(n):
    assert np.isnan(median_interval(np.arange(n))).all()


def test_the_order_of_planted_events_is_found():
    """Onsets of the seeds are 420 steps apart, lags 100: only comparison within seeds can tell."""
    order = order_events(seeds({"late": 200, "early": 0, "middle": 100}))
    assert list(order.index) == ["early", "middle", "late"]
    assert (order["runs"] == 8).all()
    assert order["first"].tolist() == [1, 0, 0]
    assert order["lag"].to_numpy() == pytest.approx([0, 100, 200], abs=10)
    assert (order["low"] <= order["lag"]).all()
    assert (order["lag"] <= order["high"]).all()
    assert order["low"].iloc[1] > 0


def test_measures_that_move_together_share_the_first_place():
    order = order_events(seeds({"a": 0, "b": 0}, noise=0))
    assert order["first"].tolist() == [1, 1]
    assert order["high"].tolist() == [0, 0]


def test_more_measures_ask_for_more_runs():
    """Seven runs hold one lag at 95 %, but not two at once."""
    assert order_events(seeds({"a": 0, "b": 80}, n=6))["low"].notna().all()
    three = order_events(seeds({"a": 0, "b": 80, "c": 160}, n=6))
    assert three["low"].isna().tolist() == [False, True, True]


def test_an_order_leaves_out_seeds_without_a_change_and_needs_six():
    runs = seeds({"a": 0, "b": 100}, n=7)
    runs[0]["b"] = pd.Series(np.exp(-STEPS / 300), STEPS)
    assert (order_events(runs)["runs"] == 6).all()
    with pytest.raises(BadInput, match="of 6 there are 5"):
        order_events(runs[:6])
    with pytest.raises(BadInput, match="of 0 there are 0"):
        order_events([])


def draw_seeds(n, lag):
    """Loss and order parameter of seeds, the one `lag` steps after the other."""
    onsets = np.linspace(500, 900, n).round()
    return [Seed(loss=3 - 2 * grow(onset + lag), order=grow(onset)) for onset in onsets]


def test_a_transition_is_loss_and_order_parameter_together():
    verdict = judge_transition(draw_seeds(10, 0))
    assert verdict.verdict == "transition"
    assert (verdict.together, verdict.stable) == (10, 10)
    assert verdict.low <= 700 <= verdict.high
    assert verdict.width == pytest.approx(160 / 700, rel=0.15)
    assert verdict.loss_width == pytest.approx(verdict.width, rel=0.1)
    text = str(verdict)
    assert text.startswith("yes: 10 of 10 seeds change together, 10 of them wherever")
    assert text.endswith(f"width {verdict.width:.2f} of it, in the loss {verdict.loss_width:.2f}")


def test_without_one_of_them_there_is_none():
    apart = judge_transition(draw_seeds(10, 400))
    assert (apart.verdict, apart.together) == ("none", 0)
    smooth = pd.Series(np.exp(-STEPS / 300), STEPS)
    alone = judge_transition([Seed(smooth, seed.order) for seed in draw_seeds(10, 0)])
    assert (alone.verdict, alone.together) == ("none", 0)
    assert np.isnan(alone.onset)


def test_the_verdict_says_which_of_the_two_changed():
    smooth = pd.Series(np.exp(-STEPS / 300), STEPS)
    seeds = draw_seeds(10, 0)
    seeds[:3] = [Seed(smooth, seed.order) for seed in seeds[:3]]
    seeds[3:5] = [Seed(seed.loss, smooth) for seed in seeds[3:5]]
    seeds[5] = draw_seeds(10, 400)[5]
    seeds[6] = Seed(smooth, smooth)
    verdict = judge_transition(seeds)
    assert (verdict.together, verdict.order_alone, verdict.loss_alone, verdict.apart) == (
        3,
        3,
        2,
        1,
    )
    assert str(verdict).endswith(
        "of the others the order parameter alone in 3, the loss alone in 2, both, but apart in 1, "
        "neither in 1"
    )


def test_a_wider_loss_is_measured():
    seeds = [Seed(loss=-grow(600, 300), order=grow(650)) for _ in range(10)]
    verdict = judge_transition(seeds)
    assert verdict.together == 10
    assert verdict.loss_width == pytest.approx(0.5, rel=0.15)
    assert verdict.width == pytest.approx(160 / 650, rel=0.15)


def test_three_of_ten_without_a_change_are_too_many():
    smooth = pd.Series(np.exp(-STEPS / 300), STEPS)
    mixed = draw_seeds(10, 0)
    mixed[:2] = [Seed(smooth, smooth)] * 2
    assert judge_transition(mixed).verdict == "transition"
    mixed[2] = Seed(smooth, smooth)
    assert judge_transition(mixed).verdict == "none"


def test_a_verdict_that_depends_on_the_end_is_not_stable():
    """The rise is there in the whole run; cut at twice its onset it has just been left again."""
    steps = np.arange(0, 2001, 10)
    away = rise(steps, 720, 0.05) - rise(steps, 860, 0.05)
    noise = 0.01 * draw_correlated(len(steps), 0, np.random.default_rng(0))
    order = pd.Series(rise(steps, 400, 0.3) - away + noise, steps)
    verdict = judge_transition([Seed(3 - 2 * order, order)] * 10)
    assert (verdict.together, verdict.stable, verdict.verdict) == (10, 0, "none")


def test_a_cut_that_leaves_too_few_checkpoints_tells_nothing():
    """Twice the onset is checkpoint 35 of 101."""
    early = [Seed(3 - 2 * grow(350), grow(350))] * 10
    verdict = judge_transition(early)
    assert (verdict.together, verdict.stable, verdict.verdict) == (10, 10, "transition")


@pytest.mark.parametrize("name", ORDER_PARAMETERS)
def test_an_order_parameter_is_measured_of_its_recipe(name):
    analysis, quantity = ORDER_PARAMETERS[name]
    config = resolve_config(RECIPES[name]())
    model = ViT(config.model)
    batch = build_task(config.task).draw_batch(0, "test", range(8))
    assert quantity in ANALYSES[analysis].quantities
    assert not ANALYSES[analysis].list_missing(model, batch)


def test_few_seeds_decide_nothing():
    undecided = judge_transition(draw_seeds(10, 0)[:5])
    assert undecided.verdict == "undecided"
    assert str(undecided).startswith("undecided: 5 of 5 seeds")
    assert "nan" not in str(undecided), "under six there is no interval"
    with pytest.raises(BadInput, match="there are none"):
        judge_transition([])
    with pytest.raises(BadInput, match="same steps"):
        judge_transition([Seed(grow(500), grow(500)[1:])])
