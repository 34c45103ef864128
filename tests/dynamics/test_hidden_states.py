"""Hidden states of many seeds: planted states, detours and noise; and the rival's own measures."""

import builtins
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from toyvit.dynamics import rival, rival_runs
from toyvit.dynamics.hidden_states import fit_states
from toyvit.errors import BadInput

STEPS = np.arange(0, 1200, 20)
CENTRES = {"loss": (3.0, 1.0, 2.0), "order": (0.1, 0.9, 0.1)}


def draw_seed(rng, changes):
    """Two measures with noise, whose state becomes another at each of these checkpoints."""
    states = np.zeros(len(STEPS), int)
    for place, state in changes:
        states[place:] = state
    return {
        name: pd.Series(np.take(levels, states) + 0.1 * rng.standard_normal(len(STEPS)), STEPS)
        for name, levels in CENTRES.items()
    }


def draw_seeds(*, detour=(), n=8):
    """Seeds that change once; those of `detour` pass a third state for ten checkpoints before."""
    rng = np.random.default_rng(0)
    places = rng.integers(20, 50, n).tolist()
    changes = [
        [(place - 10, 2), (place, 1)] if seed in detour else [(place, 1)]
        for seed, place in enumerate(places)
    ]
    return places, [draw_seed(rng, change) for change in changes]


def test_two_planted_states_are_dated():
    places, seeds = draw_seeds()
    states = fit_states(seeds, most=4)
    assert states.n_states == 2
    assert states.list_orders() == [(0, 1)] * len(seeds)
    assert states.list_detours() == []
    for name in CENTRES:
        assert states.centres[name].tolist() == pytest.approx(CENTRES[name][:2], abs=0.05)

    moves = states.list_moves()
    assert moves["step"].tolist() == [STEPS[place] for place in places]
    assert moves["lasts"].all()
    spread = np.concatenate([seed["order"] for seed in seeds]).std()
    assert moves["jump"].iloc[0] == pytest.approx(0.8 / spread, rel=0.1)


def test_a_state_that_some_seeds_pass_is_a_detour():
    places, seeds = draw_seeds(detour=(1, 4, 6))
    states = fit_states(seeds, most=4)
    assert states.n_states == 3
    assert states.list_detours() == [1], "states are numbered by when they are visited"
    orders = states.list_orders()
    assert [len(order) for order in orders] == [3 if seed in (1, 4, 6) else 2 for seed in range(8)]
    assert orders[0] == (0, 2)
    stretches = fit_states(seeds, most=4, restarts=1)
    assert states.bic[4] < stretches.bic[4] - 1, "other starts find a likelier fourth state"

    last = states.list_moves().drop_duplicates("seed", keep="last")
    assert (np.abs(last["step"] - STEPS[places]) <= 20).all()


def test_noise_has_one_state():
    """White noise: what is correlated from checkpoint to checkpoint is cut into states."""
    rng = np.random.default_rng(1)
    seeds = [{"loss": pd.Series(rng.standard_normal(len(STEPS)), STEPS)} for _ in range(8)]
    states = fit_states(seeds, most=3)
    assert states.n_states == 1
    assert states.bic.is_monotonic_increasing
    assert states.list_moves().empty
    assert states.list_orders() == [(0,)] * 8


def test_shuffled_steps_have_states_and_no_order():
    """The same values at other steps: as many states, between which seeds go to and fro."""
    rng = np.random.default_rng(2)
    _, seeds = draw_seeds()
    shuffled = []
    for seed in seeds:
        places = rng.permutation(len(STEPS))
        shuffled.append({name: curve.iloc[places].set_axis(STEPS) for name, curve in seed.items()})
    states = fit_states(shuffled, most=3)
    assert states.n_states == 2
    assert len(states.list_moves()) > 20 * len(seeds) / 2
    assert fit_states(seeds, most=3).bic[2] < states.bic[2] - 100


def test_states_are_those_of_the_curves_alone():
    _, seeds = draw_seeds(detour=(2, 3))
    first = fit_states(seeds, most=3)
    again = fit_states([dict(reversed(seed.items())) for seed in seeds], most=3)
    pd.testing.assert_series_equal(first.bic, again.bic)
    scaled = fit_states(
        [{name: 5 - 3 * curve for name, curve in seed.items()} for seed in seeds], 3
    )
    assert first.list_orders() == scaled.list_orders()
    shorter = fit_states([seeds[0], {name: curve[::2] for name, curve in seeds[1].items()}], 2)
    assert [len(path) for path in shorter.paths] == [60, 30]


