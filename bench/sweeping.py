"""A sweep with two worker processes against one, by the wall clock.

From warm processes and an empty folder.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.timing import Result, interleave
from toyvit.config import replace_seed
from toyvit.recipes import RECIPES
from toyvit.sweeping import run_sweep

RUNS = 4


def sweep_once(jobs: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = {
            folder / f"seed-{seed}": replace_seed(RECIPES["induction-smoke"](), seed)
            for seed in range(RUNS)
        }
        run_sweep(plan, folder, jobs=jobs, progress=False, analyses=["performance"])


def results(repeats: int | None) -> Iterator[Result]:
    jobs = {"two": lambda: sweep_once(2), "one": lambda: sweep_once(1)}
    times = interleave(f"sweep of {RUNS} runs", jobs, repeats or 3, clock=time.perf_counter, warm=1)
    yield Result(
        name=f"sweep of {RUNS} runs, two workers (wall time)",
        ours=times["two"],
        peer=times["one"],
        peer_name="one worker",
        bar=1 / 1.8,
        paired=True,
    )
