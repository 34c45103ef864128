"""Training batches in order: the batch of step s is a pure function of (seed, s).

So a run goes on anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from toyvit.clamps.patterns import needs_retrieval
from toyvit.config import RunConfig, plan_stages
from toyvit.data.task import Task, build_task
from toyvit.errors import BadInput

# Pictures drawn at once: enough to share what a draw costs whatever its size, few enough to stay
# in the processor's cache.
AHEAD = 256


class BatchStream(IterableDataset[tuple[Tensor, ...]]):
    """Training batches of steps `first` to `last`; batch s holds samples (s - 1) B to s B - 1.

    `last` is by default the last step of the run.

    A batch is (pictures, targets), and where a clamp has to know the match, also the cells that
    `Retrieval` names. Under a curriculum batch s is of the task that a model meets after s - 1
    updates.
    """

    def __init__(
        self, task: Task, config: RunConfig, first: int = 1, last: int | None = None
    ) -> None:
        self.task = task
        self.config = config
        self.first = first
        self.last = config.train.steps if last is None else last
        stages = plan_stages(config.task, config.train.curriculum)
        self.stages = {
            start: task if stage == config.task else build_task(stage)
            for start, stage in stages.items()
        }
        self.n_together = max(1, AHEAD // config.train.batch_size)  # batches of one draw

    def draw_batches(self, steps: range) -> Iterator[tuple[Tensor, ...]]:
        """The batches of consecutive steps, those of one task drawn at once."""
        size = self.config.train.batch_size
        for start, group in groupby(steps, self._find_stage):
            n = len(list(group))
            first = max(steps.start, start + 1)
            indices = np.arange((first - 1) * size, (first - 1 + n) * size)
            parts = self._draw_samples(self.stages[start], indices)
            yield from zip(*(part.split(size) for part in parts), strict=True)

    def _find_stage(self, step: int) -> int:
        """The step at which the stage began whose pictures the update to `step` sees."""
        return max(start for start in self.stages if start < step)

    def _draw_samples(self, task: Task, indices: NDArray[np.int64]) -> tuple[Tensor, ...]:
        seed = self.config.seeds.data
        if not needs_retrieval(self.config.train.clamps):
            return task.training_batch(seed, "train", indices)

        factors = task.world.sample(seed, "train", indices)
        retrieval = task.retrieval(factors) if task.retrieval else None
        if retrieval is None:
            raise BadInput(
                "the clamp 'match' needs a matching label in every training picture: some have none"
            )
        cells = (retrieval.query, retrieval.target, retrieval.candidates)
        return (*task.render_with_targets(factors), *cells)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        end = self.last + 1
        for start in range(self.first, end, self.n_together):
            yield from self.draw_batches(range(start, min(start + self.n_together, end)))
