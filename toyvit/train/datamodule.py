"""The LightningDataModule: the batch of step s is a pure function of (seed, s).

So a run goes on anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from toyvit.clamps.patterns import needs_retrieval
from toyvit.config import RunConfig
from toyvit.data.task import Task
from toyvit.errors import BadInput

# Pictures drawn at once: enough to share what a draw costs whatever its size, few enough to stay
# in the processor's cache.
AHEAD = 256


class BatchStream(IterableDataset[tuple[Tensor, ...]]):
    """Training batches from step `first` on; batch s holds samples (s - 1) B to s B - 1.

    A batch is (pictures, targets), and where a clamp has to know the match, also the cells that
    `Retrieval` names.
    """

    def __init__(self, task: Task, config: RunConfig, first: int = 1) -> None:
        self.task = task
        self.config = config
        self.first = first
        self.n_together = max(1, AHEAD // config.train.batch_size)  # batches of one draw

    def draw_batches(self, steps: range) -> Iterator[tuple[Tensor, ...]]:
        """The batches of consecutive steps, drawn at once."""
        size = self.config.train.batch_size
        parts = self._draw_samples(np.arange((steps.start - 1) * size, (steps.stop - 1) * size))
        return zip(*(part.split(size) for part in parts), strict=True)

    def _draw_samples(self, indices: NDArray[np.int64]) -> tuple[Tensor, ...]:
        seed = self.config.seeds.data
        if not needs_retrieval(self.config.train.clamps):
            return self.task.training_batch(seed, "train", indices)

        factors = self.task.world.sample(seed, "train", indices)
        retrieval = self.task.retrieval(factors) if self.task.retrieval else None
        if retrieval is None:
            raise BadInput(
                "the clamp 'match' needs a matching label in every training picture: some have none"
            )
        cells = (retrieval.query, retrieval.target, retrieval.candidates)
        return (*self.task.render_with_targets(factors), *cells)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        end = self.config.train.steps + 1
        for start in range(self.first, end, self.n_together):
            yield from self.draw_batches(range(start, min(start + self.n_together, end)))


class ViTDataModule(pl.LightningDataModule):
    """Hands the batches of a stream over as they are."""

    def __init__(self, stream: BatchStream) -> None:
        super().__init__()
        self.stream = stream

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.stream, batch_size=None)
