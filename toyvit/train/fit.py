"""`fit(config, path)`: from a config to a finished run folder, stoppable at every step."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import torch

from toyvit.clamps.patterns import choose_path
from toyvit.clamps.weight_clamps import check_clamps
from toyvit.config import N_KEPT_STATES, RunConfig, plan_checkpoints
from toyvit.config.whole_files import remove_leftovers
from toyvit.data.task import build_task, resolve_config
from toyvit.errors import BadInput, Diverged, Stopped, Unfinished, escape_text
from toyvit.runs.folder import RunFolder
from toyvit.runs.manifest import ManifestEntry
from toyvit.runs.sessions import note_session
from toyvit.surroundings import pin_torch
from toyvit.train.datamodule import BatchStream, ViTDataModule
from toyvit.train.machine import check_machine
from toyvit.train.memory import check_memory
from toyvit.train.module import ViTModule
from toyvit.train.snapshots import CheckpointWriter
from toyvit.train.states import load_state
from toyvit.train.trainer import Progress, open_trainer

logger = logging.getLogger(__name__)


@pin_torch()
def fit(
    config: RunConfig,
    path: RunFolder | Path | str,
    *,
    resume: bool = False,
    progress: bool = True,
    position: int = 0,
) -> RunFolder:
    """Train a run in the folder `path` and return the finished folder.

    With `resume` a run that was stopped goes on, bit for bit, and a finished one is returned as it
    is; without it an existing folder is refused. Raises BadInput, Diverged (status `diverged`),
    Stopped after a signal, or Unfinished where training ended early without one. `position` is the
    line of the progress bar.
    """
    folder = RunFolder.open(path)
    config = settle_path(resolve_config(config), folder)
    plan_checkpoints(config.train)
    check_clamps(config)
    check_machine(config.train)
    _check_place(folder)
    check_memory(config)
    module = ViTModule(config)

    with folder.claim():  # all that depends on the folder is decided under its lock
        for place in (folder.path, folder.checkpoints, folder.states):
            remove_leftovers(place)
        if _is_finished(folder, config, resume):
            logger.info("%s is finished: nothing to do", folder.path)
            return folder
        _check_disk(folder, config, module)
        task = build_task(config.task)
        validation = task.eval_batch("validation", config.train.n_validation, config.seeds.measure)
        with _take_back(folder):
            if not folder.config_file.exists():
                folder.create(config)
            for notice in task.list_notices():
                logger.warning("%s", escape_text(notice))

            entries = folder.read_manifest()
            state = load_state(folder, entries)
            note_session(folder, state.step if state else 0)
            writer = CheckpointWriter(folder, validation, state, entries)
            bar = Progress(writer, folder.path.name, position) if progress else None
            _train(writer, module, bar)
    return folder


def settle_path(config: RunConfig, folder: RunFolder) -> RunConfig:
    """The run with the path that it takes from its first step to its last.

    Where it leaves that open, a run that goes on takes the path on which it began.
    """
    path = choose_path(config.train)
    if config.train.path is None and folder.config_file.exists():
        path = folder.read_config().train.path or path
    return replace(config, train=replace(config.train, path=path))


@contextmanager
def _take_back(folder: RunFolder) -> Iterator[None]:
    """What fails within before a new run has a checkpoint leaves nothing that blocks its name."""
    is_new = not folder.config_file.exists()
    try:
        yield
    except BaseException:
        if is_new and not folder.manifest.exists():
            for path in (*folder.checkpoints.glob("step_*"), *folder.states.glob("step_*")):
                path.unlink()
            for file in (folder.config_file, folder.sessions, folder.metrics):
                file.unlink(missing_ok=True)
            for place in (folder.checkpoints, folder.states):
                with suppress(OSError):  # not there, or not ours alone
                    place.rmdir()
        raise


def _check_place(folder: RunFolder) -> None:
    """BadInput where something that is no run folder has the name."""
    path = folder.path
    is_free = not path.exists() or (path.is_dir() and folder.is_empty())
    if folder.config_file.exists():
        folder.refuse_links()
    elif not is_free:
        raise BadInput(f"{path} exists and is not a run folder: give another --name")


def _train(writer: CheckpointWriter, module: ViTModule, progress: Progress | None) -> None:
    config = module.config
    folder = writer.folder
    first = writer.state.step if writer.state else 0
    n_steps = config.train.steps - first

    try:
        with open_trainer(config.train, writer, n_steps, progress) as (trainer, stopper):
            if n_steps > 0:
                stream = BatchStream(build_task(config.task), config, first + 1)
                trainer.fit(module, ViTDataModule(stream))
    except Diverged as error:
        writer.note_divergence(str(error))
        last = _name_last(folder, writer.entries)
        raise Diverged(f"{error}; training stopped, {last}") from None
    except torch.OutOfMemoryError as error:
        reason = str(error).splitlines()[0]
        raise BadInput(
            f"the accelerator has not enough memory: {reason}; make the batches smaller "
            "(--train.batch_size) or use --train.accelerator cpu"
        ) from None
    if stopper.signum is not None and module.step < config.train.steps:
        raise Stopped(stopper.signum, folder.path, module.step)
    if max(first, module.step) < config.train.steps:
        raise Unfinished(
            f"{folder.path} ended at step {module.step} of {config.train.steps}, and nobody asked "
            "for it: `--resume` goes on from there"
        )


def _is_finished(folder: RunFolder, config: RunConfig, resume: bool) -> bool:
    """Whether there is nothing to train; BadInput where this folder cannot hold the run."""
    path = folder.path
    if not folder.config_file.exists():
        _check_place(folder)
        return False
    if not resume:
        raise BadInput(f"{path} exists already: use --resume to go on with it, or another --name")
    folder.check_same(config)
    status = folder.read_end(config)
    if status == "diverged":
        reason = folder.read_metrics()[-1]["reason"]
        last = _name_last(folder, folder.read_manifest())
        raise Diverged(f"{path} diverged before ({reason}); {last}")
    return status == "finished"


def _name_last(folder: RunFolder, entries: list[ManifestEntry]) -> str:
    if not entries:
        return "there is no checkpoint"
    return f"the last finite checkpoint is {folder.checkpoints / entries[-1].file}"


def _check_disk(folder: RunFolder, config: RunConfig, module: ViTModule) -> None:
    """Refuse before step 0 what the disk cannot hold.

    Every checkpoint, and the states with the two moments of each weight.
    """
    weights = module.model.state_dict().values()
    size = sum(weight.numel() * weight.element_size() for weight in weights) + 4096
    n_checkpoints = len(plan_checkpoints(config.train))
    planned = size * n_checkpoints + 3 * size * (N_KEPT_STATES + 3)

    path = folder.path.absolute()
    place = next(parent for parent in (path, *path.parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if planned > free:
        raise BadInput(
            f"{folder.path} would need {planned / 1e6:.1f} MB for {n_checkpoints} checkpoints, "
            f"but {free / 1e6:.1f} MB are free: "
            "keep fewer (--train.checkpoints 0,100,200) or use another --runs"
        )
