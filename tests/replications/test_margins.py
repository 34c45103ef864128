"""Verdicts over seeds: how often they are wrong on planted medians, and what they refuse to say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from toyvit.replications.margins import (
    AGREES,
    DIFFERS,
    NOT_RUN,
    UNDECIDED,
    correct_holm,
    judge_checks,
    judge_result,
    summarize_number,
)
from toyvit.replications.record import Check, Record


def check(low=0.4, high=0.6, **more):
    return Check("value", "a value", "0.5", "text", low, high, **more)


def records(values, number="value"):
    return [
        Record(name="coin", version=1, seed=seed, minutes=0, numbers={number: value}, panels=[])
        for seed, value in enumerate(values)
    ]


def judge(values, *checks):
    return judge_result(checks or (check(),), records(values))


def test_what_ten_seeds_say():
    assert judge([0.5] * 10) == AGREES
    assert judge([0.9] * 10) == DIFFERS
    assert judge([None] * 10) == DIFFERS
    assert judge([]) == NOT_RUN
    assert judge([0.5] * 5 + [0.9] * 5) == UNDECIDED
    # Half of the seeds outside a margin that holds the median: no sign test excludes it.
    assert judge([0.5] * 6 + [0.9] * 4) == UNDECIDED
    # The interval of the median of ten is from the third value to the eighth.
    assert judge([0.1] + [0.5] * 8 + [0.9]) == AGREES


def test_fewer_than_five_seeds_speak_through_their_mean():
    assert judge([0.49, 0.5, 0.51]) == AGREES
    assert judge([0.9, 0.901, 0.899]) == DIFFERS
    assert judge([0.3, 0.5, 0.9]) == UNDECIDED
    assert judge([0.5]) == UNDECIDED
    assert judge([0.5, 0.5, None]) == UNDECIDED
    finding = summarize_number(check(), [0.4, 0.5, 0.6])
    # Student's 95 % point for two degrees of freedom, 2.92.
    assert finding.high - 0.5 == pytest.approx(2.92 * 0.1 / math.sqrt(3), rel=1e-3)


def test_an_interval_does_not_pass_what_a_number_cannot():
    values = [0.99, 1.0, 0.98]
    assert judge(values, check(0.9, 1)) == UNDECIDED
    assert judge(values, check(0.9, 1, limits=(0, 1))) == AGREES


def test_of_what_happens_or_not_the_share_of_seeds_is_judged():
    """Where the median would be 1 with six of ten. Ten of ten: 0.741 or more (0.05^(1/10))."""
    share = check(0.7, 1, is_share=True)
    finding = summarize_number(share, [1.0] * 10)
    assert (finding.value, finding.high) == (1, 1)
    assert finding.low == pytest.approx(0.05**0.1)
    assert judge([1.0] * 10, share) == AGREES
    assert judge([1.0] * 9 + [0.0], share) == UNDECIDED
    assert judge([1.0] * 3 + [0.0] * 7, share) == DIFFERS
    none = check(0, 0.3, is_share=True)
    assert judge([0.0] * 10, none) == AGREES
    assert judge([0.0] * 8 + [1.0] * 2, none) == UNDECIDED
    assert judge([1.0] * 7 + [0.0] * 3, none) == DIFFERS


def test_a_result_agrees_where_all_its_numbers_do_and_one_that_differs_is_enough():
    wide = Check("value", "the same", "0.5", "text", 0, 1)
    far = Check("value", "elsewhere", "2", "text", 2, 3)
    assert judge([0.5] * 10, check(), wide) == AGREES
    assert judge([0.5] * 10, check(), wide, far) == DIFFERS
    assert judge_checks((check(), far), records([0.5] * 10)) == [AGREES, DIFFERS]


def test_differing_is_corrected_for_how_many_numbers_there_are():
    """Eight of ten seeds outside: p = 0.109; nine: 0.021, enough for one number and not for ten."""
    nine = [0.9] * 9 + [0.5]
    assert judge(nine) == DIFFERS
    others = [check(0, 1)] * 9
    assert judge(nine, check(), *others) == UNDECIDED
    assert judge([0.9] * 8 + [0.5] * 2) == UNDECIDED


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_the_smallest_first_and_never_more_than_without_correction(chances):
    rejected = correct_holm(chances)
    assert all(chance <= 0.1 for chance, is_out in zip(chances, rejected, strict=True) if is_out)
    others = [chance for chance, is_out in zip(chances, rejected, strict=True) if not is_out]
    assert all(
        chance <= min(others, default=1)
        for chance, is_out in zip(chances, rejected, strict=True)
        if is_out
    )


@pytest.mark.parametrize("n", [5, 10, 20])
def test_a_median_inside_is_seldom_said_to_differ_and_one_outside_seldom_to_agree(n):
    """Skewed values with a known median at the bound, where both errors are largest."""
    random = np.random.default_rng(0)
    verdicts = []
    for _ in range(400):
        values = 0.6 * random.lognormal(0, 0.3, n)
        verdicts.append(judge(values.tolist(), check(0, 0.6)))
    assert verdicts.count(DIFFERS) / 400 <= 0.1
    assert verdicts.count(AGREES) / 400 <= 0.1
