"""Lives of edges: planted births and deaths are found, noise gives birth at the stated rate."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from toyvit.dynamics.edge_lifetimes import (
    compare_steps,
    compute_edge_shares,
    date_edges,
    jaccard,
    mark_alive,
    pivot_edge_scores,
)
from toyvit.errors import BadInput

STEPS = [0, 10, 20, 40, 80, 100]
N_PAIRS = 64


def table(scores, errors, effect, effect_error):
    """A run's rows of `edges`: scores and errors (step by edge), and the whole effect (step)."""
    frames = []
    for quantity, values in (("edge_score", scores), ("edge_error", errors)):
        long = values.rename_axis("step").reset_index().melt("step", var_name="edge")
        frames.append(long.assign(quantity=quantity))
    single = {
        "clean": effect,
        "corrupt": 0 * effect,
        "effect_error": effect_error,
        "pairs": 0 * effect + N_PAIRS,
    }
    for quantity, values in single.items():
        frame = pd.DataFrame({"step": values.index, "value": values.to_numpy()})
        frames.append(frame.assign(quantity=quantity, edge=None))
    return pd.concat(frames).assign(analysis="edges", change="query")


def plant(effect=10.0, error=0.1, steps=STEPS, **edges):
    """Rows of a run of a constant effect with these scores, each with the same error."""
    scores = pd.DataFrame(edges, index=steps, dtype=float)
    constant = pd.Series(effect, scores.index)
    return table(scores, 0 * scores + error, constant, 0 * constant + error)


def draw_run(seed, effect, n_edges=12, n_steps=60):
    """A run in which no edge carries anything: 64 pairs whose scores drift and have mean 0.

    Neighbouring checkpoints have correlation 0.9, as those of runs have; `effect` is the mean of
    clean minus corrupt.
    """
    generator = np.random.default_rng(seed)
    drift = generator.normal(size=(n_steps, N_PAIRS, n_edges))
    for step in range(1, n_steps):
        drift[step] = 0.9 * drift[step - 1] + np.sqrt(1 - 0.81) * drift[step]

    root = N_PAIRS**0.5
    scores = pd.DataFrame(drift.mean(1))
    errors = pd.DataFrame(drift.std(1, ddof=1) / root)
    constant = pd.Series(effect, scores.index, dtype=float)
    return table(scores, errors, constant, 0 * constant + 1 / root)


def test_planted_births_and_deaths():
    rows = plant(
        always=[-9, -9, -9, -9, -9, -10],
        born=[0, 0, -5, -5, -5, -9],
        dies=[2, 2, 2, 0.2, 0, 0],
        flickers=[5, 5, 0, 5, 5, 0],
        never=[0.2, 0.1, 0, 0, 0.2, 0.2],
        late=[0, 0, 0, 0, -9, -9],
    )
    edges = compute_edge_shares(rows, "query")
    assert edges.shares.loc[100].to_dict() == pytest.approx(
        {"always": 1, "born": 0.9, "dies": 0, "flickers": 0, "never": -0.02, "late": 0.9}
    )
    dates = date_edges(edges)
    assert list(dates.index) == ["always", "dies", "born"]
    assert dates["birth"].tolist() == [0, 0, 20]
    assert dates["death"].isna().tolist() == [True, False, True]
    assert dates.loc["dies", "death"] == 40


def test_a_birth_depends_on_nothing_that_comes_later():
    """Cut anywhere or grown a thousandfold later, what is born is born at the same step."""
    small = [0, 0, -1, -1, -1, -1]
    whole = date_edges(
        compute_edge_shares(plant(edge=[*small, *[-1000.0] * 4], steps=range(10)), "query")
    )
    cut = date_edges(compute_edge_shares(plant(edge=small, steps=range(6)), "query"))
    assert whole["birth"].tolist() == cut["birth"].tolist() == [2]
    before = date_edges(compute_edge_shares(plant(edge=small[:4], steps=range(4)), "query"))
    assert not len(before)


def test_a_share_is_of_the_effect_at_its_own_checkpoint_and_none_is_where_there_is_no_effect():
    scores = pd.DataFrame({"edge": [-1.0, -2.0, -4.0, -4.0]})
    effect = pd.Series([0.01, 4.0, 4.0, 8.0])
    rows = table(scores, 0 * scores + 0.1, effect, 0 * effect + 0.1)
    edges = compute_edge_shares(rows, "query")
    assert edges.shares["edge"].tolist() == pytest.approx([np.nan, 0.5, 1, 0.5], nan_ok=True)
    assert edges.band["edge"].isna().tolist() == [True, False, False, False]
    assert mark_alive(edges)["edge"].tolist() == [False, True, True, True]
    width = edges.band["edge"] * effect / 0.1
    assert width.iloc[1:].tolist() == pytest.approx([3.45] * 3, abs=0.01)  # 63 degrees, 0.0005


def test_where_no_edge_carries_anything_few_runs_have_a_birth():
    """Null: at most 5 % of runs, of 12 edges at 60 checkpoints; without an effect none at all.

    Of single checkpoints about one in 1,000 has an edge outside its band.
    """
    assert not len(date_edges(compute_edge_shares(draw_run(0, effect=0), "query")))
    n_births = 0
    n_alive = 0
    for seed in range(40):
        edges = compute_edge_shares(draw_run(seed, effect=5), "query")
        n_births += len(date_edges(edges)) > 0
        n_alive += int(mark_alive(edges).any(axis=1).sum())
    assert n_births <= 2
    assert 0 < n_alive <= 2400 * 0.003


@pytest.mark.slow
def test_the_same_circuit_twice_and_random_ones():
    """Truth: 1 and 1. Null: random sets of n of N share n / (2N - n), ranks do not correlate."""
    generator = np.random.default_rng(0)
    same = pd.DataFrame(np.tile(generator.normal(size=50), (6, 1)), index=STEPS)
    assert np.allclose(compare_steps(same, 10), 1)
    other = pd.DataFrame(generator.normal(size=(400, 50)), index=range(400))
    similarity = compare_steps(other, 10)
    assert similarity["jaccard"].mean() == pytest.approx(10 / 90, abs=0.02)
    assert abs(similarity["rank"].mean()) < 0.03
    assert jaccard(same.iloc[0], -same.iloc[0], 5) == 1


def test_what_was_not_measured_is_refused():
    frame = plant(**{"a->b": [1.0, 2, 3, 4, 5, 6]})
    assert pivot_edge_scores(frame, "query")["a->b"].tolist() == [1, 2, 3, 4, 5, 6]
    with pytest.raises(BadInput, match="change 'item': measured are"):
        pivot_edge_scores(frame, "item")
    with pytest.raises(BadInput, match="--analyses edges"):
        compute_edge_shares(frame[:0], "item")
    old = frame[frame["quantity"] != "edge_error"]
    with pytest.raises(BadInput, match="by an earlier version, without their errors"):
        compute_edge_shares(old, "query")
