"""What the bench reads off its clocks and ratios, and that a missed bar is called so."""

from __future__ import annotations

import pytest

from bench.__main__ import SUBJECTS
from bench.starting import BARS, WORDS, read_children_clock, results, start
from bench.timing import Result, format_cells

BUSY = "sum(range(4 * 10**6))"


def measure_children(work) -> float:
    before = read_children_clock()
    work()
    return read_children_clock() - before


def test_the_work_of_a_child_is_counted_and_one_s_own_is_not():
    bare = measure_children(lambda: start("-c", ""))
    assert measure_children(lambda: start("-c", BUSY)) > bare > 0
    assert measure_children(lambda: sum(range(4 * 10**6))) == 0


def test_a_child_that_fails_is_no_measurement():
    with pytest.raises(Exception, match="returned non-zero exit status 3"):
        start("-c", "raise SystemExit(3)")


@pytest.mark.slow
def test_starting_is_measured_against_bare_python():
    rows = list(results(2))
    assert SUBJECTS["starting"] is results and WORDS.keys() == {*BARS, "bare"}
    assert [row.bar for row in rows] == [50, 100]
    for row, name in zip(rows, BARS, strict=True):
        assert row.name.startswith(name) and row.barred == "ours"
        assert len(row.ours) == len(row.peer) == 2 and min(row.ours + row.peer) > 0


@pytest.mark.parametrize(
    ("ours", "barred", "bar", "verdict"),
    [
        (60.0, "ours", 50, "no"),
        (50.0, "ours", 50, "yes"),
        (60.0, "ratio", 2, "yes"),
        (90.0, "ratio", 2, "no"),
        (90.0, "ratio", None, "-"),
    ],
)
def test_a_bar_that_is_missed_is_called_so(ours, barred, bar, verdict):
    row = Result(name="a", ours=[ours] * 3, peer=[40.0] * 3, peer_name="b", bar=bar, barred=barred)
    assert format_cells(row)[-1] == verdict
