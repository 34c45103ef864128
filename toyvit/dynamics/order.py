"""Which measure moves first: onsets and lags over seeds, with exact intervals of their medians."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from toyvit.config import TrainConfig
from toyvit.dynamics.transitions import Curves, detect_in_curve
from toyvit.errors import BadInput

LEAST_RUNS = 6  # for fewer no interval of a median has 95 %
COVERAGE = 0.95


def median_interval(values: ArrayLike, coverage: float = COVERAGE) -> tuple[float, float]:
    """Two order statistics between which the median of what was drawn from lies so often.

    Exact for any distribution (the number below the median is binomial), so rather wider than asked
    for; NaN where even the smallest and the largest value are too few: under six for 95 %.

    >>> median_interval([3, 1, 2, 6, 5, 4])
    (1.0, 6.0)
    >>> median_interval([1, 2, 3, 4, 5])
    (nan, nan)
    """
    from scipy.stats import binom  # slow to import, and seldom asked for

    ordered = np.sort(np.asarray(values, dtype=float))
    n = len(ordered)
    outside = 1 - coverage
    below = int(binom.ppf(outside / 2, n, 0.5)) if n else 0
    while below > 0 and 2 * binom.cdf(below - 1, n, 0.5) > outside:
        below -= 1
    if n == 0 or below == 0:
        return float("nan"), float("nan")
    return float(ordered[below - 1]), float(ordered[n - below])


def order_events(runs: Sequence[Curves], train: TrainConfig | None = None) -> pd.DataFrame:
    """Which measure moves first: a row a measure, in order of onset.

    Made from the runs (seeds) in which every measure changes abruptly; BadInput for fewer than six,
    the least for which an interval exists. To tell a lag of 20 steps between checkpoints 20 steps
    apart take 16 to 20 seeds and replay around each onset (`toyvit sweep --densify`).

    onset       median over runs of the step of the 10 % point
    lag         median over runs of the steps by which it comes after the first row's, in the same
                run
    low, high   interval of the lag: all of them hold their medians at once in 95 % (Bonferroni);
                NaN where that needs more runs, 0 in the first row
    first       share of runs in which no measure moves earlier; ties count. 1 for all where all
                move together
    """
    onsets = collect_onsets(runs, train)
    centred = onsets.sub(onsets.mean(axis=1), axis=0).median().sort_values(kind="stable")
    onsets = onsets[centred.index]
    lags = onsets.sub(onsets[centred.index[0]], axis=0)

    coverage = 1 - (1 - COVERAGE) / max(1, len(lags.columns) - 1)
    intervals = [median_interval(lags[name], coverage) for name in lags]
    intervals[0] = (0.0, 0.0)
    first = onsets.eq(onsets.min(axis=1), axis=0).mean()

    columns = {"runs": len(lags), "onset": onsets.median(), "lag": lags.median()}
    frame = pd.DataFrame(columns, lags.columns)
    frame[["low", "high"]] = intervals
    return frame.assign(first=first).rename_axis("measure")


def collect_onsets(runs: Sequence[Curves], train: TrainConfig | None = None) -> pd.DataFrame:
    """Onsets (run by measure) of the runs in which every measure changes abruptly."""
    rows = []
    for run in runs:
        changes = {name: detect_in_curve(curve, train) for name, curve in run.items()}
        if changes and all(changes.values()):
            rows.append({name: change.onset for name, change in changes.items() if change})

    onsets = pd.DataFrame(rows)
    if len(onsets) < LEAST_RUNS:
        needed = f"{LEAST_RUNS} runs in which every measure changes abruptly"
        raise BadInput(f"an order needs {needed}, but of {len(runs)} there are {len(onsets)}")
    if onsets.isna().any(axis=None):
        names = ", ".join(map(str, onsets))
        raise BadInput(f"every run must have the same measures, but not all have {names}")
    return onsets
