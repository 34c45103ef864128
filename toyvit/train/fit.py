"""`fit(config, path)`: from a config to a finished run folder, stoppable at every step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch

from toyvit.config import RunConfig
from toyvit.errors import BadInput, Diverged, Stopped, Unfinished
from toyvit.runs.folder import RunFolder
from toyvit.surroundings import pin_torch
from toyvit.train.datamodule import ViTDataModule
from toyvit.train.guests import Guests, Loggers
from toyvit.train.module import ViTModule
from toyvit.train.opening import check_config, name_last, open_writer
from toyvit.train.snapshots import CheckpointWriter
from toyvit.train.trainer import Progress, open_trainer

log = logging.getLogger(__name__)


@pin_torch()
def fit(
    config: RunConfig,
    path: RunFolder | Path | str,
    *,
    resume: bool = False,
    progress: bool = True,
    position: int = 0,
    callbacks: Sequence[pl.Callback] = (),
    logger: Loggers | None = None,
) -> RunFolder:
    """Train a run in the folder `path` and return the finished folder.

    With `resume` a run that was stopped goes on, bit for bit, and a finished one is returned as it
    is; without it an existing folder is refused. A config with more steps than the folder's, and
    nothing else changed, lengthens the run: what is there is the beginning of the longer one, in
    the same bits, and up to its old end the checkpoints stay those that were planned; BadInput
    where the learning rates would be others (a decay).

    Raises BadInput, Diverged (status `diverged`), Stopped after a signal, or Unfinished where
    training ended early without one. `position` is the line of the progress bar.

    `callbacks` and a `logger` (or several) of Lightning see the training as it goes: every
    hundredth of the run the validation pictures are scored and values logged, `ViTModule` says
    which. The run has the same bits as without, unless they change the model. One that stops the
    training leaves a run to go on with, which is returned.
    """
    folder = RunFolder.open(path)
    module = ViTModule(check_config(config, folder))
    guests = Guests(tuple(callbacks), logger)
    module.is_logged = guests.is_any
    with open_writer(folder, module, resume) as writer:
        if writer is not None:
            bar = Progress(writer, folder.path.name, position) if progress else None
            _train(writer, module, bar, guests)
    return folder


def _train(
    writer: CheckpointWriter, module: ViTModule, progress: Progress | None, guests: Guests
) -> None:
    train = module.config.train
    folder = writer.folder
    first = module.step

    try:
        with open_trainer(train, writer, progress, first=first, guests=guests) as (
            trainer,
            stopper,
        ):
            if first < train.steps:
                trainer.fit(module, ViTDataModule(module.config))
    except Diverged as error:
        writer.note_divergence(str(error))
        last = name_last(folder, writer.entries)
        raise Diverged(f"{error}; training stopped, {last}") from None
    except torch.OutOfMemoryError as error:
        reason = str(error).splitlines()[0]
        raise BadInput(
            f"the accelerator has not enough memory: {reason}; make the batches smaller "
            "(--train.batch_size) or use --train.accelerator cpu"
        ) from None
    if stopper.signum is not None and module.step < train.steps:
        raise Stopped(stopper.signum, folder.path, module.step)
    if module.step < train.steps:
        end = f"{folder.path} ended at step {module.step} of {train.steps}"
        if not guests.callbacks:
            raise Unfinished(f"{end}, and nobody asked for it: `--resume` goes on from there")
        log.info("%s, stopped by a callback: `resume` goes on from there", end)
