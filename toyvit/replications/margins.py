"""What several seeds say of a stated number: it agrees, it differs, or they are too few to tell.

A number *agrees* where the 90 % interval of its median over seeds lies within its margin, and a
result where all its numbers do: all must, so that nothing has to be corrected. It *differs* where
a number's median lies outside by a test that is corrected for how many numbers there are (Holm
1979, "A simple sequentially rejective multiple test procedure"). Everything else is *undecided*.
Of what happens in a seed or not the share of seeds takes the place of the median.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toyvit.dynamics.order import median_interval
from toyvit.replications.record import Check, Record

Numbers = NDArray[np.float64]

AGREES = "agrees"
DIFFERS = "differs"
UNDECIDED = "undecided"
NOT_RUN = "not run"
COVERAGE = 0.90
LEAST_SEEDS = 5  # for fewer no interval of a median has 90 %: Student's t then, which has to assume


@dataclass(frozen=True)
class Finding:
    """One number over seeds.

    value     its median; infinite where most seeds never came to it. Or the share of seeds
    low, high its 90 % interval, NaN where there is none
    outside   the p-value of its lying within the margin
    """

    value: float
    low: float
    high: float
    outside: float


def summarize_number(check: Check, values: Sequence[float | None]) -> Finding:
    """Median, or share, and interval of a number over seeds, and whether its margin is excluded.

    Never (None) counts as later, or more, than anything. From five seeds on interval and test are
    exact for any distribution (order statistics, signs); for fewer they are Student's, of a mean.
    """
    numbers = np.array([math.inf if value is None else value for value in values], float)
    if not numbers.size:
        return Finding(math.nan, math.nan, math.nan, 1.0)

    if check.is_share:
        return _summarize_share(check, numbers)

    middle = float(np.median(numbers))
    if numbers.size >= LEAST_SEEDS:
        low, high = median_interval(numbers, COVERAGE)
        outside = _test_signs(numbers, check.low, check.high)
    else:
        bounds = _interval_of_mean(numbers)
        low, high = (float(bound) for bound in np.clip(bounds, *check.limits))
        outside = _test_mean(numbers, check.low, check.high)
    return Finding(middle, low, high, outside)


def summarize_checks(checks: Sequence[Check], records: Sequence[Record]) -> list[Finding]:
    """What the seeds found of each number."""
    return [
        summarize_number(check, [record.numbers.get(check.number) for record in records])
        for check in checks
    ]


def judge_checks(checks: Sequence[Check], records: Sequence[Record]) -> list[str]:
    """The verdict on each number; `differs` is corrected for all of them."""
    findings = summarize_checks(checks, records)
    excluded = correct_holm([finding.outside for finding in findings])
    verdicts = []
    for check, finding, is_out in zip(checks, findings, excluded, strict=True):
        is_within = check.low <= finding.low and finding.high <= check.high
        within = AGREES if is_within else UNDECIDED
        verdicts.append(DIFFERS if is_out else within)
    return verdicts


def judge_result(checks: Sequence[Check], records: Sequence[Record]) -> str:
    """The verdict on a result: one number that differs is enough, and all have to agree."""
    verdicts = judge_checks(checks, records)
    if not records:
        return NOT_RUN
    if DIFFERS in verdicts:
        return DIFFERS
    return AGREES if set(verdicts) == {AGREES} else UNDECIDED


def correct_holm(chances: Sequence[float], error: float = 1 - COVERAGE) -> list[bool]:
    """Which of several hypotheses are rejected so that any is wrongly in at most `error` of cases.

    >>> correct_holm([0.04, 0.001, 0.5])
    [True, True, False]
    >>> correct_holm([0.06, 0.06, 0.5])
    [False, False, False]
    """
    rejected = [False] * len(chances)
    for rank, place in enumerate(np.argsort(chances, kind="stable")):
        if chances[place] > error / (len(chances) - rank):
            break
        rejected[place] = True
    return rejected


def _summarize_share(check: Check, numbers: Numbers) -> Finding:
    """The share of seeds in which it happens, with its exact interval (Clopper & Pearson 1934)."""
    from scipy.stats import binomtest

    happened = int(numbers.sum())
    share = happened / numbers.size
    bounds = binomtest(happened, numbers.size).proportion_ci(COVERAGE)
    outside = 1.0
    if not check.low <= share <= check.high:
        bound = check.low if share < check.low else check.high
        outside = float(binomtest(happened, numbers.size, bound).pvalue)
    return Finding(share, float(bounds.low), float(bounds.high), outside)


def _test_signs(numbers: Numbers, low: float, high: float) -> float:
    """The chance of as many seeds on one side of the margin, were the median at its bound."""
    from scipy.stats import binom

    most = max(int((numbers > high).sum()), int((numbers < low).sum()))
    return min(1.0, 2 * float(binom.sf(most - 1, numbers.size, 0.5)))


def _interval_of_mean(numbers: Numbers) -> tuple[float, float]:
    from scipy.stats import t

    if numbers.size < 2 or not np.isfinite(numbers).all():
        return math.nan, math.nan
    half = float(t.ppf((1 + COVERAGE) / 2, numbers.size - 1)) * _standard_error(numbers)
    return float(numbers.mean()) - half, float(numbers.mean()) + half


def _test_mean(numbers: Numbers, low: float, high: float) -> float:
    from scipy.stats import t

    if numbers.size < 2 or not np.isfinite(numbers).all():
        return 1.0
    beyond = max(low - float(numbers.mean()), float(numbers.mean()) - high)
    error = _standard_error(numbers)
    if beyond <= 0:
        return 1.0
    return 2 * float(t.sf(beyond / error, numbers.size - 1)) if error > 0 else 0.0


def _standard_error(numbers: Numbers) -> float:
    return float(numbers.std(ddof=1)) / math.sqrt(numbers.size)
