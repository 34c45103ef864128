"""Two workers of `toyvit measure` against one: the CPU time of the whole command."""

from __future__ import annotations

import resource
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from bench.starting import start
from bench.timing import Result, interleave
from toyvit.recipes import RECIPES
from toyvit.train import fit

BAR = 1.10
CHECKPOINTS = 101


def read_children() -> float:
    """CPU seconds of the child processes that have ended, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure_copy(run: Path, jobs: int) -> None:
    copy = run.with_name(f"jobs-{jobs}")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(run, copy)
    start("-m", "toyvit", "measure", str(copy), "--jobs", str(jobs))


def results(repeats: int | None) -> Iterator[Result]:
    run = RECIPES["induction"]()
    spaced = tuple(range(0, 2 * CHECKPOINTS, 2))
    run = replace(run, train=replace(run.train, steps=spaced[-1], checkpoints=spaced))
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "run"
        fit(run, path, progress=False)
        jobs = {str(n): partial(measure_copy, path, n) for n in (1, 2)}
        times = interleave("workers", jobs, repeats or 5, clock=read_children, warm=0)
    yield Result(
        name=f"measure {CHECKPOINTS} checkpoints, two workers",
        ours=times["2"],
        peer=times["1"],
        peer_name="one worker",
        bar=BAR,
        paired=True,
    )
