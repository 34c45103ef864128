"""What decides an outcome, the first weights or the data stream: shares of variance in a cross.

Every first weights are trained on every data stream. Runs are exact, so nothing in such a table is
noise: what neither factor explains alone is their interaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from toyvit.errors import BadInput

FACTORS = ("weights", "stream", "interaction")
LEAST_LEVELS = 3  # of either factor
DRAWS = 20_000


class Share(NamedTuple):
    """A share of the variance, 0 to 1, and its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Cross:
    """Shares of the variance of one outcome over a cross of first weights and data streams."""

    weights: Share
    stream: Share
    interaction: Share


def split_variance(outcomes: ArrayLike, coverage: float = 0.95, seed: int = 0) -> Cross:
    """Shares of variance by first weights (rows), data stream (columns) and their interaction.

    Both factors are taken as drawn from many (random effects): components are the mean squares'
    expectations solved (Searle, Casella & McCulloch 1992, "Variance components", section 4.5), a
    negative one counts as 0. The interval is a generalised one (Weerahandi 1993): sums of squares
    over drawn chi squares; it needs effects that are about normal, which step counts are in their
    logarithm. Where all outcomes are equal, all shares are NaN. BadInput for fewer than three rows
    or columns, and for values that are no finite numbers.

    >>> split_variance([[1, 1, 1.1], [2, 2, 2], [3, 3.1, 3]]).weights.value > 0.9
    True
    """
    table = np.asarray(outcomes, float)
    if table.ndim != 2 or min(table.shape) < LEAST_LEVELS:
        wanted = f"at least {LEAST_LEVELS} first weights and {LEAST_LEVELS} data streams"
        raise BadInput(f"a cross needs {wanted}, got a table of shape {table.shape}")
    if not np.isfinite(table).all():
        raise BadInput("a cross has an outcome that is no finite number")

    n_rows, n_columns = table.shape
    degrees = np.array([n_rows - 1, n_columns - 1, (n_rows - 1) * (n_columns - 1)])
    sums = _sum_squares(table)
    if not sums.any():
        nothing = Share(nan, nan, nan)
        return Cross(nothing, nothing, nothing)
    point = _solve_components(sums[None] / degrees, table.shape)[0]

    chi_squares = np.random.default_rng(seed).chisquare(degrees, (DRAWS, len(degrees)))
    drawn = _solve_components(sums / chi_squares, table.shape)
    outside = (1 - coverage) / 2
    low, high = np.quantile(drawn, (outside, 1 - outside), axis=0)
    shares = [Share(*map(float, bounds)) for bounds in zip(point, low, high, strict=True)]
    return Cross(*shares)


def _sum_squares(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of squares of rows, columns and their interaction."""
    n_rows, n_columns = table.shape
    by_row = table.mean(1, keepdims=True) - table.mean()
    by_column = table.mean(0, keepdims=True) - table.mean()
    rest = table - table.mean() - by_row - by_column
    return np.array(
        [
            n_columns * np.square(by_row).sum(),
            n_rows * np.square(by_column).sum(),
            np.square(rest).sum(),
        ]
    )


def _solve_components(
    mean_squares: NDArray[np.float64], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Shares (draw, factor) of the variance components that give such mean squares."""
    rows, columns, rest = mean_squares.T
    components = np.stack([(rows - rest) / shape[1], (columns - rest) / shape[0], rest], -1)
    components = components.clip(min=0)
    shares: NDArray[np.float64] = components / components.sum(-1, keepdims=True)
    return shares
