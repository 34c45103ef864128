"""How much better a curve is fitted by a fast S than by slow ones: the statistic of `transitions`.

Time is the logarithm of the step. A curve is fitted twice by least squares, each time with a
constant, a slow S and one more S: a slow one (a smooth curve) or a fast one (a transition). Slow
means that 10 % to 90 % takes at least the steps before the 10 % point (width >= 1; an exponential
approach from step 0 has 20.9), fast that it takes half of them or fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from toyvit.errors import BadInput

Array = NDArray[np.float64]

LEAST_POINTS = 40  # with 24 to 30, one curve of noise in eight passes for a transition
LEAST_SHARE = 1 / 3  # of the range of the curve; a smaller change is part of something else
BEFORE = 5  # checkpoints before a change, at least
AFTER = 3  # and after it
# The plateau's level is read from onset / NEAR on, the level after up to end * NEAR; further for a
# long change.
NEAR = 1.25
FAST = (1 / 16, 1 / 11, 1 / 8, 1 / 6, 1 / 4, 1 / 3, 2 / 5, 1 / 2)
SLOW = (1.0, 2.0, 4.0, 10.0, 30.0, 100.0, 1000.0)
# Of the variance: what a measure is trusted to, so that a misfit of 1 % of the sd is no evidence.
FLOOR = 1e-4


class Change(NamedTuple):
    """The change of a curve, or of several together, that looks most like a transition."""

    statistic: float  # 0 where its share of the range is too small
    onset: float  # step
    end: float  # step
    size: float


class Clock(NamedTuple):
    """What depends on the steps alone: the shapes that are fitted, one a row, mean 0 and norm 1."""

    steps: Array
    slow: Array
    fast: Array
    background: Array  # the logistic ones of the slow
    windows: Array  # 10 % and 90 % point of each fast shape, steps


def check_curve(steps: ArrayLike, values: ArrayLike) -> tuple[Clock, Array]:
    """The clock of a curve and its values, or BadInput that says what is wrong with them."""
    t = np.asarray(steps, dtype=float)
    y = np.asarray(values, dtype=float)
    if t.shape != y.shape or t.ndim != 1:
        shapes = f"there are steps of shape {t.shape} and values of shape {y.shape}"
        raise BadInput(f"a curve is one value a step, but {shapes}")
    if len(t) < LEAST_POINTS:
        needed = f"at least {LEAST_POINTS} are needed"
        raise BadInput(f"{len(t)} checkpoints are too few for a verdict: {needed}")
    if not np.isfinite(t).all() or t[0] < 0 or (np.diff(t) <= 0).any():
        raise BadInput("steps must be finite, 0 or more, and ascend without repetition")

    bad = t[~np.isfinite(y)]
    if len(bad):
        where = f"from step {bad[0]:g} to {bad[-1]:g}"
        raise BadInput(f"{len(bad)} of {len(y)} values are not finite, {where}: leave them out")
    return build_clock(tuple(t.tolist())), y


@lru_cache(8)
def build_clock(steps: tuple[float, ...]) -> Clock:
    """The shapes of a schedule of checkpoints; BadInput for too short a stretch."""
    t = np.array(steps)
    time = np.log(np.maximum(t, t[t > 0][0] / 2))
    slow, _ = _build_shapes(time, np.linspace(time[0] - 1, time[-1], 20), SLOW)
    fast, windows = _build_shapes(time, time[BEFORE:-AFTER], FAST)
    windows -= 1e-9  # so that a checkpoint on a bound counts, whatever the rounding

    whole = windows[:, 1] <= time[-AFTER - 1]
    if not whole.any():
        raise BadInput(
            f"steps {steps[0]:g} to {steps[-1]:g} are too short a stretch "
            "to see a plateau and a change in"
        )
    background = _normalize(slow[::3])
    return Clock(t, _normalize(slow), _normalize(fast[whole]), background, np.exp(windows[whole]))


def _build_shapes(time: Array, onsets: Array, widths: Sequence[float]) -> tuple[Array, Array]:
    """S curves of every onset and width, (shape, step), and their 10 % and 90 % points.

    Of each a logistic, an early riser and a late riser.
    """
    grids = np.meshgrid(onsets, np.log1p(widths), indexing="ij")
    starts, lengths = (grid.ravel() for grid in grids)
    z = (time - starts[:, None]) / lengths[:, None]  # 0 at the 10 % point, 1 at the 90 % point
    logistic = expit(np.log(81) * (z - 0.5))
    shapes = np.stack([logistic, _rise_early(z), 1 - _rise_early(1 - z)], axis=1)
    windows = np.stack([starts, starts + lengths], axis=1)
    return shapes.reshape(-1, len(time)), np.repeat(windows, 3, axis=0)


def _rise_early(z: Array) -> Array:
    """1 - exp(-(step/tau)^k), which for width 20.9 is an exponential approach."""
    low = -np.log(0.9)
    high = -np.log(0.1)
    return -np.expm1(-low * np.exp(np.log(high / low) * np.minimum(z, 3)))


def _normalize(x: Array) -> Array:
    """Every row with mean 0 and norm 1."""
    x = x - x.mean(-1, keepdims=True)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9)


def find_strongest(clock: Clock, curves: Sequence[Array]) -> Change:
    """The change that looks most like a transition, at an onset and width common to all curves.

    Its size is in the units of a single curve; of several curves it is their mean share of the
    range, without sign.
    """
    units = [_normalize(curve) for curve in curves]
    evidence = [_weigh_shapes(clock, y) for y in units]
    mean = np.mean([scores for scores, _ in evidence], axis=0)
    best = int(mean.argmax())
    onset, end = clock.windows[best]

    levels = [_read_levels(clock.steps, y, onset, end) for y in units]
    shares = []
    for y, (_, partners), (_, rise) in zip(units, evidence, levels, strict=True):
        span = float(np.ptp(_fit_pair(clock, y, best, partners[best])))
        shares.append(abs(rise) / max(span, 1e-9))
    share = float(np.mean(shares))
    size = share
    if len(curves) == 1:
        size = levels[0][1] * float(np.linalg.norm(curves[0] - curves[0].mean()))

    pairs = zip(units, levels, strict=True)
    ways = [(y - plateau) / (rise or np.inf) for y, (plateau, rise) in pairs]
    way: Array = np.mean(ways, axis=0)
    statistic = float(mean[best]) if share > LEAST_SHARE else 0.0
    return Change(statistic, *_find_crossings(clock.steps, way, onset, end), size)


def _weigh_shapes(clock: Clock, y: Array) -> tuple[Array, NDArray[np.intp]]:
    """Of one curve: the statistic of every fast shape, and the background best with each."""
    smooth = _measure_unexplained(clock.slow, clock.background, y).min()
    abrupt = _measure_unexplained(clock.fast, clock.background, y)
    left = abrupt.min(axis=1)
    partners = abrupt.argmin(axis=1)

    best = int(left.argmin())
    rest = y - _fit_pair(clock, y, best, partners[best])
    r = float(np.clip(rest[1:] @ rest[:-1] / (rest @ rest + FLOOR), 0, 0.99))
    return np.asarray(len(y) * (1 - r) / (1 + r) * np.log(smooth / left)), partners


def _measure_unexplained(shapes: Array, background: Array, y: Array) -> Array:
    """Share of the variance of `y` left by every pair of a shape and a background, plus FLOOR.

    `y` has mean 0 and norm 1.
    """
    overlap = shapes @ background.T
    alone = background @ y
    further = (shapes @ y)[:, None] - overlap * alone
    return np.maximum(1 - alone**2 - further**2 / np.maximum(1 - overlap**2, 0.01), 0) + FLOOR


def _fit_pair(clock: Clock, y: Array, shape: int, partner: int) -> Array:
    """The least-squares fit of a curve by a fast shape and a background."""
    x = np.stack([clock.fast[shape], clock.background[partner]], axis=1)
    return np.asarray(x @ np.linalg.lstsq(x, y)[0])


def _read_levels(steps: Array, y: Array, onset: float, end: float) -> tuple[float, float]:
    """The plateau (median just before a change), and how far from it the median just after is."""
    left = np.searchsorted(steps, onset)
    right = np.searchsorted(steps, end, "right")
    near = max(NEAR, end / onset)
    start, stop = np.searchsorted(steps, (onset / near, end * near))
    plateau = np.median(y[min(start, left - AFTER) : left])
    return float(plateau), float(np.median(y[right : max(stop, right + AFTER)]) - plateau)


def _find_crossings(steps: Array, way: Array, onset: float, end: float) -> tuple[float, float]:
    """First checkpoints past 10 % and 90 % of the way.

    They are sought from the first past half of it, back and on.
    """
    left = int(np.searchsorted(steps, onset))
    past = np.flatnonzero(way[left:] >= 0.5)
    middle = left + int(past[0]) if len(past) else int(np.searchsorted(steps, np.sqrt(onset * end)))

    below = np.flatnonzero(way[:middle] <= 0.1)
    above = np.flatnonzero(way[middle:] >= 0.9)
    first = below[-1] + 1 if len(below) else middle
    last = middle + above[0] if len(above) else np.searchsorted(steps, end)
    return float(steps[first]), float(steps[last])
