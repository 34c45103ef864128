"""The LightningDataModule: the batch of step s is a pure function of (seed, s), so a run goes on anywhere."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from toyvit.config import Run
from toyvit.data.tasks import Task


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """Training batches from step `first` on; batch s holds samples (s - 1) B to s B - 1."""

    def __init__(self, task: Task, run: Run, first: int = 1) -> None:
        self.task, self.run, self.first = task, run, first

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        size = self.run.train.batch_size
        return self.task.examples(self.run.seeds.data, "train", np.arange((step - 1) * size, step * size))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (self.batch(step) for step in range(self.first, self.run.train.steps + 1))


class Data(pl.LightningDataModule):
    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.stream = stream

    def train_dataloader(self) -> DataLoader[tuple[Tensor, Tensor]]:
        return DataLoader(self.stream, batch_size=None)
