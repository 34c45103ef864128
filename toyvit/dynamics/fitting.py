"""When a change begins and ends, and how large it is: an S curve fitted around it.

By robust least squares (soft L1) over three shapes: a logistic, an early riser and a late riser.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import least_squares
from scipy.special import expit

from toyvit.dynamics.contrast import AFTER, BEFORE, FLANK, Array, Candidate, Clock

REACH = 1.5  # times the window's length, that are fitted on each side
LOW = -np.log(0.9)
HIGH = -np.log(0.1)
SKEWED = 1.25  # times less a skewed shape has to leave than the logistic, or noise chooses it
OUTLIER = 0.1  # of the change: residuals beyond it count by their size, not by its square


class Fit(NamedTuple):
    """An S: its 10 % and 90 % points in time, and its height."""

    onset: float
    end: float
    size: float


def _rise_logistic(z: Array) -> Array:
    return np.asarray(expit(np.log(81) * (z - 0.5)))


def _rise_early(z: Array) -> Array:
    """1 - exp(-(time/tau)^k) in the logarithm of time."""
    return -np.expm1(-LOW * np.exp(np.log(HIGH / LOW) * np.minimum(z, 3)))


def _rise_late(z: Array) -> Array:
    return 1 - _rise_early(1 - z)


# 0 at the 10 % point, 1 at the 90 % point
SHAPES: tuple[Callable[[Array], Array], ...] = (_rise_logistic, _rise_early, _rise_late)


def fit_change(
    clock: Clock, values: Array, levels: Array, candidate: Candidate, room: tuple[int, int]
) -> Fit:
    """The S that fits the values around a candidate best.

    `levels` are the view in which it was seen, `room` the first checkpoint that may be fitted and
    the one past the last, so that other changes stay outside.
    """
    span = _choose_span(clock, candidate, room)
    time = clock.time[span]
    y = values[span]
    unit = abs(candidate.size)
    starts = _guess_starts(clock, levels, candidate)

    best = None
    for shape in SHAPES:
        bias = 1.0 if shape is SHAPES[0] else SKEWED
        for start in starts:
            fit = least_squares(
                lambda p, shape=shape: _leave(p, shape, time, y) / unit,
                np.log(start),
                loss="soft_l1",
                f_scale=OUTLIER,
                max_nfev=40,
            )
            if best is None or bias * fit.cost < best[0]:
                best = (bias * fit.cost, fit.x, shape)

    assert best is not None, "there are shapes"
    onset, length = np.exp(best[1])
    heights, _ = _fit_heights(best[2]((time - onset) / length), y)
    return Fit(float(onset), float(onset + length), float(heights[1]))


def _choose_span(clock: Clock, candidate: Candidate, room: tuple[int, int]) -> slice:
    """The checkpoints that are fitted."""
    length = max(clock.log[candidate.last] - clock.log[candidate.first], FLANK)
    start = np.searchsorted(clock.log, clock.log[candidate.first] - REACH * length)
    stop = np.searchsorted(clock.log, clock.log[candidate.last] + REACH * length, "right")
    first = max(room[0], min(int(start), candidate.first - BEFORE - 1))
    return slice(first, min(room[1], max(int(stop), candidate.last + AFTER + 2)))


def _guess_starts(clock: Clock, levels: Array, candidate: Candidate) -> list[tuple[float, float]]:
    """Onset and length to start from: as crossed in the view, and as the window has them."""
    window = slice(candidate.first, candidate.last + 1)
    time = clock.time[window]
    whole = time[-1] - time[0]
    way = (levels[window] - levels[candidate.first]) / candidate.size

    fine = np.linspace(time[0], time[-1], 200)
    crossed = np.interp(fine, time, way)
    middle = int(np.argmax(crossed >= 0.5))
    onset = fine[np.flatnonzero(crossed[: middle + 1] <= 0.1)[-1]]
    end = fine[middle + int(np.argmax(crossed[middle:] >= 0.9))]
    guessed = (max(onset, time[0] + 1e-3 * whole), max(end - onset, 0.2 * whole))
    return [guessed, (time[0] + 0.1 * whole, 0.8 * whole)]


def _leave(p: Array, shape: Callable[[Array], Array], time: Array, y: Array) -> Array:
    """What an S of the logarithms of an onset and a length leaves unexplained."""
    onset, length = np.exp(p)
    _, rest = _fit_heights(shape((time - onset) / length), y)
    return rest


def _fit_heights(rise: Array, y: Array) -> tuple[Array, Array]:
    """The level before and the height of a rise by least squares, and the residuals."""
    x = np.stack([np.ones_like(rise), rise], axis=1)
    heights, *_ = np.linalg.lstsq(x, y, rcond=None)
    return np.asarray(heights), np.asarray(y - x @ heights)
