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
            total=module.step + trainer.max_steps,
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
    config: TrainConfig, writer: CheckpointWriter, n_steps: int, progress: Progress | None
) -> Iterator[tuple[pl.Trainer, StopOnSignal]]:
    """A trainer of so many steps, on the run's threads, that a signal stops after a step.

    Nothing that the process or the environment has set changes what it does.
    """
    stopper = StopOnSignal()
    callbacks: list[pl.Callback] = [writer, stopper]
    if progress is not None:
        callbacks.append(progress)

    with (
        pin_torch(config.threads),
        hide_launchers(),
        stopper.handle_signals(),
        _hush_lightning(),
    ):
        yield _build_trainer(config.accelerator, callbacks, n_steps), stopper


def _build_trainer(accelerator: str, callbacks: list[pl.Callback], n_steps: int) -> pl.Trainer:
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
        "max_steps": n_steps,
        "max_epochs": -1,
        "accelerator": accelerator,
        "devices": 1,
        "num_nodes": 1,
        "plugins": [LightningEnvironment()],  # else it looks for a cluster's
        "callbacks": callbacks,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
    }
    return pl.Trainer(**arguments)


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
