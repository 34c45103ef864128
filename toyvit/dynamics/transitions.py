"""Where a curve changes abruptly after a plateau: onset, end, size and confidence, or nowhere.

Time is the logarithm of the step, so abrupt means short against the time that came before. A curve
is fitted by slow S curves, and by a slow and a fast one (see `fitting`). The statistic is the log
likelihood ratio n ln(RSS smooth / RSS transition), n the number of independent checkpoints,
n_all (1 - r)/(1 + r) with r the lag-1 correlation of the residuals. No published statistic exists;
the rates of error of this one are measured: `python -m toyvit.dynamics.calibration`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from toyvit.dynamics.fitting import AFTER, Array, Change, Clock, check_curve, find_strongest
from toyvit.errors import BadInput

Curves = Mapping[str, pd.Series]  # the measures of a run, by name, over steps

LEAST_RISE = 0.1
ERROR_RATE = 0.03  # aimed at, so that what is measured stays under 0.05

# Share of null curves of the hardest family that score at least so much: 10,000 of
# calibration.stairs, stream CHOOSE.
NULL_SCORES = (0.95, 2.91, 4.57, 6.24, 9.11, 11.71, 14.62, 20.05, 25.14)
NULL_RATES = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)


@dataclass(frozen=True)
class Transition:
    """One abrupt change.

    onset, end   steps: the first checkpoints past 10 % and 90 % of the way from the plateau's level
                 to the level after
    size         level after minus plateau, in units of the values; negative where the curve falls
    confidence   0.97 to 0.999: share of null curves of the hardest family (noise in steps) that
                 look less like a transition. It is one minus a p-value, not the probability that
                 there is a transition
    """

    onset: float
    end: float
    size: float
    confidence: float

    @property
    def width(self) -> float:
        """(end - onset) / onset: 0 where it takes one checkpoint; rarely above 0.6."""
        return relative_width((self.onset, self.end))


@dataclass(frozen=True)
class Joint:
    """Verdicts on several runs.

    transitions  one a run, or None
    low, high    steps: 95 % bootstrap interval of the median onset over runs; too narrow with as
                 few as five
    confidence   0 to 1: the probability that as many null runs give fewer transitions, at 3 % false
                 positives each
    """

    transitions: tuple[Transition | None, ...]
    low: float
    high: float
    confidence: float


def detect(steps: ArrayLike, values: ArrayLike, events: Iterable[float] = ()) -> Transition | None:
    """The largest abrupt change of one curve; None where the curve is smooth or only noise.

    Rising or falling. `events` are steps at which the learning rate jumps or bends
    (`config.find_rate_changes`): a change whose onset is no further from one than its own length
    and a checkpoint counts as the schedule's (None), and one that ends in the last two checkpoints
    as unfinished (None). BadInput for fewer than 40 checkpoints, or values that are not finite.

    >>> steps = np.arange(0, 2001, 20)
    >>> rise = 1 / (1 + np.exp(-(steps - 1000) / 30))
    >>> transition = detect(steps, rise)
    >>> transition.onset, transition.end
    (940.0, 1080.0)
    >>> detect(steps, np.exp(-steps / 300)) is None
    True
    """
    clock, curve = check_curve(steps, values)
    change = _find_in_one(clock.steps.tobytes(), curve.tobytes())
    return _judge_change(clock, change, events)


@lru_cache(64)
def _find_in_one(steps: bytes, values: bytes) -> Change:
    """`find_strongest` in one curve: a report asks for the same ones again and again."""
    clock, curve = check_curve(np.frombuffer(steps), np.frombuffer(values))
    return find_strongest(clock, [curve])


def detect_in_curve(values: pd.Series, events: Iterable[float] = ()) -> Transition | None:
    """The transition of a curve over steps (its index).

    None where there is none, or where it may not be judged.
    """
    try:
        return detect(values.index, values, events)
    except BadInput:
        return None


def detect_jointly(runs: Sequence[Curves], events: Iterable[float] = ()) -> Joint:
    """One transition a run, shared by all its measures; `runs` are seeds, each with its measures.

    Within a run the measures' statistics are averaged at a common onset and width. Averaged, not
    added: measures of the same images are no independent evidence. The size is the mean over
    measures of the share of the range, without sign.
    """
    from scipy.stats import binom  # slow to import, and seldom asked for

    transitions = tuple(_detect_in_run(run, events) for run in runs)
    onsets = np.array([[change.onset] for change in transitions if change])
    confidence = float(binom.cdf(len(onsets) - 1, len(transitions), ERROR_RATE))
    if not len(onsets):
        return Joint(transitions, np.nan, np.nan, confidence)
    low, high = np.percentile(bootstrap_medians(onsets), (2.5, 97.5))
    return Joint(transitions, float(low), float(high), confidence)


def order_events(runs: Sequence[Curves], events: Iterable[float] = ()) -> pd.DataFrame:
    """Which measure moves first: a row a measure, in order of onset.

    Made from the runs (seeds) in which every measure has a transition.

    onset       median over runs of the step of the 10 % point
    lag         median over runs of the steps by which it comes after the first row's, in the same
                run
    low, high   95 % bootstrap interval of the lag over runs (2,000 draws); 0 in the first row
    first       share of draws in which no measure has a smaller median lag; ties count. 1 for all
                where all move together
    """
    onsets = _collect_onsets(runs, events)
    centred = onsets.sub(onsets.mean(axis=1), axis=0).median().sort_values(kind="stable")
    lags = onsets[centred.index].sub(onsets[centred.index[0]], axis=0)

    draws = bootstrap_medians(lags.to_numpy())
    low, high = np.percentile(draws, (2.5, 97.5), axis=0)
    first = (draws == draws.min(axis=1, keepdims=True)).mean(axis=0)

    columns = {"runs": len(lags), "onset": onsets.median(), "lag": lags.median()}
    frame = pd.DataFrame(columns, lags.columns).assign(low=low, high=high, first=first)
    return frame.rename_axis("measure")


def _collect_onsets(runs: Sequence[Curves], events: Iterable[float]) -> pd.DataFrame:
    """Onsets (run by measure) of the runs in which every measure has a transition."""
    rows = []
    for run in runs:
        changes = {name: detect(curve.index, curve, events) for name, curve in run.items()}
        if all(changes.values()):
            rows.append({name: change.onset for name, change in changes.items() if change})

    onsets = pd.DataFrame(rows)
    if len(onsets) < 2:
        needed = "2 runs in which every measure has a transition"
        raise BadInput(f"an order needs {needed}, but there are {len(onsets)}")
    if onsets.isna().any(axis=None):
        names = ", ".join(map(str, onsets))
        raise BadInput(f"every run must have the same measures, but not all have {names}")
    return onsets


def score_curve(steps: ArrayLike, values: ArrayLike) -> float:
    """The statistic behind `detect`.

    0 or less where a smooth curve fits as well as a transition; no upper bound.
    """
    clock, curve = check_curve(steps, values)
    return find_strongest(clock, [curve]).statistic


def find_first_step(condition: pd.Series) -> int | None:
    """The first step (index) at which a condition on a curve holds; None where it never does.

    >>> loss = pd.Series([1.6, 0.6, 0.3, 0.4], index=[0, 10, 20, 30])
    >>> find_first_step(loss < 0.5)
    20
    """
    steps = condition.index[condition]
    return int(steps[0]) if len(steps) else None


def find_window(values: pd.Series, ceiling: float) -> tuple[int, int] | None:
    """Steps at 10 % and 90 % of the way from a ceiling to the last value (first crossings).

    `values` is indexed by step. None where the last value is less than 0.1 above the ceiling. Says
    nothing about how abrupt the rise is.
    """
    final = values.iloc[-1]
    if final < ceiling + LEAST_RISE:
        return None
    onset, end = (
        find_first_step(values > ceiling + share * (final - ceiling)) for share in (0.1, 0.9)
    )
    assert onset is not None and end is not None, "the last value is past both"
    return onset, end


def relative_width(rise: tuple[float, float]) -> float:
    """(step90 - step10) / step10; a rise from step 0 has none (infinite)."""
    return (rise[1] - rise[0]) / rise[0] if rise[0] else float("inf")


def _detect_in_run(run: Curves, events: Iterable[float]) -> Transition | None:
    checked = [check_curve(curve.index, curve) for curve in run.values()]
    if len({clock.steps.tobytes() for clock, _ in checked}) != 1:
        names = ", ".join(run)
        raise BadInput(f"measures {names} must be over the same steps to be judged jointly")
    clock = checked[0][0]
    change = find_strongest(clock, [curve for _, curve in checked])
    return _judge_change(clock, change, events)


def _judge_change(clock: Clock, change: Change, events: Iterable[float]) -> Transition | None:
    """The strongest change, if it is a transition."""
    statistic, onset, end, size = change
    rate = float(np.exp(np.interp(statistic, NULL_SCORES, np.log(NULL_RATES))))
    length = end - clock.steps[clock.steps < onset][-1]
    is_scheduled = any(abs(event - onset) <= length for event in events)
    is_unfinished = (clock.steps >= end).sum() < AFTER
    if rate > ERROR_RATE or is_scheduled or is_unfinished:
        return None
    return Transition(onset, end, size, 1 - rate)


def bootstrap_medians(rows: Array) -> Array:
    """Medians over rows drawn with replacement, 2,000 times: (draw, column)."""
    picks = np.random.default_rng(0).integers(0, len(rows), (2000, len(rows)))
    return np.asarray(np.median(rows[picks], axis=1))
