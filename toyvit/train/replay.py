"""`replay(path, first, last, every)`: train a stretch of a run again, bit for bit, and keep more checkpoints of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from toyvit.data.task import build_task
from toyvit.errors import BadInput, Stopped
from toyvit.runs.folder import RunFolder, name_checkpoint, name_state
from toyvit.train.datamodule import BatchStream, ViTDataModule
from toyvit.train.fit import Progress, open_trainer
from toyvit.train.module import ViTModule
from toyvit.train.snapshots import CheckpointWriter, read_state


class ReplayWriter(CheckpointWriter):
    """Writes the checkpoints that are wanted and not there; one that is there must come out the same."""

    def __init__(self, folder: RunFolder, steps: set[int], state: dict[str, Any] | None) -> None:
        run = folder.read_config()
        super().__init__(
            folder,
            build_task(run.task).eval_batch(
                "validation", run.train.n_validation, run.seeds.measure
            ),
            state,
        )
        self.steps, self.known = steps, {entry.step: entry for entry in folder.read_manifest()}
        self.added: list[int] = []

    def on_train_start(self, trainer: pl.Trainer, system: ViTModule) -> None:  # type: ignore[override]
        self.restore(trainer, system)

    def on_train_batch_end(self, trainer: pl.Trainer, system: ViTModule, *args: Any) -> None:  # type: ignore[override]
        if system.step in self.known or system.step in self.steps:
            self.snapshot(trainer, system)

    def on_train_end(self, trainer: pl.Trainer, system: ViTModule) -> None:  # type: ignore[override]
        """The run's own state stays as it is."""

    def snapshot(self, trainer: pl.Trainer, system: ViTModule) -> None:
        self.score(system)
        samples = system.step * system.run.train.batch_size
        content, entry = self.folder.encode_checkpoint(
            system.step, samples, system.model.state_dict(), self.scores
        )
        before = self.known.get(system.step)
        if before is None:
            self.folder.insert_checkpoint(entry, content)
            self.added.append(system.step)
        elif before.sha256 != entry.sha256:
            raise BadInput(
                f"{self.folder.path} cannot be trained again: {name_checkpoint(system.step)} came out with other bits (another "
                f"processor, version or number of threads than the run's); {len(self.added)} checkpoints were added before it"
            )


def replay(
    path: Path | str, first: int, last: int, every: int = 1, *, progress: bool = True
) -> list[int]:
    """Add checkpoints at steps first, first + every, ... up to last to a run, and return those that were not there.

    Training starts from the nearest kept state (`states/`) before the first step that is missing, or from step 0. Every
    checkpoint on the way that the run already has must come out bit for bit the same, else BadInput. The run is locked for
    as long; after a signal (Stopped) what was added stays, and the same call adds the rest.
    """
    folder = RunFolder(path).check_exists()
    run, entries = folder.read_config(), folder.read_manifest()
    end = entries[-1].step if entries else 0
    if every < 1:
        raise BadInput(f"--every must be at least 1, got {every}")
    if not 0 <= first <= last <= end:
        raise BadInput(
            f"--between takes two steps of the run in order, 0 to {end}, got {first} {last}"
        )
    with folder.lock():
        wanted = set(range(first, last + 1, every)) - {
            entry.step for entry in folder.read_manifest()
        }
        if not wanted:
            return []
        state = _state_before(folder, min(wanted))
        start = state["step"] if state else 0
        again, system = ReplayWriter(folder, wanted, state), ViTModule(run)
        callbacks: list[pl.Callback] = [
            again,
            *([Progress(again, f"replay {folder.path.name}", 0)] if progress else []),
        ]
        with open_trainer(run, callbacks, max(wanted) - start) as (trainer, interrupts):
            trainer.fit(system, ViTDataModule(BatchStream(build_task(run.task), run, start + 1)))
        if interrupts.signum is not None and system.step < max(wanted):
            raise Stopped(interrupts.signum, folder.path, system.step)
    return again.added


def _state_before(folder: RunFolder, step: int) -> dict[str, Any] | None:
    """The last kept state before a step, or None for the start of the run."""
    for path in sorted(folder.states.glob("step_*.pt"), reverse=True):
        if path.name < name_state(step) and (state := read_state(path)):
            return state
    return None
