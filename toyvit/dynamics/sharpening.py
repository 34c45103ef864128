"""Does a change sharpen with size? Its length over its onset against the size, over seeds.

A transition in the sense of physics becomes ever sharper as the system grows; a change that keeps
its shape, and only comes later, does not. Sizes are numbers of pairs, widths of a model or amounts
of data, at a fixed scale of the first weights. The slope of ln(length / onset) over ln(size) is
fitted to all seeds, with an interval by a bootstrap over the seeds of each size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.random import default_rng
from numpy.typing import NDArray
from scipy.stats import norm, t as student

from toyvit.dynamics.order import COVERAGE, median_interval
from toyvit.dynamics.transitions import relative_width
from toyvit.errors import BadInput

Array = NDArray[np.float64]
Window = tuple[float, float]  # 10 % and 90 % point of a change, in time: the sum of learning rates

LEAST_SIZES = 3
LEAST_SEEDS = 3  # of a size, for a spread that means anything
LEAST_CHANGED = 0.8  # of the seeds of each size
SAME = 0.1  # of the slope: a tenfold size changes the length by a quarter at most
DRAWS = 4000


@dataclass(frozen=True)
class Sharpening:
    """How the relative length of a change goes with size.

    table      a row a size: `seeds`, how many of them `changed`, medians over these of `onset`
               and `length` ((end - onset) / onset), and the 95 % interval of the latter, `low` and
               `high`: NaN for fewer than six
    slope      of ln(length) over ln(size): 0 where the shape stays, -1 where the length in steps
               does not grow at all with an onset that goes with the size
    low, high  its 95 % interval by a bootstrap over the seeds of each size
    verdict    "sharpens" (the interval is below 0), "widens" (above), "stays" (within 0.1 of 0) or
               "undecided", also where fewer than 0.8 of a size's seeds change
    """

    table: pd.DataFrame
    slope: float
    low: float
    high: float
    verdict: str

    def __str__(self) -> str:
        return f"{self.verdict}: slope {self.slope:+.2f} ({self.low:+.2f} to {self.high:+.2f})"


def compare_sizes(changes: Mapping[float, Sequence[Window | None]]) -> Sharpening:
    """Whether changes sharpen with size; of each size a window a seed, None where none changes.

    BadInput for fewer than three sizes, sizes that are not positive, fewer than three seeds that
    change at a size.
    """
    if len(changes) < LEAST_SIZES:
        raise BadInput(f"sharpening needs {LEAST_SIZES} sizes or more, got {len(changes)}")
    if min(changes) <= 0:
        raise BadInput(f"sizes are positive numbers, got {min(changes):g}")

    sizes = sorted(changes)
    lengths = [_list_lengths(size, changes[size]) for size in sizes]
    table = pd.DataFrame([_describe_size(changes[size]) for size in sizes])
    table.index = pd.Index(sizes, name="size")

    x = np.log(sizes)
    slope = _fit_slope(x, lengths)
    low, high = _resample_slope(x, lengths)
    is_whole = bool((table["changed"] >= LEAST_CHANGED * table["seeds"]).all())
    verdict = _decide(low, high) if is_whole else "undecided"
    return Sharpening(table, slope, low, high, verdict)


def _list_lengths(size: float, changes: Sequence[Window | None]) -> Array:
    """ln of the relative length of every change."""
    lengths = np.log([relative_width(change) for change in changes if change])
    if len(lengths) < LEAST_SEEDS:
        needed = f"{LEAST_SEEDS} seeds that change"
        raise BadInput(f"size {size:g} has {len(lengths)} of {needed}")
    return lengths


def _describe_size(changes: Sequence[Window | None]) -> dict[str, float]:
    lengths = [relative_width(change) for change in changes if change]
    low, high = median_interval(lengths)
    return {
        "seeds": len(changes),
        "changed": len(lengths),
        "onset": float(np.median([change[0] for change in changes if change])),
        "length": float(np.median(lengths)),
        "low": low,
        "high": high,
    }


def _fit_slope(x: Array, lengths: Sequence[Array]) -> float:
    """Least squares over all seeds."""
    places = np.repeat(x, [len(values) for values in lengths])
    return float(np.polyfit(places, np.concatenate(lengths), 1)[0])


def _resample_slope(x: Array, lengths: Sequence[Array]) -> tuple[float, float]:
    """Percentiles of the slope over drawn seeds, each size's for itself.

    A few seeds drawn again spread less than new ones would: deviations are stretched by
    sqrt(n / (n - 1)), and the percentiles are those that Student's t has beyond the normal's.
    """
    rng = default_rng(0)
    drawn = []
    for values in lengths:
        n = len(values)
        stretched = values.mean() + (values - values.mean()) * np.sqrt(n / (n - 1))
        drawn.append(rng.choice(stretched, (DRAWS, n)))

    counts = np.array([len(values) for values in lengths])
    means = np.stack([values.mean(axis=1) for values in drawn], axis=1)
    centred = x - np.average(x, weights=counts)
    slopes = means @ (counts * centred) / (counts * centred**2).sum()

    freedom = int(counts.sum() - len(counts))
    outside = norm.sf(student.isf((1 - COVERAGE) / 2, freedom))
    low, high = np.quantile(slopes, [outside, 1 - outside])
    return float(low), float(high)


def _decide(low: float, high: float) -> str:
    if max(abs(low), abs(high)) <= SAME:
        return "stays"
    if high < 0:
        return "sharpens"
    return "widens" if low > 0 else "undecided"
