"""Drawing training batches, as a share of the updates they feed.

As in training, a draw finds cold caches.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

from bench.lightning import update
from bench.timing import Result, interleave
from toyvit.data.task import build_task, resolve_config
from toyvit.model import ViT
from toyvit.recipes import RECIPES
from toyvit.train.datamodule import BatchStream
from toyvit.train.module import build_optimizer

BAR = 0.10


def results(repeats: int | None) -> Iterator[Result]:
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
