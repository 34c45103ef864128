"""Dense checkpoints: when to keep one, and the callback that writes them, the metrics and the state for resuming."""

from __future__ import annotations

import io
import json
import logging
import os
import time
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytorch_lightning as pl
import torch

from toyvit.config import TrainConfig, learning_rate
from toyvit.data.task import Batch, accuracy, loss
from toyvit.errors import BadInput, Diverged
from toyvit.runs.folder import RunFolder, name_state, write_atomically
from toyvit.train.module import ViTModule

SECONDS_BETWEEN_STATES = 5.0
N_KEPT_STATES = 10

logger = logging.getLogger(__name__)


def plan_checkpoints(config: TrainConfig) -> tuple[int, ...]:
    """Steps that keep a checkpoint, ascending.

    Step 0 (before any update) and the last always; powers of two to 512; about 24 a decade; never more than a hundredth
    of the run apart. Or the config's explicit list.
    """
    n = config.steps
    if config.checkpoints is not None:
        late = [step for step in config.checkpoints if step > n]
        if late:
            raise BadInput(f"train.checkpoints has step {late[0]}, but training ends at step {n}")
        return tuple(sorted({0, n, *config.checkpoints}))
    spacing = max(1, n // 100)
    steps = {0, n, *range(0, n, spacing), *(2**power for power in range(10))}
    decades = (round(10 ** (place / 24)) for place in range(24 * len(str(n))))
    return tuple(sorted(step for step in steps.union(decades) if step <= n))


def save_state(
    folder: RunFolder, system: ViTModule, optimizer: torch.optim.Optimizer, keep: bool
) -> None:
    """The full state for resuming; the one before stays as `state.prev.pt`. `keep` also files it under `states/`."""
    content = io.BytesIO()
    torch.save(
        {
            "step": system.step,
            "model": system.model.state_dict(),
            "optimizer": optimizer.state_dict(),
        },
        content,
    )
    if keep:
        write_atomically(folder.states / name_state(system.step), content.getvalue(), flush=True)
    if folder.state.exists():
        os.replace(folder.state, folder.previous_state)
    write_atomically(folder.state, content.getvalue(), flush=True)


def load_state(folder: RunFolder) -> dict[str, Any] | None:
    """The last whole state, or None where the run has none yet."""
    for path in (folder.state, folder.previous_state):
        if path.exists() and (state := read_state(path)):
            return state
    return None


def read_state(path: Path) -> dict[str, Any] | None:
    """A state, or None (and a warning) where the file cannot be read."""
    try:
        state = torch.load(path, weights_only=True)
        return {
            "step": int(state["step"]),
            "model": state["model"],
            "optimizer": state["optimizer"],
        }
    except (
        UnpicklingError,
        RuntimeError,
        OSError,
        EOFError,
        KeyError,
        ValueError,
        TypeError,
    ) as error:
        logger.warning(
            "%s cannot be read (%s): going back to the state before it", path, type(error).__name__
        )
    return None


class CheckpointWriter(pl.Callback):
    """Writes checkpoints on schedule, every step's scalars, and the rolling state."""

    def __init__(self, folder: RunFolder, validation: Batch, state: dict[str, Any] | None) -> None:
        self.folder, self.validation, self.state = folder, validation, state
        self.lines: list[str] = []
        self.saved_at, self.saved_step = time.monotonic(), -1
        self.scores = {"loss": float("nan"), "accuracy": float("nan")}

    def on_train_start(self, trainer: pl.Trainer, system: ViTModule) -> None:  # type: ignore[override]
        self.steps = set(plan_checkpoints(system.run.train))
        n = system.run.train.steps
        self.kept = {round(n * part / N_KEPT_STATES) for part in range(N_KEPT_STATES + 1)}
        self.folder.truncate(self.state["step"] if self.state else -1)
        self.restore(trainer, system)
        if self.state is None:
            self.snapshot(trainer, system)

    def restore(self, trainer: pl.Trainer, system: ViTModule) -> None:
        """Put the state into the model and its optimiser, where there is one."""
        if self.state is not None:
            system.step = self.state["step"]
            system.model.load_state_dict(self.state["model"])
            trainer.optimizers[0].load_state_dict(self.state["optimizer"])

    def on_train_batch_end(self, trainer: pl.Trainer, system: ViTModule, *args: Any) -> None:  # type: ignore[override]
        line = {
            "step": system.step,
            **system.last,
            "learning_rate": learning_rate(system.run.train, system.step),
        }
        self.lines.append(json.dumps(line) + "\n")
        if system.step in self.steps:
            self.snapshot(trainer, system)
        elif system.step in self.kept or time.monotonic() - self.saved_at > SECONDS_BETWEEN_STATES:
            self.save(trainer, system)

    def on_train_end(self, trainer: pl.Trainer, system: ViTModule) -> None:  # type: ignore[override]
        if system.step != self.saved_step:
            self.save(trainer, system)

    def snapshot(self, trainer: pl.Trainer, system: ViTModule) -> None:
        """Score the validation batch, write the weights and their manifest line; the state too when it is due."""
        self.score(system)
        samples = system.step * system.run.train.batch_size
        self.folder.write_checkpoint(system.step, samples, system.model.state_dict(), self.scores)
        self.flush()
        last = system.step == system.run.train.steps
        if (
            last
            or system.step in self.kept
            or time.monotonic() - self.saved_at > SECONDS_BETWEEN_STATES
        ):
            self.save(trainer, system)

    @torch.no_grad()
    def score(self, system: ViTModule) -> None:
        system.model.eval()
        device = next(system.model.parameters()).device
        images, target = self.validation.images.to(device), self.validation.target.to(device)
        logits = system.compute_logits(images, self.validation.retrieval)
        self.scores = {
            "loss": loss(logits, target).item(),
            "accuracy": accuracy(logits, target).item(),
        }
        system.model.train()
        if not self.scores["loss"] < float("inf"):
            raise Diverged(f"the validation loss is {self.scores['loss']} at step {system.step}")

    def named(self) -> dict[str, float]:
        """The scores as they are called: what stands under `accuracy` is R^2 where numbers are asked for."""
        words = {"accuracy": "R^2"} if self.validation.target.is_floating_point() else {}
        return {words.get(name, name): value for name, value in self.scores.items()}

    def save(self, trainer: pl.Trainer, system: ViTModule) -> None:
        self.flush()
        save_state(self.folder, system, trainer.optimizers[0], keep=system.step in self.kept)
        self.saved_at, self.saved_step = time.monotonic(), system.step

    def flush(self) -> None:
        """Metrics reach the file before the state that counts on them."""
        with self.folder.metrics.open("a") as file:
            file.write("".join(self.lines))
        self.lines.clear()

    def diverged(self, reason: str) -> None:
        """Note the end of a run whose loss is no number."""
        step = max((entry.step for entry in self.folder.read_manifest()), default=0)
        self.lines.append(json.dumps({"step": step, "status": "diverged", "reason": reason}) + "\n")
        self.flush()
