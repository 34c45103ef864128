"""Workers: what one process would give, in its order; a state a worker; forked only when it may."""

from __future__ import annotations

import os
from functools import partial

import pytest

from toyvit.runs import workers
from toyvit.runs.signals import CLOCK

HERE = os.getpid()


class Counter:
    """A state that counts the shares it has seen."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.n = 0


def work(state: Counter, share: int) -> tuple[int, int, int]:
    state.n += 1
    if share < 0:
        raise ValueError(f"share {share}")
    return os.getpid(), state.n, state.first + share


@pytest.mark.parametrize("is_command", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_shares_come_in_order_from_workers_that_open_one_state_each(monkeypatch, is_command):
    monkeypatch.setattr(CLOCK, "is_set", is_command)
    results = list(workers.map_shares(work, partial(Counter, 100), range(12), 2))
    processes, counts, numbers = zip(*results, strict=True)
    assert list(numbers) == list(range(100, 112))
    assert HERE not in processes
    for process in set(processes):
        seen = [count for other, count in zip(processes, counts, strict=True) if other == process]
        assert seen == list(range(1, len(seen) + 1))
    assert not workers._JOBS


def test_the_error_of_a_worker_is_the_caller_s_and_nothing_is_left(monkeypatch):
    monkeypatch.setattr(CLOCK, "is_set", True)
    with pytest.raises(ValueError, match="share -3"):
        list(workers.map_shares(work, partial(Counter, 0), [1, -3, 2], 2))
    assert not workers._JOBS


def test_a_process_of_a_user_is_not_forked():
    assert not CLOCK.is_set and not workers.can_fork()
