"""Drawing and rendering a training batch, as a share of the update after it; as in training, a batch finds cold caches."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

from bench.lightning import update
from bench.timing import Result, interleave
from toyvit.data.tasks import resolve, task
from toyvit.model import ViT
from toyvit.recipes import RECIPES
from toyvit.train.data import Stream
from toyvit.train.system import optimizer

BAR = 0.10


def results(repeats: int | None) -> Iterator[Result]:
    for name in RECIPES:
        yield timed(name, repeats or 101)


def timed(name: str, repeats: int) -> Result:
    """A batch of a recipe against the update it feeds."""
    run = resolve(RECIPES[name]())
    model, stream = ViT(run.model), Stream(task(run.task), run)
    adam, numbers, latest = optimizer(model, run.train), cycle(range(1, 10_001)), [stream.batch(1)]

    def draw() -> None:
        latest[0] = stream.batch(next(numbers))

    def step() -> None:
        update(model, adam, latest[0], run.train.clip)

    times = interleave(f"batch of {name}", {"batch": draw, "step": step}, repeats, turning=False)
    return Result(
        name=f"batch of {name}, {run.train.batch_size} pictures",
        ours=times["batch"],
        peer=times["step"],
        peer_name="one step",
        bar=BAR,
    )
