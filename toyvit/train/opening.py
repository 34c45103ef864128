"""A run folder opened for training: what it can hold, its lock, and the writer that fills it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from toyvit.clamps.patterns import choose_path
from toyvit.clamps.weight_clamps import check_clamps
from toyvit.config import N_KEPT_STATES, RunConfig, plan_checkpoints
from toyvit.config.whole_files import remove_leftovers
from toyvit.data.task import build_task, resolve_config
from toyvit.errors import BadInput, Diverged, escape_text
from toyvit.runs.folder import RunFolder
from toyvit.runs.manifest import ManifestEntry
from toyvit.runs.sessions import note_session
from toyvit.train.lengthening import check_same_or_longer, lengthen
from toyvit.train.machine import check_machine
from toyvit.train.memory import check_memory
from toyvit.train.module import ViTModule
from toyvit.train.snapshots import CheckpointWriter
from toyvit.train.states import load_state

logger = logging.getLogger(__name__)


def check_config(config: RunConfig, folder: RunFolder) -> RunConfig:
    """The run that is trained in this folder, whole; BadInput where it cannot be."""
    config = settle_path(resolve_config(config), folder)
    plan_checkpoints(config.train)
    check_clamps(config)
    check_machine(config.train)
    _check_place(folder)
    check_memory(config)
    return config


@contextmanager
def open_writer(
    folder: RunFolder, module: ViTModule, resume: bool
) -> Iterator[CheckpointWriter | None]:
    """The writer of a run, its folder locked; the module stands where the run does.

    None where the run is finished. BadInput where the folder cannot hold it, Diverged where it has
    diverged before.
    """
    config = module.config
    with folder.claim():  # all that depends on the folder is decided under its lock
        for place in (folder.path, folder.checkpoints, folder.states):
            remove_leftovers(place)
        if _is_finished(folder, config, resume):
            logger.info("%s is finished: nothing to do", folder.path)
            yield None
            return
        _check_disk(folder, config, module)
        task = build_task(config.task)
        validation = task.eval_batch("validation", config.train.n_validation, config.seeds.measure)
        with _take_back(folder):
            if folder.config_file.exists():
                lengthen(folder, config.train.steps)
            else:
                folder.create(config)
            for notice in task.list_notices():
                logger.warning("%s", escape_text(notice))

            entries = folder.read_manifest()
            state = load_state(folder, entries)
            module.step = state.step if state else 0
            note_session(folder, module.step)
            yield CheckpointWriter(folder, validation, state, entries)


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


def _is_finished(folder: RunFolder, config: RunConfig, resume: bool) -> bool:
    """Whether there is nothing to train; BadInput where this folder cannot hold the run."""
    path = folder.path
    if not folder.config_file.exists():
        _check_place(folder)
        return False
    if not resume:
        raise BadInput(f"{path} exists already: use --resume to go on with it, or another --name")
    if folder.provenance.exists():
        raise BadInput(f"{path} was not trained here: there is no training to go on with")
    check_same_or_longer(folder, config)
    status = folder.read_end(config)
    if status == "diverged":
        reason = folder.read_metrics()[-1]["reason"]
        last = name_last(folder, folder.read_manifest())
        raise Diverged(f"{path} diverged before ({reason}); {last}")
    return status == "finished"


def name_last(folder: RunFolder, entries: list[ManifestEntry]) -> str:
    """Where the last checkpoint of a run that diverged is, in words."""
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
