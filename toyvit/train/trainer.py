"""The Lightning trainer of a session: quiet, on the run's threads, stopped by signals."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
from pytorch_lightning.plugins.environments import LightningEnvironment
from tqdm import tqdm

from toyvit.config import TrainConfig
from toyvit.surroundings import pin_torch
from toyvit.train.callbacks import StepCallback, StopOnSignal
from toyvit.train.guests import Guests
from toyvit.train.launchers import hide_launchers
from toyvit.train.module import ViTModule
from toyvit.train.snapshots import CheckpointWriter


class Progress(StepCallback):
    """A progress bar over the whole run that refreshes seldom."""

    def __init__(self, writer: CheckpointWriter, label: str, position: int = 0) -> None:
        self.writer = writer
        self.label = label
        self.position = position

    def start(self, trainer: pl.Trainer, module: ViTModule) -> None:
        self.bar = tqdm(
            total=trainer.max_steps,
            initial=module.step,
            desc=self.label,
            unit="step",
            position=self.position,
            mininterval=0.5,
            dynamic_ncols=True,
            disable=None,  # where there is no terminal
        )

    def finish_step(self, trainer: pl.Trainer, module: ViTModule) -> None:
        if module.step in self.writer.steps:
            scores = {name: f"{value:.3f}" for name, value in self.writer.name_scores().items()}
            self.bar.set_postfix(scores, refresh=False)
        self.bar.update()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if hasattr(self, "bar"):
            self.bar.close()


@contextmanager
def open_trainer(
    config: TrainConfig,
    callback: StepCallback,
    progress: Progress | None,
    *,
    first: int = 0,
    last: int | None = None,
    guests: Guests | None = None,
) -> Iterator[tuple[pl.Trainer, StopOnSignal]]:
    """A trainer from a step to a later one (the run's last), on its threads; a signal stops it.

    Nothing that the process or the environment has set changes what it does.
    """
    stopper = StopOnSignal()
    guests = guests or Guests()
    callbacks: list[pl.Callback] = [callback, stopper]
    if progress is not None:
        callbacks.append(progress)

    with (
        pin_torch(config.threads),
        hide_launchers(),
        stopper.handle_signals(),
        _hush_lightning(),
    ):
        trainer = _build_trainer(
            accelerator=config.accelerator,
            callbacks=[*callbacks, *guests.callbacks],
            max_steps=config.steps if last is None else last,
            **guests.list_arguments(config.steps),
        )
        begin_at(trainer, first)
        yield trainer, stopper


def _build_trainer(**own: object) -> pl.Trainer:
    """One device, and nothing of what Lightning would write or print itself.

    Every argument is given, the others by their defaults: what is left open Lightning reads from
    variables PL_TRAINER_....
    """
    arguments = {
        name: parameter.default
        for name, parameter in inspect.signature(pl.Trainer.__init__).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    arguments |= {
        "max_epochs": -1,
        "devices": 1,
        "num_nodes": 1,
        "plugins": [LightningEnvironment()],  # else it looks for a cluster's
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
    }
    return pl.Trainer(**arguments | own)


def begin_at(trainer: pl.Trainer, step: int) -> None:
    """Let the trainer count from the run's step, for what others call a checkpoint or a curve."""
    loop = trainer.fit_loop.epoch_loop
    loop.automatic_optimization.optim_progress.optimizer.step.total.completed = step
    loop.batch_progress.total.ready = step
    loop._batches_that_stepped = step


@contextmanager
def _hush_lightning() -> Iterator[None]:
    """Without Lightning's banners, and its advice to use more loader workers.

    A worker would hand batches over more slowly.
    """
    log = logging.getLogger("pytorch_lightning")
    level = log.level
    log.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own use of torch
        try:
            yield
        finally:
            log.setLevel(level)