def test_a_constant_measure_is_no_harm():
    _, seeds = draw_seeds()
    constant = [seed | {"accuracy": pd.Series(1.0, STEPS)} for seed in seeds]
    assert fit_states(constant, most=3).n_states == 2


def test_bad_seeds_are_refused(monkeypatch):
    _, seeds = draw_seeds()
    one, other = seeds[:2]
    holes = one["loss"].where(STEPS != 40)
    refused = {
        "there are none": [],
        "seed 1 has no measures": [one, {}],
        "seed 1 has loss, but seed 0 has loss, order": [one, {"loss": one["loss"]}],
        "the measures of seed 0 must be over": [{"loss": one["loss"], "order": one["order"][1:]}],
        "seed 1 has values that are not finite": [other, one | {"loss": holes}],
        "3 checkpoints have 1 to 3 states, got 6": [
            {name: x[:3] for name, x in one.items()},
            other,
        ],
    }
    for words, curves in refused.items():
        with pytest.raises(BadInput, match=words):
            fit_states(curves)

    load = builtins.__import__

    def miss(name, *arguments):
        if name.startswith("hmmlearn"):
            raise ImportError(name)
        return load(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", miss)
    with pytest.raises(BadInput, match=r"pip install 'toyvit\[hmm\]'"):
        fit_states(seeds)


def test_the_largest_jump_that_lasts_is_the_rivals_onset():
    """Of the detour's two moves the second is the larger; where a state comes again, none lasts."""
    places, seeds = draw_seeds(detour=(1,))
    table = rival.date_jumps(fit_states(seeds, most=3))
    assert (np.abs(table["step"] - STEPS[places]) <= 20).all()
    assert (table["jump"] > 1.5).all()

    rng = np.random.default_rng(0)
    back = [draw_seed(rng, [(20, 1), (40, 0)]) for _ in range(6)]
    moves = fit_states(back, most=2).list_moves()
    assert moves["lasts"].tolist() == [False, True] * 6


def test_the_rivals_threshold_calls_one_null_in_twenty():
    """Of two families of nulls one has a curve of ten that jumps further than all others."""
    rows = [("a", 0, jump / 10, np.nan) for jump in range(9)] + [("a", 0, 5.0, 300.0)]
    rows += [("b", 0, 0.2, np.nan)] * 10
    rows += [("p", 1, 0.85, 500.0), ("p", 1, 0.7, np.nan)]
    frame = pd.DataFrame(rows, columns=["family", "planted", "jump", "detected"])
    assert rival.choose_jump(frame) == pytest.approx(0.8)

    frame = frame.assign(n_states=2, step_error=0.1, detected_error=np.nan)
    table = rival.measure_comparison(frame).set_index("family")
    assert table.loc["p", ["detector", "any", "two", "jump"]].tolist() == [0.5, 1, 1, 0.5]
    assert table.loc["b", ["detector", "any", "two", "jump"]].tolist() == [0, 1, 1, 0]
    assert table.loc["p", "rival_20"] == 1


def test_runs_are_judged_by_both(monkeypatch):
    places, seeds = draw_seeds(n=4)
    runs = [SimpleNamespace(name=f"seed-{n}", config=SimpleNamespace(train=None)) for n in range(4)]
    curves = {run.name: seed for run, seed in zip(runs, seeds, strict=True)}
    monkeypatch.setattr(rival_runs, "_collect_curves", lambda run: curves[run.name])
    states, table = rival_runs.compare_runs(runs)
    assert states.list_orders() == [(0, 1)] * 4
    assert table["run"].tolist() == [run.name for run in runs]
    assert table["order"].tolist() == ["0 1"] * 4
    assert (np.abs(table["detected"] - STEPS[places]) <= 40).all()
    assert table["step"].tolist() == STEPS[places].tolist()


@pytest.mark.slow
def test_the_rival_calls_what_is_smooth():
    """Why it is no detector: it cuts a smooth curve into states, and dates clear changes well."""
    families = ("exponential", "width 0.125, noise 0.01")
    frame = pd.concat([rival._compare_group(family, 2, 0) for family in families])
    table = rival.measure_comparison(frame).set_index("family")
    smooth = table.loc["exponential"]
    planted = table.loc[families[1]]
    assert (smooth["detector"], smooth["any"] > 0.5) == (0, True)
    assert (planted["detector"], planted["any"] > 0.8) == (1, True)
    assert abs(planted["detector_off"]) < 0.05
