"""The LightningDataModule: the batch of step s is a pure function of (seed, s), so a run goes on anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from toyvit.circuits.clamps import need_pairs
from toyvit.config import Run
from toyvit.data.tasks import Task
from toyvit.errors import BadInput


class Stream(IterableDataset[tuple[Tensor, ...]]):
    """Training batches from step `first` on; batch s holds samples (s - 1) B to s B - 1.

    A batch is (pictures, targets), and where a clamp has to know the match, also the cells that `Pairs` names.
    """

    def __init__(self, task: Task, run: Run, first: int = 1) -> None:
        self.task, self.run, self.first = task, run, first

    def batch(self, step: int) -> tuple[Tensor, ...]:
        size = self.run.train.batch_size
        indices = np.arange((step - 1) * size, step * size)
        if not need_pairs(self.run.train.clamps):
            return self.task.examples(self.run.seeds.data, "train", indices)
        factors = self.task.world.sample(self.run.seeds.data, "train", indices)
        pairs = self.task.pairs(factors) if self.task.pairs else None
        if pairs is None:
            raise BadInput(f"the clamp 'match' needs a matching label in every picture, the batch of step {step} has not")
        return *self.task.drawn(factors), pairs.query, pairs.match, pairs.labels

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        return (self.batch(step) for step in range(self.first, self.run.train.steps + 1))


class Data(pl.LightningDataModule):
    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.stream = stream

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.stream, batch_size=None)
