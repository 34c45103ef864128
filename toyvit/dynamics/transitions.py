"""Where a curve changes abruptly after a plateau: onset, end, size and confidence, or no transition.

Time is the logarithm of the step, so abrupt means short against the time that came before. A curve is fitted twice by least
squares, each time with a constant, a slow S and one more S: a slow one (a smooth curve) or a fast one (a transition). Slow
means that 10 % to 90 % takes at least the steps before the 10 % point (width >= 1; an exponential approach from step 0 has
20.9), fast that it takes half of them or fewer. The statistic is the log likelihood ratio n ln(RSS smooth / RSS transition),
n the number of independent checkpoints, n_all (1 - r)/(1 + r) with r the lag-1 correlation of the residuals. No published
statistic exists; the rates of error of this one are measured: `python -m toyvit.dynamics.calibration`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from scipy.stats import binom

from toyvit.errors import BadInput

Array = NDArray[np.float64]
Run = Mapping[str, pd.Series]

LEAST_RISE = 0.1
LEAST_POINTS = 40  # with 24 to 30, one curve of noise in eight passes for a transition
LEAST_SHARE = 1 / 3  # of the range of the curve; a smaller change is part of something else
BEFORE, AFTER = 5, 3  # checkpoints before and after a change, at least
NEAR = 1.25  # the plateau's level is read from onset / 1.25 on, the level after up to end * 1.25; further for a long change
FAST, SLOW = (
    (1 / 16, 1 / 11, 1 / 8, 1 / 6, 1 / 4, 1 / 3, 2 / 5, 1 / 2),
    (1.0, 2.0, 4.0, 10.0, 30.0, 100.0, 1000.0),
)
FLOOR = 1e-4  # of the variance: what a measure is trusted to, so that a misfit of 1 % of the sd is no evidence
ERROR_RATE = 0.03  # aimed at, so that what is measured stays under 0.05

# Share of null curves of the hardest family that score at least so much: 10,000 of calibration.stairs, stream CHOOSE.
NULL_SCORES = (0.95, 2.91, 4.57, 6.24, 9.11, 11.71, 14.62, 20.05, 25.14)
NULL_RATES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)


@dataclass(frozen=True)
class Transition:
    """One abrupt change.

    onset, end   steps: the first checkpoints past 10 % and 90 % of the way from the plateau's level to the level after
    size         level after minus plateau, in units of the values; negative where the curve falls
    confidence   0.97 to 0.999: share of null curves of the hardest family (noise in steps) that look less like a transition.
                 It is one minus a p-value, not the probability that there is a transition
    """

    onset: float
    end: float
    size: float
    confidence: float

    @property
    def width(self) -> float:
        """(end - onset) / onset: 0 where the change takes one checkpoint; rarely above 0.6."""
        return relative_width((self.onset, self.end))


@dataclass(frozen=True)
class Joint:
    """Verdicts on several runs.

    transitions  one a run, or None
    low, high    steps: 95 % bootstrap interval of the median onset over runs; too narrow with as few as five
    confidence   0 to 1: the probability that as many null runs give fewer transitions, at 3 % false positives each
    """

    transitions: tuple[Transition | None, ...]
    low: float
    high: float
    confidence: float


def detect(steps: ArrayLike, values: ArrayLike, events: Iterable[float] = ()) -> Transition | None:
    """The largest abrupt change of one curve, rising or falling; None where the curve is smooth or only noise.

    `events` are steps at which the learning rate jumps or bends (`config.rate_changes`): a change whose onset is no further
    from one than its own length and a checkpoint counts as the schedule's (None), and one that ends in the last two checkpoints
    as unfinished (None). BadInput for fewer than 40 checkpoints, or values that are not finite.
    """
    clock, curve = _series(steps, values)
    return _verdict(clock, [curve], events)


def detect_in_curve(values: pd.Series, events: Iterable[float] = ()) -> Transition | None:
    """The transition of a curve over steps (its index); None where there is none, or where it may not be judged."""
    try:
        return detect(values.index, values, events)
    except BadInput:
        return None


def detect_jointly(runs: Sequence[Run], events: Iterable[float] = ()) -> Joint:
    """One transition a run, shared by all its measures; `runs` are seeds, each with its measures as series over step.

    Within a run the measures' statistics are averaged at a common onset and width. Averaged, not added: measures of the same
    images are no independent evidence. The size is the mean over measures of the share of the range, without sign.
    """
    found = tuple(_jointly(run, events) for run in runs)
    onsets = np.array([[one.onset] for one in found if one])
    low, high = np.percentile(_medians(onsets), (2.5, 97.5)) if len(onsets) else (np.nan, np.nan)
    return Joint(
        found, float(low), float(high), float(binom.cdf(len(onsets) - 1, len(found), ERROR_RATE))
    )


def order_events(runs: Sequence[Run], events: Iterable[float] = ()) -> pd.DataFrame:
    """Which measure moves first: a row a measure, in order, from the runs (seeds) in which every measure has a transition.

    onset       median over runs of the step of the 10 % point
    lag         median over runs of the steps by which it comes after the first row's, in the same run
    low, high   95 % bootstrap interval of the lag over runs (2,000 draws); 0 in the first row
    first       share of draws in which no measure has a smaller median lag; ties count. 1 for all where all move together
    """
    found = [{name: detect(one.index, one, events) for name, one in run.items()} for run in runs]
    onsets = pd.DataFrame(
        [
            {name: one.onset for name, one in run.items() if one}
            for run in found
            if all(run.values())
        ]
    )
    if len(onsets) < 2:
        raise BadInput(
            f"an order needs 2 runs in which every measure has a transition, but there are {len(onsets)}"
        )
    if onsets.isna().any(axis=None):
        raise BadInput(
            f"every run must have the same measures, but not all have {', '.join(map(str, onsets))}"
        )
    centred = onsets.sub(onsets.mean(axis=1), axis=0).median().sort_values(kind="stable")
    lags = onsets[centred.index].sub(onsets[centred.index[0]], axis=0)
    draws = _medians(lags.to_numpy())
    low, high = np.percentile(draws, (2.5, 97.5), axis=0)
    first = (draws == draws.min(axis=1, keepdims=True)).mean(axis=0)
    columns = {"runs": len(lags), "onset": onsets.median(), "lag": lags.median()}
    return (
        pd.DataFrame(columns, lags.columns)
        .assign(low=low, high=high, first=first)
        .rename_axis("measure")
    )


def score_curve(steps: ArrayLike, values: ArrayLike) -> float:
    """The statistic behind `detect`: 0 or less where a smooth curve fits as well as a transition; no upper bound."""
    clock, curve = _series(steps, values)
    return _strongest(clock, [curve])[0]


def find_window(values: pd.Series, ceiling: float) -> tuple[int, int] | None:
    """Steps at 10 % and 90 % of the way from a ceiling to the last value (first crossings); `values` is indexed by step.

    None where the last value is less than 0.1 above the ceiling. Says nothing about how abrupt the rise is.
    """
    final = values.iloc[-1]
    if final < ceiling + LEAST_RISE:
        return None
    first, last = (
        int(values.index[values > ceiling + share * (final - ceiling)][0]) for share in (0.1, 0.9)
    )
    return first, last


def relative_width(rise: tuple[float, float]) -> float:
    """(step90 - step10) / step10; a rise from step 0 has none (infinite)."""
    return (rise[1] - rise[0]) / rise[0] if rise[0] else float("inf")


def _jointly(run: Run, events: Iterable[float]) -> Transition | None:
    found = [_series(one.index, one) for one in run.values()]
    if len({clock.steps.tobytes() for clock, _ in found}) != 1:
        raise BadInput(
            f"measures {', '.join(run)} must be over the same steps to be judged jointly"
        )
    return _verdict(found[0][0], [curve for _, curve in found], events)


def _verdict(clock: _Clock, curves: Sequence[Array], events: Iterable[float]) -> Transition | None:
    statistic, onset, end, size = _strongest(clock, curves)
    rate = float(np.exp(np.interp(statistic, NULL_SCORES, np.log(NULL_RATES))))
    length = end - clock.steps[clock.steps < onset][-1]
    scheduled = any(abs(event - onset) <= length for event in events)
    unfinished = (clock.steps >= end).sum() < AFTER
    return (
        None
        if rate > ERROR_RATE or scheduled or unfinished
        else Transition(onset, end, size, 1 - rate)
    )


def _medians(rows: Array) -> Array:
    """Medians over rows drawn with replacement, 2,000 times: (draw, column)."""
    picks = np.random.default_rng(0).integers(0, len(rows), (2000, len(rows)))
    return np.asarray(np.median(rows[picks], axis=1))


class _Clock(NamedTuple):
    """What depends on the steps alone: the shapes that are fitted, one a row, with mean 0 and norm 1."""

    steps: Array
    slow: Array
    fast: Array
    background: Array  # the logistic ones of the slow
    windows: Array  # 10 % and 90 % point of each fast shape, steps


@lru_cache(8)
def _clock(steps: tuple[float, ...]) -> _Clock:
    t = np.array(steps)
    time = np.log(np.maximum(t, t[t > 0][0] / 2))
    slow, _ = _shapes(time, np.linspace(time[0] - 1, time[-1], 20), SLOW)
    fast, windows = _shapes(time, time[BEFORE:-AFTER], FAST)
    windows -= 1e-9  # so that a checkpoint on a bound counts, whatever the rounding
    whole = windows[:, 1] <= time[-AFTER - 1]
    if not whole.any():
        raise BadInput(
            f"steps {steps[0]:g} to {steps[-1]:g} are too short a stretch to see a plateau and a change in"
        )
    return _Clock(t, _unit(slow), _unit(fast[whole]), _unit(slow[::3]), np.exp(windows[whole]))


def _shapes(time: Array, onsets: Array, widths: Sequence[float]) -> tuple[Array, Array]:
    """S curves of every onset and width, (shape, step): logistic, early riser, late riser; and their 10 % and 90 % points."""
    starts, lengths = (
        grid.ravel() for grid in np.meshgrid(onsets, np.log1p(widths), indexing="ij")
    )
    z = (time - starts[:, None]) / lengths[:, None]  # 0 at the 10 % point, 1 at the 90 % point
    shapes = np.stack([expit(np.log(81) * (z - 0.5)), _early(z), 1 - _early(1 - z)], axis=1)
    return shapes.reshape(-1, len(time)), np.repeat(
        np.stack([starts, starts + lengths], axis=1), 3, axis=0
    )


def _early(z: Array) -> Array:
    """1 - exp(-(step/tau)^k), which for width 20.9 is an exponential approach."""
    low, high = -np.log(0.9), -np.log(0.1)
    return -np.expm1(-low * np.exp(np.log(high / low) * np.minimum(z, 3)))


def _unit(x: Array) -> Array:
    x = x - x.mean(-1, keepdims=True)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9)


def _strongest(clock: _Clock, curves: Sequence[Array]) -> tuple[float, float, float, float]:
    """The change that looks most like a transition: its statistic (0 if its share is too small), onset, end, size."""
    units = [_unit(curve) for curve in curves]
    evidence = [_evidence(clock, y) for y in units]
    mean = np.mean([scores for scores, _ in evidence], axis=0)
    best = int(mean.argmax())
    levels = [_levels(clock.steps, y, *clock.windows[best]) for y in units]
    ranges = [
        float(np.ptp(_fit(clock, y, best, own[best])))
        for y, (_, own) in zip(units, evidence, strict=True)
    ]
    share = float(
        np.mean(
            [abs(rise) / max(span, 1e-9) for (_, rise), span in zip(levels, ranges, strict=True)]
        )
    )
    way: Array = np.mean(
        [
            (y - plateau) / (rise or np.inf)
            for y, (plateau, rise) in zip(units, levels, strict=True)
        ],
        axis=0,
    )
    size = (
        levels[0][1] * float(np.linalg.norm(curves[0] - curves[0].mean()))
        if len(curves) == 1
        else share
    )
    return (
        float(mean[best]) if share > LEAST_SHARE else 0.0,
        *_crossings(clock.steps, way, *clock.windows[best]),
        size,
    )


def _evidence(clock: _Clock, y: Array) -> tuple[Array, NDArray[np.intp]]:
    """Of one curve: the statistic of every fast shape, and the background that goes best with each."""
    smooth = _unexplained(clock.slow, clock.background, y).min()
    abrupt = _unexplained(clock.fast, clock.background, y)
    left, partners = abrupt.min(axis=1), abrupt.argmin(axis=1)
    best = int(left.argmin())
    rest = y - _fit(clock, y, best, partners[best])
    r = float(np.clip(rest[1:] @ rest[:-1] / (rest @ rest + FLOOR), 0, 0.99))
    return np.asarray(len(y) * (1 - r) / (1 + r) * np.log(smooth / left)), partners


def _unexplained(shapes: Array, background: Array, y: Array) -> Array:
    """Share of the variance of `y` (mean 0, norm 1) left by every pair of a shape and a background, plus FLOOR."""
    overlap = shapes @ background.T
    alone = background @ y
    further = (shapes @ y)[:, None] - overlap * alone
    return np.maximum(1 - alone**2 - further**2 / np.maximum(1 - overlap**2, 0.01), 0) + FLOOR


def _fit(clock: _Clock, y: Array, shape: int, partner: int) -> Array:
    x = np.stack([clock.fast[shape], clock.background[partner]], axis=1)
    return np.asarray(x @ np.linalg.lstsq(x, y)[0])


def _levels(steps: Array, y: Array, onset: float, end: float) -> tuple[float, float]:
    """The plateau (median just before a change), and how far from it the median just after is."""
    left, right = np.searchsorted(steps, onset), np.searchsorted(steps, end, "right")
    near = max(NEAR, end / onset)
    start, stop = np.searchsorted(steps, (onset / near, end * near))
    plateau = np.median(y[min(start, left - AFTER) : left])
    return float(plateau), float(np.median(y[right : max(stop, right + AFTER)]) - plateau)


def _crossings(steps: Array, way: Array, onset: float, end: float) -> tuple[float, float]:
    """First checkpoints past 10 % and 90 % of the way, sought from the first past half of it back and on."""
    left = int(np.searchsorted(steps, onset))
    past = np.flatnonzero(way[left:] >= 0.5)
    middle = left + int(past[0]) if len(past) else int(np.searchsorted(steps, np.sqrt(onset * end)))
    below, above = np.flatnonzero(way[:middle] <= 0.1), np.flatnonzero(way[middle:] >= 0.9)
    first = below[-1] + 1 if len(below) else middle
    last = middle + above[0] if len(above) else np.searchsorted(steps, end)
    return float(steps[first]), float(steps[last])


def _series(steps: ArrayLike, values: ArrayLike) -> tuple[_Clock, Array]:
    """The clock of a curve and its values, or BadInput that says what is wrong with them."""
    t, y = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    if t.shape != y.shape or t.ndim != 1:
        raise BadInput(
            f"a curve is one value a step, but there are steps of shape {t.shape} and values of shape {y.shape}"
        )
    if len(t) < LEAST_POINTS:
        raise BadInput(
            f"{len(t)} checkpoints are too few for a verdict: at least {LEAST_POINTS} are needed"
        )
    if not np.isfinite(t).all() or t[0] < 0 or (np.diff(t) <= 0).any():
        raise BadInput("steps must be finite, 0 or more, and ascend without repetition")
    if not np.isfinite(y).all():
        bad = t[~np.isfinite(y)]
        raise BadInput(
            f"{len(bad)} of {len(y)} values are not finite, from step {bad[0]:g} to {bad[-1]:g}: leave them out"
        )
    return _clock(tuple(t.tolist())), y
