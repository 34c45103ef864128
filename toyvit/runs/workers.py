"""Processes that work through shares of one job, each with a state that it opens once.

Where the process is the command line's own they are forked: they have all that it has imported. In
a notebook or a script, whose threads a fork would break, they are joblib's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing import get_context
from typing import Any, TypeVar
from uuid import uuid4

from toyvit.runs.signals import CLOCK

State = TypeVar("State")
Share = TypeVar("Share")
Result = TypeVar("Result")

_JOBS: dict[str, Callable[..., Any]] = {}  # that this process works at: what takes a share


def map_shares(
    work: Callable[[State, Share], Result],
    open_state: Callable[[], State],
    shares: Sequence[Share],
    n_workers: int,
) -> Iterator[Result]:
    """`work(state, share)` for one share after another, in their order, as they are done.

    >>> from operator import add
    >>> list(map_shares(add, int, [1, 2, 3], 1))
    [1, 2, 3]
    """
    name = uuid4().hex
    if not can_fork():
        from joblib import Parallel, delayed

        parallel = Parallel(n_jobs=n_workers, return_as="generator", inner_max_num_threads=1)
        yield from parallel(delayed(_work)(name, work, open_state, share) for share in shares)
        return

    from concurrent.futures import ProcessPoolExecutor

    _JOBS[name] = partial(work, open_state())
    pool = ProcessPoolExecutor(n_workers, mp_context=get_context("fork"))
    is_done = False
    try:
        yield from pool.map(partial(_work, name, work, None), shares)
        is_done = True
    finally:
        pool.shutdown(wait=is_done, cancel_futures=True)
        del _JOBS[name]


def can_fork() -> bool:
    """Whether this process is a command's own, whose threads are known, on a system that forks.

    >>> can_fork()  # a notebook's, a script's
    False
    """
    return CLOCK.is_set and sys.platform == "linux"


def _work(
    name: str,
    work: Callable[[State, Share], Result],
    open_state: Callable[[], State] | None,
    share: Share,
) -> Result:
    if open_state is not None and name not in _JOBS:
        _JOBS.clear()  # of an earlier job of this worker
        _JOBS[name] = partial(work, open_state())
    return _JOBS[name](share)
