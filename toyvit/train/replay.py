"""`replay(run, first, last, every)`: train a stretch of a run again, and keep more of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytorch_lightning as pl

from toyvit.data.task import build_task
from toyvit.errors import BadInput, Stopped
from toyvit.runs.folder import RunFolder
from toyvit.runs.manifest import ManifestEntry, encode_checkpoint, name_checkpoint
from toyvit.runs.sessions import warn_of_versions
from toyvit.surroundings import pin_torch
from toyvit.train.datamodule import BatchStream, ViTDataModule
from toyvit.train.machine import check_machine
from toyvit.train.module import ViTModule
from toyvit.train.snapshots import CheckpointWriter
from toyvit.train.states import TrainingState, load_state_before
from toyvit.train.trainer import Progress, open_trainer

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


@pin_torch()
def replay(
    run: Run | Path | str, first: int, last: int, every: int = 1, *, progress: bool = True
) -> list[int]:
    """Add checkpoints at steps first, first + every, ... to last; return those not there before.

    Training starts from the nearest kept state (`states/`) before the first step that is missing,
    or from step 0. Every checkpoint on the way that the run already has must come out bit for bit
    the same, else BadInput, and the new ones before it are not filed. The run is locked for as
    long; after a signal (Stopped) what was added stays, and the same call adds the rest.
    """
    from toyvit.runs.handle import Run  # and pandas, without which a run is trained

    folder = run.folder if isinstance(run, Run) else RunFolder(run).check_exists()
    if every < 1:
        raise BadInput(f"--every must be at least 1, got {every}")
    check_machine(folder.read_config().train)

    # Opened under the lock: nobody else adds checkpoints meanwhile.
    with folder.lock():
        run = run.refresh() if isinstance(run, Run) else Run(folder)
        end = run.last_step if run.steps else 0
        if not 0 <= first <= last <= end:
            steps = f"0 to {end}, got {first} {last}"
            raise BadInput(f"--between takes two steps of the run in order, {steps}")
        wanted = set(range(first, last + 1, every)) - run.entries.keys()
        warn_of_versions(folder, first)
        return _train_again(run, wanted, progress) if wanted else []


def _train_again(run: Run, wanted: set[int], progress: bool) -> list[int]:
    """Train from the last state before the wanted steps to the known checkpoint after them."""
    state = load_state_before(run.folder, min(wanted))
    start = state.step if state else 0
    end = min(step for step in run.entries if step > max(wanted))
    n_steps = end - start
    writer = ReplayWriter(run, wanted, state)
    module = ViTModule(run.config)
    bar = Progress(writer, f"replay {run.name}") if progress else None

    with open_trainer(run.config.train, writer, n_steps, bar) as (trainer, stopper):
        stream = BatchStream(build_task(run.config.task), run.config, start + 1)
        trainer.fit(module, ViTDataModule(stream))
    if stopper.signum is not None and module.step < end:
        raise Stopped(stopper.signum, run.path, module.step)
    return writer.added
