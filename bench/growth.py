"""How the time of measuring grows with the pictures, the layers and the checkpoints.

Of each a fitted exponent: the slope of the logarithm of the CPU time over that of the number, a fit
a round, whose quartiles are the spread. 1 is linear; what is done once whatever the number lowers
it, so the exponent between the two largest stands beside it. Over layers the ablations of heads are
left out: above four layers they are run on request.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from statistics import linear_regression
from tempfile import TemporaryDirectory

from bench.measuring import build_case
from bench.timing import Result, Times, interleave
from toyvit.analyses import select_analyses
from toyvit.data.task import Batch, build_task, resolve_config
from toyvit.measuring import measure, run_analyses
from toyvit.model import ViT
from toyvit.recipes import RECIPES
from toyvit.runs.folder import RunFolder

IMAGES = (128, 256, 512, 1024, 2048)
LAYERS = (1, 2, 4, 8, 12)
CHECKPOINTS = (10, 20, 40, 80, 160)
FEW = 64  # pictures, where checkpoints are counted
MOST = 1.1


def fit_exponents(times: Times) -> list[float]:
    """The exponent of each round; the names of jobs are numbers.

    >>> fit_exponents({"10": [2.0, 3.0], "20": [4.0, 3.0], "40": [8.0, 3.0]})
    [1.0, 0.0]
    """
    sizes = [math.log(int(name)) for name in times]
    exponents = []
    for taken in zip(*times.values(), strict=True):
        slope = linear_regression(sizes, [math.log(value) for value in taken]).slope
        exponents.append(round(slope, 6))
    return exponents


def describe_growth(name: str, times: Times) -> Iterator[Result]:
    """Two lines: the exponent over all numbers, and over the two largest, beside 1."""
    largest = dict(list(times.items())[-2:])
    for part in (times, largest):
        exponents = fit_exponents(part)
        yield Result(
            name=f"growth over {name}, exponent, {' '.join(part)}",
            ours=exponents,
            peer=[1.0] * len(exponents),
            peer_name="linear",
            bar=MOST,
            paired=True,
            details=part,
        )


def measure_battery(model: ViT, batch: Batch) -> None:
    """All quick analyses but the ablations of heads."""
    analyses = select_analyses(None, batch, model)
    run_analyses(model, batch, [row for row in analyses if row.name != "head_ablation"])


def time_images(rounds: int) -> Times:
    """The default recipe's model, ablations of heads too, on more and more pictures."""
    run = resolve_config(RECIPES["induction"]())
    task = build_task(run.task)
    model = ViT(run.model)
    jobs = {}
    for n in IMAGES:
        batch = task.eval_batch("test", n, run.seeds.measure)
        jobs[str(n)] = partial(run_analyses, model, batch, select_analyses(None, batch, model))
    return interleave("growth over images", jobs, rounds, warm=1)


def time_layers(rounds: int) -> Times:
    """The default recipe with four heads and more and more layers, on 512 pictures."""
    jobs = {str(n): partial(measure_battery, *build_case(n, n_heads=4)) for n in LAYERS}
    return interleave("growth over layers", jobs, rounds, warm=1)


def time_checkpoints(rounds: int) -> Times:
    """Whole measurings of runs of more and more checkpoints, into tables that are not there yet."""
    with TemporaryDirectory() as place:
        runs = {str(n): build_run(Path(place, f"run-{n}"), n) for n in CHECKPOINTS}
        serial = count()

        def measure_copy(run: Path) -> None:
            copy = shutil.copytree(run, Path(place, f"copy-{next(serial)}"))
            measure(copy, images=FEW, progress=False)
            shutil.rmtree(copy)

        jobs = {name: partial(measure_copy, run) for name, run in runs.items()}
        return interleave("growth over checkpoints", jobs, rounds, warm=1)


def build_run(path: Path, n: int) -> Path:
    """A run of n checkpoints: the models are drawn, not trained."""
    config = resolve_config(RECIPES["induction-smoke"]())
    folder = RunFolder(path)
    folder.create(config)
    for step in range(n):
        weights = ViT(config.model, seed=step).state_dict()
        samples = step * config.train.batch_size
        folder.write_checkpoint(step, samples, weights, {"loss": 2.0, "accuracy": 0.1})
    return path


def results(repeats: int | None) -> Iterator[Result]:
    yield from describe_growth("images", time_images(repeats or 7))
    yield from describe_growth("layers", time_layers(repeats or 5))
    yield from describe_growth("checkpoints", time_checkpoints(repeats or 3))
