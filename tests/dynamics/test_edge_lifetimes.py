"""Lives of edges: planted births and deaths are found, random circuits are as chance has it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from toyvit.dynamics.edge_lifetimes import (
    compare_runs,
    compare_steps,
    date_edges,
    jaccard,
    mark_alive,
    pivot_edge_scores,
)
from toyvit.errors import BadInput

STEPS = [0, 10, 20, 40, 80, 100]


def scores(**edges):
    return pd.DataFrame(edges, index=STEPS, dtype=float)


def test_planted_births_and_deaths():
    dates = date_edges(
        scores(
            always=[9, 9, 9, 9, 9, 10],
            born=[0, 0, 0, -5, -5, -9],
            dies=[2, 2, 2, 0.5, 0, 0],
            flickers=[0, 5, 0, 5, 0, 5],
            never=[0.9, 0.1, 0, 0, 0.9, 0.9],
        )
    )
    assert list(dates.index) == ["always", "dies", "born"]
    assert dates["birth"].tolist() == [0, 0, 40]
    assert dates["death"].isna().tolist() == [True, False, True]
    assert dates.loc["dies", "death"] == 40


def test_share_of_the_largest_score_decides_who_is_alive():
    frame = scores(large=[0, 1, 2, 4, 8, 10], small=[0.9, 1, 1.1, 0, 0, 0])
    assert mark_alive(frame)["small"].tolist() == [False, True, True, False, False, False]
    assert list(date_edges(frame, 0.05).index) == ["small", "large"]
    assert list(date_edges(frame, 0.5).index) == ["large"]
    assert mark_alive(frame, 0.5)["large"].tolist() == [False, False, False, False, True, True]


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
    between = compare_runs([same, same, -2 * same], 10)
    assert np.allclose(between, 1)
    assert jaccard(same.iloc[0], -same.iloc[0], 5) == 1


def test_what_was_not_measured_is_refused():
    frame = pd.DataFrame(
        {
            "analysis": "edges",
            "quantity": "edge_score",
            "change": "query",
            "edge": "a->b",
            "step": [0, 10],
            "value": [1.0, 2.0],
        }
    )
    assert pivot_edge_scores(frame, "query")["a->b"].tolist() == [1, 2]
    with pytest.raises(BadInput, match="change 'item': measured are"):
        pivot_edge_scores(frame, "item")
    with pytest.raises(BadInput, match="--analyses edges"):
        pivot_edge_scores(frame[:0], "item")
    with pytest.raises(BadInput, match="two runs"):
        compare_runs([pivot_edge_scores(frame, "query")], 3)
