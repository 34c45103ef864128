"""Drawing training batches, as a share of the updates they feed; and random numbers by counter, as
a share of what numpy's Philox takes sample by sample.

As in training, a draw of batches finds cold caches.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

import numpy as np

from bench.lightning import update
from bench.timing import Result, interleave
from toyvit.data.random import draw_integers, make_sample_keys
from toyvit.data.task import build_task, resolve_config
from toyvit.model import ViT
from toyvit.recipes import RECIPES
from toyvit.train.optimizers import build_optimizer
from toyvit.train.stream import BatchStream

BAR = 0.10
SAMPLES = np.arange(256)
NUMBERS = 64  # of each sample
BELOW = 16
BAR_OF_NUMBERS = 0.10


def results(repeats: int | None) -> Iterator[Result]:
    yield time_numbers(repeats or 51)
    for name in RECIPES:
        yield time_recipe(name, repeats or 51)


def time_recipe(name: str, repeats: int) -> Result:
    """The batches of a recipe that are drawn together, against the updates they feed."""
    run = resolve_config(RECIPES[name]())
    model = ViT(run.model)
    stream = BatchStream(build_task(run.task), run)
    adam = build_optimizer(model, run.train)
    n = stream.n_together
    starts = cycle(range(1, 10_001, n))
    latest = list(stream.draw_batches(range(1, n + 1)))

    def draw() -> None:
        start = next(starts)
        latest[:] = stream.draw_batches(range(start, start + n))

    def step() -> None:
        for batch in latest:
            update(model, adam, batch, run.train.clip)

    times = interleave(f"batch of {name}", {"batch": draw, "step": step}, repeats, turning=False)
    return Result(
        name=f"batch of {name}, {run.train.batch_size} pictures",
        ours=[time / n for time in times["batch"]],
        peer=[time / n for time in times["step"]],
        peer_name="one step",
        bar=BAR,
    )


def time_numbers(repeats: int) -> Result:
    """Whole numbers that are a function of the seed and the sample, of a batch of samples."""
    jobs = {"by counter": draw_by_counter, "philox": draw_by_philox}
    times = interleave("random numbers", jobs, repeats)
    return Result(
        name=f"random numbers, {len(SAMPLES)} samples of {NUMBERS}",
        ours=times["by counter"],
        peer=times["philox"],
        peer_name="numpy's Philox",
        bar=BAR_OF_NUMBERS,
    )


def draw_by_counter() -> np.ndarray:
    return draw_integers(make_sample_keys(0, "train", SAMPLES), "numbers", NUMBERS, BELOW)


def draw_by_philox() -> np.ndarray:
    """A generator a sample, whose key is the seed and the sample's number."""
    generators = (np.random.Generator(np.random.Philox(key=[0, sample])) for sample in SAMPLES)
    return np.stack([generator.integers(BELOW, size=NUMBERS) for generator in generators])
