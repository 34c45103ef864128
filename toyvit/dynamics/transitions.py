"""Where a curve changes abruptly after a plateau: onset, end, size and confidence, or nowhere.

A change is abrupt where a curve moves more within a window than beside it (`contrast`), stays, and
takes at most 0.6 of the training that came before. One curve changes abruptly or not; whether a
model has a transition is asked of several seeds and two curves (`judgement`). How often the
detector is wrong is measured: `python -m toyvit.dynamics.calibration`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from toyvit.config import TrainConfig, find_task_changes, sum_rates
from toyvit.dynamics.assessment import LEAST_SCORE, assess_curve, find_step, find_unfinished
from toyvit.dynamics.contrast import Candidate, Clock, check_curve
from toyvit.dynamics.fitting import Fit
from toyvit.errors import BadInput

Curves = Mapping[str, pd.Series]  # the measures of a run, by name, over steps

LEAST_RISE = 0.1
# Chance of a planted change by the score of the strongest (`calibration.fit_chances`, 300 curves a
# family, stream CHOOSE).
SCORES = (0.0, 0.9, 1.2, 1.75, 2.25, 2.75, 3.5, 4.5, 6.0)
CHANCES = (0.004, 0.034, 0.1, 0.45, 0.7, 0.88, 0.95, 0.98, 0.99)


@dataclass(frozen=True)
class AbruptChange:
    """One abrupt change of one curve.

    onset, end   steps: 10 % and 90 % of the way from the level before to the level after
    size         level after minus level before, in units of the values; negative where it falls
    confidence   0 to 1: how often a curve of this score holds a planted change, in the stated
                 mixture of families, half of which have one (`calibration`)
    score        contrast of the change in standard deviations of the noise nearby
    length       (end - onset) / onset in time, the sum of learning rates
    """

    onset: float
    end: float
    size: float
    confidence: float
    score: float
    length: float

    @property
    def width(self) -> float:
        """(end - onset) / onset in steps."""
        return relative_width((self.onset, self.end))


@dataclass(frozen=True)
class Verdict:
    """What is said of one curve.

    changes   the abrupt changes, in order of onset
    refused   of the strong ones that are none: why, and the step where each is
    chance    0 to 1: how often a curve that scores like this one holds a planted change, in the
              stated mixture of families, half of which have one (`calibration`)
    score     of the strongest change that stays and is abrupt, however weak; 0 where none does
    """

    changes: tuple[AbruptChange, ...]
    refused: tuple[tuple[str, float], ...]
    chance: float
    score: float

    @property
    def largest(self) -> AbruptChange | None:
        """The change of the largest size."""
        return max(self.changes, key=lambda change: abs(change.size), default=None)


def judge_curve(steps: ArrayLike, values: ArrayLike, time: ArrayLike | None = None) -> Verdict:
    """All abrupt changes of one curve, rising or falling, and why others are none.

    `time` is the sum of learning rates at each step, in steps at the full rate
    (`config.sum_rates`); without it the rate is taken as constant. BadInput for fewer than 40
    checkpoints, or values that are not finite.

    >>> steps = np.arange(0, 2001, 20)
    >>> def rise(at):
    ...     return 1 / (1 + np.exp(-(steps - at) / 15))
    >>> [round(change.onset) for change in judge_curve(steps, rise(500) + rise(1200)).changes]
    [467, 1167]
    >>> [(why, round(step)) for why, step in judge_curve(steps, rise(1980)).refused]
    [('unfinished', 1949)]
    """
    clock, curve = check_curve(steps, values, time)
    return _judge(clock.steps.tobytes(), clock.time.tobytes(), curve.tobytes())


def detect(
    steps: ArrayLike, values: ArrayLike, time: ArrayLike | None = None
) -> AbruptChange | None:
    """The largest abrupt change of one curve; None where the curve is smooth or only noise.

    As `judge_curve`.

    >>> steps = np.arange(0, 2001, 20)
    >>> change = detect(steps, 1 / (1 + np.exp(-(steps - 1000) / 30)))
    >>> round(change.onset), round(change.end)
    (934, 1066)
    >>> detect(steps, np.exp(-steps / 300)) is None
    True
    """
    return judge_curve(steps, values, time).largest


def detect_in_curve(values: pd.Series, train: TrainConfig | None = None) -> AbruptChange | None:
    """The largest abrupt change of a curve over steps (its index).

    Time is the sum of the learning rates of `train`. None where there is none, or where it may not
    be judged.
    """
    try:
        return judge_series(values, train).largest
    except BadInput:
        return None


def judge_series(values: pd.Series, train: TrainConfig | None = None) -> Verdict:
    """`judge_curve` of a curve over steps (its index), under the learning rates of `train`.

    A change that begins where the curriculum changes the task is the task's, and none.
    """
    if train is None:
        return judge_curve(values.index, values)
    verdict = judge_curve(values.index, values, sum_rates(train, values.index))
    spacing = float(np.diff(values.index.to_numpy(float)).max())

    changes = []
    refused = list(verdict.refused)
    events = find_task_changes(train)
    for change in verdict.changes:
        reach = change.end - change.onset + spacing
        if any(abs(event - change.onset) <= reach for event in events):
            refused.append(("task", change.onset))
        else:
            changes.append(change)
    return replace(verdict, changes=tuple(changes), refused=tuple(refused))


@lru_cache(256)
def _judge(steps: bytes, time: bytes, values: bytes) -> Verdict:
    """A report asks for the verdict on the same curves again and again."""
    clock, curve = check_curve(*(np.frombuffer(text) for text in (steps, values, time)))
    lasting, refused = assess_curve(clock, curve)
    changes = tuple(_build_change(clock, candidate, fit) for candidate, fit in lasting)
    strongest = max((change.score for change in changes), default=0.0)
    if strongest < LEAST_SCORE:
        changes = ()

    if not changes and not refused:
        refused = [("unfinished", step) for step in find_unfinished(clock, curve)]
    return Verdict(changes, tuple(refused), give_chance(strongest), strongest)


def give_chance(score: float) -> float:
    """How often a curve of this score holds a planted change: see `Verdict`."""
    return float(np.interp(score, SCORES, CHANCES))


def _build_change(clock: Clock, candidate: Candidate, fit: Fit) -> AbruptChange:
    onset = find_step(clock, fit.onset)
    end = find_step(clock, fit.end)
    length = (fit.end - fit.onset) / fit.onset
    chance = give_chance(candidate.score)
    return AbruptChange(onset, end, fit.size, chance, candidate.score, length)


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
