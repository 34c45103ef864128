"""The LightningModule: one optimiser step of a task, and its scores.

Its learning rate and its dropout are pure functions of the step.
"""

from __future__ import annotations

import math
from dataclasses import replace
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
from toyvit.config.foreign_files import JsonObject
from toyvit.data.task import Retrieval, accuracy, loss, resolve_config
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
    """A model in training, under any `Trainer`: one update of a run's config at a time.

    `config` is a run's, or its plain JSON, which is what the hyperparameters of a `.ckpt` hold:
    `ViTModule.load_from_checkpoint(file)` needs no more, and reads it with weights only.

    step       updates done, over all sessions of the run; it is in the `.ckpt` too
    latest     `loss` and `gradient_norm` (before clipping) of the last update
    is_logged  whether it logs: `train_loss`, `gradient_norm` and `learning_rate` of each update;
               `val_loss` and `val_accuracy` (R^2 where numbers are asked for), the same for `test`

    The rate is that of the config at each step, gradients are clipped as it says, and training ends
    with its last step, whatever `max_steps` or `max_epochs` would allow. A batch is (pictures,
    targets); under the clamp `match` the cells of `Retrieval` follow.

    >>> from toyvit.recipes import RECIPES
    >>> module = ViTModule(RECIPES["induction-smoke"]())
    >>> module.step, ViTModule(**module.hparams).config == module.config
    (0, True)
    """

    def __init__(self, config: RunConfig | JsonObject) -> None:
        super().__init__()
        config = settle_config(config)
        choose(config.train.decay, DECAYS, "train.decay")
        self.save_hyperparameters({"config": config.to_json()})
        self.config = config
        self.path = choose_path(config.train)
        self.step = 0
        self.is_logged = True
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

    def on_save_checkpoint(self, checkpoint: JsonObject) -> None:
        checkpoint["toyvit_step"] = self.step

    def on_load_checkpoint(self, checkpoint: JsonObject) -> None:
        self.step = int(checkpoint["toyvit_step"])

    def on_train_start(self) -> None:
        self.prepare_step()

    def on_train_batch_start(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        if self.config.model.dropout:
            torch.manual_seed(self.config.seeds.init * 1_000_003 + self.step)

    def on_train_batch_end(self, *args: object) -> None:
        self.prepare_step()

    def prepare_step(self) -> None:
        """Set the rate of the next update, before callbacks look at it; stop after the last."""
        if self.step >= self.config.train.steps:
            self.trainer.should_stop = True
            return
        rate = learning_rate(self.config.train, self.step + 1)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate

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
        if self.is_logged and self._trainer is not None:
            self.log("train_loss", self.latest["loss"], prog_bar=True)
        return value

    def validation_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        self._log_scores("val", batch)

    def test_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        self._log_scores("test", batch)

    def predict_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        """The logits of a batch's pictures."""
        images, _, *cells = batch
        return self.compute_logits(images, Retrieval(*cells) if cells else None)

    def _log_scores(self, stage: str, batch: tuple[Tensor, ...]) -> None:
        images, target, *cells = batch
        logits = self.compute_logits(images, Retrieval(*cells) if cells else None)
        scores = {
            f"{stage}_loss": self.compute_loss(logits, target),
            f"{stage}_accuracy": accuracy(logits, target),
        }
        self.log_dict(scores, prog_bar=True, batch_size=len(images))

    def configure_gradient_clipping(self, optimizer: Any, *args: Any, **kwargs: Any) -> None:
        clear_clamped_gradients(self.model, self.config.train.clamps, self.step)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.train.clip)
        self.latest["gradient_norm"] = norm.item()
        if self.is_logged and self._trainer is not None:
            rate = learning_rate(self.config.train, self.step + 1)
            self.log_dict({"gradient_norm": self.latest["gradient_norm"], "learning_rate": rate})

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        with hold_weight_clamps(self.model, self.config.train.clamps, self.step):
            super().optimizer_step(*args, **kwargs)
        self.step += 1
        start_weight_clamps(self.model, self.config.train.clamps, self.step)


def settle_config(config: RunConfig | JsonObject) -> RunConfig:
    """A run's config, or its plain JSON, with what its task and its path decide filled in."""
    if not isinstance(config, RunConfig):
        config = RunConfig.from_json(config)
    if config.model.image_size is None:
        config = resolve_config(config)
    return replace(config, train=replace(config.train, path=choose_path(config.train)))
