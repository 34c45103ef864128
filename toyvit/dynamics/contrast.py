"""How much more a curve changes within a window of time than beside it: the detector's statistic.

Time is the logarithm of the sum of learning rates, so that a change is short or long against the
training that came before it, whatever the schedule. A window is a pair of checkpoints at most
ln 1.5 apart; its flanks are the stretches before and after it. With d the change of level within
the window and e the changes along the flanks, the contrast is

    |d| - SHARE (|d| + |e before| + |e after|)

over the standard deviation of a change of level across as many checkpoints nearby. It is negative,
however little the noise, for every S that rises slowly: one whose 10 % to 90 % takes the training
that came before has |d| / (|d| + |e|) of 0.51 at most, one that takes a half of it 0.70, a quarter
0.91 (tested). No published statistic exists. Levels are running medians; so that crashes which
recover hide no change, rises are also sought in curves whose dips are filled, and falls in those
without bumps.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import grey_closing, median_filter
from scipy.stats import norm

from toyvit.errors import BadInput

Array = NDArray[np.float64]
Places = NDArray[np.intp]

LEAST_POINTS = 40  # a shorter record of noise has no noise to compare a change with
WIDTHS = (1 / 16, 1 / 11, 1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2)  # of windows, against the time before
SHARE = 0.65
LEAST_SIZE = 0.15  # of the range of the curve: smaller changes are part of something else
BEFORE = 3  # checkpoints before a window
AFTER = 3  # and after it: also the least flank, which a spike does not outlast
REST = 0.25  # of the window's length, that has to follow it
FLANK = np.log(1.2)  # the least length of a flank
MEDIANS = (5, 11)  # checkpoints: of the running medians
FILLED = (9, 17)  # checkpoints: dips or bumps that are shorter are filled
NEARBY = 12  # checkpoints on each side that noise is read from, or three times the window's
TRIMMED = 0.3  # of the squared changes nearby, the largest: other changes are no noise
WALK = 1.2  # noise grows at most as that of a random walk, times this
FLOOR = 0.005  # of the range: what a measure is trusted to
_EDGE = norm.ppf(1 - TRIMMED / 2)
# Mean of the smallest 1 - TRIMMED of squared standard normal numbers.
GAUSSIAN = 1 - 2 * _EDGE * norm.pdf(_EDGE) / (1 - TRIMMED)


class Clock(NamedTuple):
    """What depends on the checkpoints alone."""

    steps: Array
    time: Array  # sum of learning rates, in steps at the full rate
    log: Array  # its logarithm
    windows: Places  # first and last checkpoint of each, (window, 2)


class View(NamedTuple):
    """A curve of levels, and the sign of the changes that are sought in it (0: both)."""

    levels: Array
    sign: int


class Candidate(NamedTuple):
    """A window in which a curve changes more than beside it."""

    score: float
    first: int  # checkpoint
    last: int  # checkpoint
    size: float  # in units of the values
    view: int  # in which it was seen


def check_curve(
    steps: ArrayLike, values: ArrayLike, time: ArrayLike | None = None
) -> tuple[Clock, Array]:
    """The clock of a curve and its values, or BadInput that says what is wrong with them."""
    t = np.asarray(steps, dtype=float)
    y = np.asarray(values, dtype=float)
    spent = t if time is None else np.asarray(time, dtype=float)
    if t.shape != y.shape or t.ndim != 1:
        shapes = f"there are steps of shape {t.shape} and values of shape {y.shape}"
        raise BadInput(f"a curve is one value a step, but {shapes}")
    if len(t) < LEAST_POINTS:
        needed = f"at least {LEAST_POINTS} are needed"
        raise BadInput(f"{len(t)} checkpoints are too few for a verdict: {needed}")
    if not np.isfinite(t).all() or t[0] < 0 or (np.diff(t) <= 0).any():
        raise BadInput("steps must be finite, 0 or more, and ascend without repetition")
    _check_time(t, spent)

    bad = t[~np.isfinite(y)]
    if len(bad):
        where = f"from step {bad[0]:g} to {bad[-1]:g}"
        raise BadInput(f"{len(bad)} of {len(y)} values are not finite, {where}: leave them out")
    return build_clock(t.tobytes(), spent.tobytes()), y


def _check_time(steps: Array, time: Array) -> None:
    if time.shape != steps.shape:
        shapes = f"there are {len(steps)} steps and a time of shape {time.shape}"
        raise BadInput(f"time is one number a step, but {shapes}")
    if not np.isfinite(time).all() or time[0] < 0 or (np.diff(time) < 0).any():
        raise BadInput("time must be finite, 0 or more, and never fall: a sum of learning rates")


@lru_cache(8)
def build_clock(steps: bytes, time: bytes) -> Clock:
    """The windows of a schedule of checkpoints; BadInput for too short a stretch."""
    spent = np.frombuffer(time)
    if not spent[-1] > 0:
        raise BadInput("time never passes: all learning rates are 0")
    log = np.log(np.maximum(spent, spent[spent > 0][0] / 2))
    windows = _list_windows(log)
    if not len(windows):
        raise BadInput(
            f"time {spent[0]:g} to {spent[-1]:g} is too short a stretch "
            "to see a plateau and a change in"
        )
    return Clock(np.frombuffer(steps), spent, log, windows)


def _list_windows(log: Array) -> Places:
    """Every window that leaves room on both sides, one a row."""
    n = len(log)
    first = np.arange(BEFORE, n)
    pairs = []
    for width in WIDTHS:
        last = np.searchsorted(log, log[first] + np.log1p(width) - 1e-9)
        pairs.append(np.stack([first, np.maximum(last, first + 1)], axis=1))

    windows = np.unique(np.concatenate(pairs), axis=0)
    windows = windows[windows[:, 1] < n - AFTER]
    length = log[windows[:, 1]] - log[windows[:, 0]]
    left = log[-1] - log[windows[:, 1]]
    fits = (length <= np.log(1.5) + 1e-9) & (length > 0) & (left >= REST * length)
    return np.asarray(windows[fits], dtype=np.intp)


def build_views(values: Array) -> list[View]:
    """The levels of a curve: running medians, and the finest with its dips and bumps filled."""
    medians = [median_filter(values, size, mode="nearest") for size in MEDIANS]
    views = [View(levels, 0) for levels in medians]
    for size in FILLED:
        views.append(View(grey_closing(medians[0], size, mode="nearest"), 1))
        views.append(View(-grey_closing(-medians[0], size, mode="nearest"), -1))
    return views


def find_candidates(clock: Clock, views: Sequence[View], least: float) -> list[Candidate]:
    """The windows that score at least so much, in order of time, no two of which overlap."""
    span = float(np.ptp(views[0].levels))
    if not span > 0:
        return []
    candidates: list[Candidate] = []
    for place, view in enumerate(views):
        scores, sizes = _score_windows(clock, view.levels, span)
        for window in np.flatnonzero((scores >= least) & (sizes * view.sign >= 0)):
            first, last = clock.windows[window].tolist()
            candidates.append(
                Candidate(float(scores[window]), first, last, float(sizes[window]), place)
            )

    chosen: list[Candidate] = []
    for candidate in sorted(candidates, reverse=True):
        if all(candidate.last <= c.first or candidate.first >= c.last for c in chosen):
            chosen.append(candidate)
    return sorted(chosen, key=lambda candidate: candidate.first)


def _score_windows(clock: Clock, levels: Array, span: float) -> tuple[Array, Array]:
    """The contrast of every window over its noise, and its change of level.

    -inf where the contrast is negative or the change small: their noise is not read.
    """
    first, last = clock.windows.T
    sizes = levels[last] - levels[first]
    beside = _measure_flanks(clock, levels)
    surplus = np.abs(sizes) - SHARE * (np.abs(sizes) + beside)

    scores = np.full(len(sizes), -np.inf)
    stand = np.flatnonzero((surplus > 0) & (np.abs(sizes) > LEAST_SIZE * span))
    noise = np.hypot(_measure_noise(clock.windows[stand], levels), FLOOR * span)
    scores[stand] = surplus[stand] / noise
    return scores, sizes


def _measure_flanks(clock: Clock, levels: Array) -> Array:
    """Changes along both flanks of every window: the largest of three lengths of flank.

    As long as the window, FLANK at least, and AFTER checkpoints. A flank that the run's end cuts is
    continued at its own speed.
    """
    first, last = clock.windows.T
    log = clock.log
    length = log[last] - log[first]
    near = log[first] - log[first - BEFORE], log[last + AFTER] - log[last]
    flanks = ((length, length), (np.maximum(length, FLANK),) * 2, near)

    changes = []
    for before, after in flanks:
        start = np.interp(log[first] - before, log, levels)
        left = np.minimum(after, log[-1] - log[last])
        end = np.interp(log[last] + left, log, levels)
        longer = np.maximum(np.minimum(length, after) / left, 1)
        changes.append(np.abs(levels[first] - start) + longer * np.abs(end - levels[last]))
    return np.asarray(np.max(changes, axis=0))


def _measure_noise(windows: Places, levels: Array) -> Array:
    """Standard deviation of a change across as many checkpoints as each window, read nearby.

    Equal levels in a row count once: a value that is repeated says nothing about the noise.
    """
    moves = np.concatenate([[True], np.diff(levels) != 0])
    y = levels[moves]
    first, last = (np.cumsum(moves) - 1)[windows].T
    lags = np.maximum(last - first, 1)

    noise = np.zeros(len(windows))
    for lag in np.unique(lags):
        rows = np.flatnonzero(lags == lag)
        reach = max(3 * lag, NEARBY)
        direct = _read_changes(y, first[rows], last[rows], lag, reach)
        single = _read_changes(y, first[rows], last[rows], 1, reach)
        smaller = np.fmin(direct, WALK**2 * lag * single)
        noise[rows] = np.sqrt(np.nan_to_num(smaller))  # 0 where levels hardly ever change
    return noise


def _read_changes(y: Array, first: Places, last: Places, lag: int, reach: int) -> Array:
    """Mean squared change across `lag` values, over windows: up to `reach` before and after each.

    Of the smallest 1 - TRIMMED of them, corrected as for Gaussian noise. NaN where fewer than four
    can be read.
    """
    starts = np.arange(reach - lag + 1)
    before = first[:, None] - reach + starts
    after = last[:, None] + starts
    places = np.concatenate([before, after], axis=1)
    exists = (places >= 0) & (places + lag < len(y))
    exists[:, : len(starts)] &= before + lag <= first[:, None]

    inside = np.where(exists, places, 0)
    ends = np.where(exists, places + lag, 0)
    squares = np.sort(np.where(exists, (y[ends] - y[inside]) ** 2, np.inf), axis=1)
    n = exists.sum(axis=1)
    n_small = np.ceil(n * (1 - TRIMMED)).astype(int)
    counts = np.arange(squares.shape[1]) < n_small[:, None]
    total = np.where(counts, squares, 0).sum(axis=1)
    return np.where(n >= 4, total / np.maximum(n_small, 1) / GAUSSIAN, np.nan)
