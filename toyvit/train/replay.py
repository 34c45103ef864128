"""`replay(run, first, last, every)`: train a stretch of a run again, and keep more of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from toyvit.errors import BadInput, Stopped
from toyvit.runs.folder import RunFolder
from toyvit.runs.sessions import warn_of_versions
from toyvit.surroundings import pin_torch
from toyvit.train.datamodule import ViTDataModule
from toyvit.train.machine import check_machine
from toyvit.train.module import ViTModule
from toyvit.train.replay_writer import ReplayWriter
from toyvit.train.states import load_state_before
from toyvit.train.trainer import Progress, open_trainer

if TYPE_CHECKING:
    from toyvit.runs.handle import Run


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
    end = min(step for step in run.entries if step > max(wanted))
    writer = ReplayWriter(run, wanted, state)
    module = ViTModule(run.config)
    module.is_logged = False
    module.step = state.step if state else 0
    bar = Progress(writer, f"replay {run.name}") if progress else None

    with open_trainer(run.config.train, writer, bar, first=module.step, last=end) as (
        trainer,
        stopper,
    ):
        trainer.fit(module, ViTDataModule(run.config))
    if stopper.signum is not None and module.step < end:
        raise Stopped(stopper.signum, run.path, module.step)
    return writer.added
