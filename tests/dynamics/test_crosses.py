"""Shares of variance in a cross: planted shares, what their intervals hold, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from toyvit.dynamics import crosses
from toyvit.dynamics.crosses import FACTORS, split_variance
from toyvit.errors import BadInput


def draw_normal(random, shape):
    return random.standard_normal(shape)


def draw_skewed(random, shape):
    """Mean 0, variance 1, skewness 1."""
    return (random.gamma(4, 1, shape) - 4) / 2


def draw_cross(shares, shape, seed, draw=draw_normal):
    """A table whose effects have these variances."""
    random = np.random.default_rng(seed)
    rows, columns, rest = (value**0.5 for value in shares)
    n_rows, n_columns = shape
    return (
        5
        + rows * draw(random, (n_rows, 1))
        + columns * draw(random, (1, n_columns))
        + rest * draw(random, (n_rows, n_columns))
    )


def test_the_sums_of_squares_are_those_of_loops():
    table = draw_cross((0.5, 0.2, 0.3), (5, 4), 0)
    mean = table.mean()
    rows = sum(4 * (row.mean() - mean) ** 2 for row in table)
    columns = sum(5 * (column.mean() - mean) ** 2 for column in table.T)
    whole = np.square(table - mean).sum()
    expected = [rows, columns, whole - rows - columns]
    assert crosses._sum_squares(table) == pytest.approx(expected)


@pytest.mark.parametrize("factor", FACTORS)
def test_a_cross_of_one_factor_alone_gives_it_all(factor):
    shares = [float(name == factor) for name in FACTORS]
    cross = split_variance(draw_cross(shares, (40, 30), 1))
    for name in FACTORS:
        assert getattr(cross, name).value == pytest.approx(float(name == factor), abs=0.06)


def test_shares_are_shares_and_do_not_depend_on_scale_or_order():
    table = draw_cross((0.6, 0.1, 0.3), (8, 6), 2)
    cross = split_variance(table)
    values = [getattr(cross, name) for name in FACTORS]
    assert sum(share.value for share in values) == pytest.approx(1)
    assert all(0 <= share.low <= share.high <= 1 for share in values)
    turned = split_variance(table.T)
    assert turned.stream.value == pytest.approx(cross.weights.value)
    moved = split_variance(3 * table[::-1, ::-1] - 7)
    assert moved.weights == pytest.approx(cross.weights)


@pytest.mark.parametrize(
    ("draw", "least"), [(draw_normal, 0.90), (draw_skewed, 0.82)], ids=["normal", "skewed"]
)
@pytest.mark.parametrize("shares", [(0.77, 0, 0.23), (0.5, 0.1, 0.4), (0, 0.2, 0.8)])
def test_intervals_hold_the_truth_about_as_often_as_they_say(shares, draw, least, monkeypatch):
    monkeypatch.setattr(crosses, "DRAWS", 1_000)
    hits = np.zeros(3)
    for seed in range(150):
        cross = split_variance(draw_cross(shares, (12, 8), seed, draw), seed=seed)
        for place, (name, truth) in enumerate(zip(FACTORS, shares, strict=True)):
            share = getattr(cross, name)
            hits[place] += share.low <= truth <= share.high
    assert (hits / 150 >= least).all()


def test_what_is_no_cross_is_refused():
    with pytest.raises(BadInput, match="at least 3 first weights and 3 data streams"):
        split_variance([[1, 2, 3], [1, 2, 3]])
    with pytest.raises(BadInput, match="no finite number"):
        split_variance([[1, 2, np.inf], [1, 2, 3], [1, 2, 3]])
    assert np.isnan(split_variance(np.ones((3, 3))).weights.value)
