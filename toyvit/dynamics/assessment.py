"""Which of the windows in which a curve changes most hold an abrupt change, and why others do not.

A change has to stay, not to have been there before, to outlast a spike, to be over when the run
ends, and to be short against the training before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.ndimage import median_filter

from toyvit.dynamics.contrast import (
    AFTER,
    MEDIANS,
    Array,
    Candidate,
    Clock,
    View,
    build_clock,
    build_views,
    find_candidates,
)
from toyvit.dynamics.fitting import Fit, fit_change

LEAST_SCORE = 3.0  # of the strongest change of a curve
NEXT_SCORE = 0.8  # of the others, where there is one so strong
WIDEST = 0.6  # of the time before
STAYS = 0.5  # of the time after a change, that the curve has to be past half of it
WAS_THERE = 0.1  # of the time before it, that the curve may have been
LATE = 0.9  # of the time: from then on it has to be past half of it
SHORTEST = 6  # checkpoints past half of the way: fewer are a spike
SETTLED = 0.5  # of a change's own length, that has to follow it
LONGER = 30  # checkpoints: by so many a curve is continued to see what is unfinished


def assess_curve(
    clock: Clock, values: Array
) -> tuple[list[tuple[Candidate, Fit]], list[tuple[str, float]]]:
    """The changes that last and are abrupt, however weak, with their fits, in order of time.

    And of the strong ones that are none: why, and the step at which each begins.
    """
    views = build_views(values)
    refused: list[tuple[str, float]] = []
    lasting: list[Candidate] = []
    for candidate in find_candidates(clock, views, NEXT_SCORE):
        reason = _find_return(clock, values, views, candidate, lasting)
        if not reason:
            lasting.append(candidate)
        elif candidate.score >= LEAST_SCORE:
            refused.append((reason, float(clock.steps[candidate.first])))

    fitted: list[tuple[Candidate, Fit]] = []
    for place, candidate in enumerate(lasting):
        before = lasting[place - 1].last if place else 0
        after = lasting[place + 1].first + 1 if place + 1 < len(lasting) else len(values)
        levels = views[candidate.view].levels
        fit = fit_change(clock, values, levels, candidate, (before, after))
        reason = _find_fault(clock, candidate, fit)
        if not reason:
            fitted.append((candidate, fit))
        elif candidate.score >= LEAST_SCORE:
            refused.append((reason, find_step(clock, fit.onset)))
    return fitted, refused


def find_unfinished(clock: Clock, values: Array) -> Iterator[float]:
    """Steps of changes that would be abrupt if the curve stayed where it is when it ends.

    It is continued at its last level, with the noise of its last checkpoints.
    """
    spacing = clock.time[-1] - clock.time[-2]
    if spacing <= 0:
        return
    rest = (values - median_filter(values, MEDIANS[0], mode="nearest"))[-LONGER:][::-1]
    more = np.arange(1, len(rest) + 1)
    steps = np.append(clock.steps, clock.steps[-1] + more)
    time = np.append(clock.time, clock.time[-1] + spacing * more)
    longer = build_clock(steps.tobytes(), time.tobytes())

    level = np.median(values[-AFTER:])
    fitted, _ = assess_curve(longer, np.append(values, level + rest))
    for candidate, fit in fitted:
        if candidate.score >= LEAST_SCORE and fit.onset < clock.time[-1]:
            yield find_step(clock, fit.onset)


def _find_return(
    clock: Clock,
    values: Array,
    views: Sequence[View],
    candidate: Candidate,
    earlier: Sequence[Candidate],
) -> str:
    """Why a change does not count: its level is left again, or was there before. Else ''."""
    first, last, size = candidate.first, candidate.last, candidate.size
    levels = views[0].levels
    way = (levels - levels[first]) / size
    is_past = way > 0.5
    weights = np.gradient(clock.time)

    after = is_past[last:]
    late = after[clock.time[last:] >= min(LATE * clock.time[-1], clock.time[-AFTER])]
    if np.average(after, weights=weights[last:]) < STAYS or late.mean() < 0.5:
        return "returns"
    if np.average(is_past[: first + 1], weights=weights[: first + 1]) > WAS_THERE:
        return "returns"
    middle = levels[first] + size / 2
    for other in earlier:
        start = levels[other.first]
        if 0 < (middle - start) / other.size < 1:
            return "returns"
    return "" if _outlasts_spikes(values, levels, candidate) else "spike"


def _outlasts_spikes(values: Array, levels: Array, candidate: Candidate) -> bool:
    """Whether the curve stays past half of the way to its peak for longer than a spike."""
    first, last = candidate.first, candidate.last
    start = levels[first]
    ways = (median_filter(values, 3, mode="nearest") - start) / candidate.size
    peak = ways[first : last + SHORTEST].max()

    is_past = (levels[first:] - start) / candidate.size > peak / 2
    if not is_past.any():
        return False
    begins = int(np.argmax(is_past))
    stint = int(np.argmin(np.append(is_past[begins:], False)))
    return stint >= min(SHORTEST, len(is_past) - 1 - begins)


def _find_fault(clock: Clock, candidate: Candidate, fit: Fit) -> str:
    """Why a fitted change is not abrupt, or ''."""
    if fit.size * candidate.size <= 0 or abs(fit.size) < abs(candidate.size) / 2:
        return "no shape"
    if _is_unfinished(clock, fit):
        return "unfinished"
    return "slow" if fit.end - fit.onset > WIDEST * fit.onset else ""


def find_step(clock: Clock, time: float) -> float:
    """The step at which so much time has passed."""
    return float(np.interp(time, clock.time, clock.steps))


def _is_unfinished(clock: Clock, fit: Fit) -> bool:
    """Whether too little follows a change to see that it is over."""
    return bool(np.log(clock.time[-1] / fit.end) < SETTLED * np.log(fit.end / fit.onset))
