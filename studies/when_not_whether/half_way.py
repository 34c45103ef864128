"""When a run is half-way up: trained as the lab trains, without a run folder, and no longer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from toyvit.config import RunConfig
from toyvit.data.task import accuracy, build_task, resolve_config
from toyvit.errors import Stopped
from toyvit.model import ViT
from toyvit.recipes import find_recipe
from toyvit.train.callbacks import StepCallback
from toyvit.train.datamodule import ViTDataModule
from toyvit.train.module import ViTModule
from toyvit.train.trainer import open_trainer

if TYPE_CHECKING:
    import pytorch_lightning as pl

EVERY = 10  # steps between two scores of the validation pictures
PATIENCE = 4  # times the recipe's steps; a run that is not half-way up by then is censored


@dataclass(frozen=True)
class Subject:
    """A recipe, and the accuracy that is half-way from its plateau to 1."""

    recipe: str
    plateau: float  # accuracy of the baseline that it waits at
    n_inits: int = 24  # first weights in its cross
    n_streams: int = 8  # data streams

    @property
    def level(self) -> float:
        return (self.plateau + 1) / 2

    def build_config(self, init: int, data: int) -> RunConfig:
        """The recipe's run of two seeds, with patience; its first steps are the recipe's own."""
        config = find_recipe(self.recipe)()
        train = replace(config.train, steps=PATIENCE * config.train.steps)
        seeds = replace(config.seeds, init=init, data=data)
        return resolve_config(replace(config, train=train, seeds=seeds))


class HalfWay(StepCallback):
    """Scores the validation pictures now and then, and ends the training past a level.

    step   where the accuracy, interpolated between scores, passes the level; infinite if it never
           does
    """

    def __init__(self, config: RunConfig, level: float) -> None:
        self.level = level
        self.step = math.inf
        self.before = 0.0
        n_images = config.train.n_validation
        task = build_task(config.task)
        self.validation = task.eval_batch("validation", n_images, config.seeds.measure)

    @torch.no_grad()
    def finish_step(self, trainer: pl.Trainer, module: ViTModule) -> None:
        if module.step % EVERY:
            return
        module.model.eval()
        logits = module.compute_logits(self.validation.images, self.validation.retrieval)
        module.model.train()
        score = accuracy(logits, self.validation.target).item()
        if score >= self.level:
            share = (self.level - self.before) / (score - self.before)
            self.step = module.step - EVERY * (1 - share)
            trainer.should_stop = True
        self.before = score


def find_half_way(
    config: RunConfig, level: float, change: Callable[[ViT], None] | None = None
) -> float:
    """The step at which a run's accuracy passes a level, infinite if it ends before.

    `change` may alter the first weights. Stopped after a signal.
    """
    module = ViTModule(config)
    module.is_logged = False
    if change is not None:
        change(module.model)
    callback = HalfWay(config, level)
    with open_trainer(config.train, callback, None) as (trainer, stopper):
        trainer.fit(module, ViTDataModule(config))
    if stopper.signum is not None:
        raise Stopped(stopper.signum, Path(config.recipe), module.step)
    return callback.step
