"""The callback that writes checkpoints, the metrics of every step, and the state for resuming."""

from __future__ import annotations

import math
import time

import pytorch_lightning as pl
import torch

from toyvit.config import learning_rate, plan_states
from toyvit.data.task import Batch, accuracy
from toyvit.errors import Diverged, name_file
from toyvit.runs.disk import format_line
from toyvit.runs.folder import RunFolder
from toyvit.runs.manifest import ManifestEntry
from toyvit.train.callbacks import StepCallback
from toyvit.train.module import ViTModule
from toyvit.train.states import TrainingState, save_state

SECONDS_BETWEEN_STATES = 5.0


class CheckpointWriter(StepCallback):
    """Writes checkpoints on schedule, every step's metrics, and the rolling state."""

    def __init__(
        self,
        folder: RunFolder,
        validation: Batch,
        state: TrainingState | None,
        entries: list[ManifestEntry],
    ) -> None:
        self.folder = folder
        self.validation = validation
        self.state = state
        self.entries = entries
        self.unflushed: list[ManifestEntry] = []
        self.lines: list[str] = []
        self.saved_at = time.monotonic()
        self.saved_step = -1
        self.scores = {"loss": math.nan, "accuracy": math.nan}

    def start(self, trainer: pl.Trainer, module: ViTModule) -> None:
        self.steps = set(self.folder.plan_checkpoints())
        self.state_steps = plan_states(module.config.train.steps, self.folder.read_file().ends)
        last = self.state.step if self.state else -1
        self.entries = self.folder.truncate(last, self.entries)
        self.restore(trainer, module)
        if self.state is None:
            self.write_snapshot(trainer, module)

    def restore(self, trainer: pl.Trainer, module: ViTModule) -> None:
        """Put the state into the model and its optimiser, where there is one."""
        if self.state is not None:
            module.step = self.state.step
            module.model.load_state_dict(self.state.model)
            trainer.optimizers[0].load_state_dict(self.state.optimizer)

    def finish_step(self, trainer: pl.Trainer, module: ViTModule) -> None:
        rate = learning_rate(module.config.train, module.step)
        line = {"step": module.step, **module.latest, "learning_rate": rate}
        self.lines.append(format_line(line, self.folder.hash_run()))
        if module.step in self.steps:
            self.write_snapshot(trainer, module)
        elif self.is_state_due(module.step):
            self.write_state(trainer, module)

    def finish(self, trainer: pl.Trainer, module: ViTModule) -> None:
        if module.step != self.saved_step:
            self.write_state(trainer, module)

    def is_state_due(self, step: int) -> bool:
        """Whether this step's state is kept, or the last one that was written is old."""
        is_late = time.monotonic() - self.saved_at > SECONDS_BETWEEN_STATES
        return step in self.state_steps or is_late

    def write_snapshot(self, trainer: pl.Trainer, module: ViTModule) -> None:
        """Score the validation batch, write the weights and their line, and a state that is due.

        The metrics come first: the manifest names no step that they do not know.
        """
        self.score(module)
        self.write_metrics()
        samples = module.step * module.config.train.batch_size
        weights = module.model.state_dict()
        entry = self.folder.write_checkpoint(module.step, samples, weights, self.scores)
        self.entries.append(entry)
        self.unflushed.append(entry)
        if self.is_state_due(module.step):
            self.write_state(trainer, module)

    @torch.no_grad()
    def score(self, module: ViTModule) -> None:
        """Loss and accuracy on the validation batch, in evaluation mode; Diverged for no number."""
        module.model.eval()
        device = next(module.model.parameters()).device
        images = self.validation.images.to(device)
        target = self.validation.target.to(device)

        logits = module.compute_logits(images, self.validation.retrieval)
        self.scores = {
            "loss": module.compute_loss(logits, target).item(),
            "accuracy": accuracy(logits, target).item(),
        }
        module.model.train()
        if not self.scores["loss"] < math.inf:
            raise Diverged(f"the validation loss is {self.scores['loss']} at step {module.step}")

    def name_scores(self) -> dict[str, float]:
        """The scores by the names to show: `accuracy` is R^2 where numbers are asked for."""
        names = {"accuracy": "R^2"} if self.validation.target.is_floating_point() else {}
        return {names.get(name, name): value for name, value in self.scores.items()}

    def write_state(self, trainer: pl.Trainer, module: ViTModule) -> None:
        """The metrics so far and the full state, after all that it counts on is on the disk."""
        self.write_metrics()
        self.folder.flush(self.unflushed)
        self.unflushed.clear()
        weights = module.model.state_dict()
        state = TrainingState(module.step, weights, trainer.optimizers[0].state_dict())
        save_state(self.folder, state, keep=module.step in self.state_steps)
        self.saved_at = time.monotonic()
        self.saved_step = module.step

    def write_metrics(self) -> None:
        """Metrics reach the file before the state that counts on them."""
        with name_file(self.folder.metrics), self.folder.metrics.open("a") as file:
            file.write("".join(self.lines))
        self.lines.clear()

    def note_divergence(self, reason: str) -> None:
        """Write down the end of a run whose loss is no number."""
        step = max((entry.step for entry in self.entries), default=0)
        line = {"step": step, "status": "diverged", "reason": reason}
        self.lines.append(format_line(line, self.folder.hash_run()))
        self.write_metrics()
