"""The LightningModule: one optimiser step of a task.

Its learning rate and its dropout are pure functions of the step.
"""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from toyvit.clamps.patterns import build_clamp_tap, choose_path
from toyvit.clamps.weight_clamps import (
    clear_clamped_gradients,
    hold_weight_clamps,
    start_weight_clamps,
)
from toyvit.config import DECAYS, RunConfig, learning_rate
from toyvit.data.task import Retrieval, loss
from toyvit.errors import Diverged, choose
from toyvit.model import ViT
from toyvit.train.optimizers import build_optimizer

VECTOR = 16  # float32 numbers that a processor takes at once
N_ROWS = 512  # from so many rows on padding pays


def pad_classes(logits: Tensor) -> Tensor:
    """Many rows of 4 to 15 logits, made 16 wide by classes of no probability; others as they are.

    The softmax of so many rows is up to four times faster over 16 columns than over fewer; the
    loss is the same to rounding.
    """
    n_classes = logits.shape[-1]
    if not 4 <= n_classes < VECTOR or logits.numel() < N_ROWS * n_classes:
        return logits
    return F.pad(logits, (0, VECTOR - n_classes), value=-math.inf)


class ViTModule(pl.LightningModule):
    """A model in training.

    step     updates done, over all sessions of the run
    latest   `loss` and `gradient_norm` (before clipping) of the last update
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__()
        choose(config.train.decay, DECAYS, "train.decay")
        self.config = config
        self.path = choose_path(config.train)
        self.step = 0
        self.latest = {"loss": math.nan, "gradient_norm": math.nan}
        self.model = ViT(config.model, seed=config.seeds.init)
        start_weight_clamps(self.model, config.train.clamps, 0)

    def __setattr__(self, name: str, value: Any) -> None:
        """Lightning notes the running hook 45 times a step: past torch's search for parameters."""
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.model, self.config.train)

    def on_train_batch_start(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        rate = learning_rate(self.config.train, self.step + 1)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate
        if self.config.model.dropout:
            torch.manual_seed(self.config.seeds.init * 1_000_003 + self.step)

    def compute_logits(self, images: Tensor, retrieval: Retrieval | None) -> Tensor:
        """Logits, by the run's path, under the clamps that are active now."""
        if self.path == "read":
            return self.model.answer(images)
        clamps = self.config.train.clamps
        tap = build_clamp_tap(clamps, self.step, self.model.config, retrieval)
        return self.model(images, tap)

    def compute_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss, by the run's path."""
        is_read = self.path == "read" and not target.is_floating_point()
        return loss(pad_classes(logits) if is_read else logits, target)

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        images, target, *cells = batch
        retrieval = Retrieval(*cells) if cells else None
        value = self.compute_loss(self.compute_logits(images, retrieval), target)
        self.latest["loss"] = value.item()
        if not math.isfinite(self.latest["loss"]):
            raise Diverged(f"the loss is {self.latest['loss']} at step {self.step + 1}")
        return value

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        clear_clamped_gradients(self.model, self.config.train.clamps, self.step)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.train.clip)
        self.latest["gradient_norm"] = norm.item()

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        with hold_weight_clamps(self.model, self.config.train.clamps, self.step):
            super().optimizer_step(*args, **kwargs)
        self.step += 1
        start_weight_clamps(self.model, self.config.train.clamps, self.step)
