"""The LightningDataModule: the batch of step s is a pure function of (seed, s), so a run goes on anywhere."""

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

AHEAD = 256  # pictures drawn at once: enough to share what a draw costs whatever its size, few enough to stay in the cache


class BatchStream(IterableDataset[tuple[Tensor, ...]]):
    """Training batches from step `first` on; batch s holds samples (s - 1) B to s B - 1.

    A batch is (pictures, targets), and where a clamp has to know the match, also the cells that `Pairs` names.
    """

    def __init__(self, task: Task, run: RunConfig, first: int = 1) -> None:
        self.task, self.run, self.first = task, run, first

    def batches(self, steps: range) -> Iterator[tuple[Tensor, ...]]:
        """The batches of consecutive steps, drawn at once."""
        size = self.run.train.batch_size
        parts = self._examples(np.arange((steps.start - 1) * size, (steps.stop - 1) * size))
        return zip(*(part.split(size) for part in parts), strict=True)

    def _examples(self, indices: NDArray[np.int64]) -> tuple[Tensor, ...]:
        if not needs_retrieval(self.run.train.clamps):
            return self.task.training_batch(self.run.seeds.data, "train", indices)
        factors = self.task.world.sample(self.run.seeds.data, "train", indices)
        retrieval = self.task.retrieval(factors) if self.task.retrieval else None
        if retrieval is None:
            raise BadInput(
                "the clamp 'match' needs a matching label in every training picture: some have none"
            )
        return (
            *self.task.render_with_targets(factors),
            retrieval.query,
            retrieval.target,
            retrieval.candidates,
        )

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        end = self.run.train.steps + 1
        for start in range(self.first, end, self.at_once):
            yield from self.batches(range(start, min(start + self.at_once, end)))

    @property
    def at_once(self) -> int:
        """How many batches are drawn together."""
        return max(1, AHEAD // self.run.train.batch_size)


class ViTDataModule(pl.LightningDataModule):
    def __init__(self, stream: BatchStream) -> None:
        super().__init__()
        self.stream = stream

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.stream, batch_size=None)
