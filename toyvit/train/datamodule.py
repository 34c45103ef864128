"""The LightningDataModule: batches of a run, or of a task alone, for any model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from toyvit.clamps.patterns import needs_retrieval
from toyvit.config import (
    ModelConfig,
    RunConfig,
    TaskConfig,
    TrainConfig,
    replace_seed,
)
from toyvit.data.task import Batch, Task, build_task
from toyvit.errors import BadInput
from toyvit.train.module import ViTModule
from toyvit.train.stream import BatchStream


class EpochStream(IterableDataset[tuple[Tensor, ...]]):
    """The training batches of one epoch, and of the next one when it is iterated again."""

    def __init__(self, data: ViTDataModule) -> None:
        self.data = data

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        n_done = self.data.count_batches()
        n_epochs = n_done // self.data.n_batches
        last = (n_epochs + 1) * self.data.n_batches
        return iter(BatchStream(self.data.task, self.data.config, n_done + 1, last))


class ViTDataModule(pl.LightningDataModule):
    """The batches of a task, (pictures, targets), for any LightningModule.

    `config` is a run's, or a task's alone, whose batches are of 64 pictures and seed 0 unless
    `batch_size` and `seed` say otherwise; to a run's config they are changes.

    train           batch s is a function of the seed and s alone: each epoch has pictures that were
                    never shown, and a training goes on with the batch after its last. An epoch has
                    `n_batches`, by default the steps of the run, which for a task alone are 2,000
    val             the pictures that a run folder's scores are of, in one batch
    test, predict   the first `n_images` test pictures, in one batch

    Targets are classes, -1 where nothing is asked, or numbers, NaN there:
    `toyvit.data.task.loss` and `accuracy` know. BadInput for what the task cannot be.

    >>> from toyvit.config import InductionConfig
    >>> data = ViTDataModule(InductionConfig(), batch_size=8)
    >>> images, targets = next(iter(data.train_dataloader()))
    >>> images.shape[0], targets.shape
    (8, torch.Size([8]))
    """

    def __init__(
        self,
        config: RunConfig | TaskConfig,
        *,
        batch_size: int | None = None,
        seed: int | None = None,
        n_batches: int | None = None,
        n_images: int = 512,
    ) -> None:
        super().__init__()
        self.config = plan_batches(config, batch_size, seed)
        self.n_batches = self.config.train.steps if n_batches is None else n_batches
        self.n_images = n_images
        for name, number in (("n_batches", self.n_batches), ("n_images", n_images)):
            if number < 1:
                raise BadInput(f"{name} must be at least 1, got {number}")

    @cached_property
    def task(self) -> Task:
        """The task that the batches are of."""
        return build_task(self.config.task)

    def count_batches(self) -> int:
        """Training batches that the trainer's model has seen, over all of its sessions."""
        if self.trainer is None or self.trainer.lightning_module is None:
            return 0
        module = self.trainer.lightning_module
        n_updates = module.step if isinstance(module, ViTModule) else self.trainer.global_step
        return n_updates * self.trainer.accumulate_grad_batches

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(EpochStream(self), batch_size=None)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return self._load("validation", self.config.train.n_validation)

    def test_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return self._load("test", self.n_images)

    def predict_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return self.test_dataloader()

    def _load(self, split: str, n: int) -> DataLoader[tuple[Tensor, ...]]:
        """The first n pictures of a split, as one batch."""
        batch = self.task.eval_batch(split, n, self.config.seeds.measure)
        parts = _list_parts(batch, self.config)
        return DataLoader(TensorDataset(*(part[None] for part in parts)), batch_size=None)


def plan_batches(
    config: RunConfig | TaskConfig, batch_size: int | None = None, seed: int | None = None
) -> RunConfig:
    """The run whose batches are drawn; that of a task alone has the lab's own training."""
    if isinstance(config, TaskConfig):
        config = RunConfig(recipe="", task=config, model=ModelConfig(), train=TrainConfig())
    if batch_size is not None:
        config = replace(config, train=replace(config.train, batch_size=batch_size))
    return config if seed is None else replace_seed(config, seed)


def _list_parts(batch: Batch, config: RunConfig) -> tuple[Tensor, ...]:
    """Pictures and targets, and the cells that a clamp has to know."""
    if batch.retrieval is None or not needs_retrieval(config.train.clamps):
        return batch.images, batch.target
    cells = batch.retrieval
    return batch.images, batch.target, cells.query, cells.target, cells.candidates
