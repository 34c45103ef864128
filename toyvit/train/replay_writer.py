"""What is written while a stretch of a run is trained again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytorch_lightning as pl

from toyvit.errors import BadInput
from toyvit.runs.manifest import ManifestEntry, encode_checkpoint, name_checkpoint
from toyvit.train.module import ViTModule
from toyvit.train.snapshots import CheckpointWriter
from toyvit.train.states import TrainingState

if TYPE_CHECKING:
    from toyvit.runs.handle import Run


class ReplayWriter(CheckpointWriter):
    """Writes the checkpoints that are wanted once the next one that is there came out the same.

    Until then they wait in memory: a stretch that goes another way is filed nowhere.
    """

    def __init__(self, run: Run, steps: set[int], state: TrainingState | None) -> None:
        validation = run.batch("validation", run.config.train.n_validation)
        super().__init__(run.folder, validation, state, list(run.entries.values()))
        self.run = run
        self.steps = steps
        self.waiting: list[tuple[ManifestEntry, bytes]] = []
        self.added: list[int] = []

    def start(self, trainer: pl.Trainer, module: ViTModule) -> None:
        self.restore(trainer, module)

    def finish_step(self, trainer: pl.Trainer, module: ViTModule) -> None:
        if module.step in self.run.entries or module.step in self.steps:
            self.write_snapshot(trainer, module)

    def finish(self, trainer: pl.Trainer, module: ViTModule) -> None:
        """The run's own state stays as it is."""

    def write_snapshot(self, trainer: pl.Trainer, module: ViTModule) -> None:
        """Let the checkpoint wait; or compare its bits, and insert those that wait before it."""
        self.score(module)
        step = module.step
        samples = step * module.config.train.batch_size
        weights = module.model.state_dict()
        content, entry = encode_checkpoint(step, samples, weights, self.scores)

        before = self.run.entries.get(step)
        if before is None:
            self.waiting.append((entry, content))
        elif before.sha256 == entry.sha256:
            self.insert_waiting()
        else:
            raise BadInput(
                f"{self.run.path} cannot be trained again: {name_checkpoint(step)} came out with "
                "other bits (a damaged state, or another processor, version or number of threads "
                f"than the run's); {len(self.added)} checkpoints were added before it"
            )

    def insert_waiting(self) -> None:
        """File the checkpoints of a stretch whose end came out as it is known."""
        for entry, content in self.waiting:
            entries = self.folder.insert_checkpoint(entry, content, self.run.entries.values())
            self.run.entries = {entry.step: entry for entry in entries}
            self.added.append(entry.step)
        self.waiting.clear()
