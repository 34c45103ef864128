"""`fit(run, path)`: from a Run to a finished run folder, stoppable and resumable at every step."""

from __future__ import annotations

import logging
import shutil
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from tqdm import tqdm

from toyvit.clamps.weights import check_clamps
from toyvit.config import RunConfig
from toyvit.data.task import build_task, resolve_config
from toyvit.errors import BadInput, Diverged, Stopped
from toyvit.runs.folder import RunFolder, read_lines
from toyvit.train.datamodule import BatchStream, ViTDataModule
from toyvit.train.module import ViTModule
from toyvit.train.snapshots import N_KEPT_STATES, CheckpointWriter, load_state, plan_checkpoints

logger = logging.getLogger(__name__)


class Progress(pl.Callback):
    """A progress bar over the whole run that refreshes seldom."""

    def __init__(self, snapshots: CheckpointWriter, label: str, position: int) -> None:
        self.snapshots, self.label, self.position = snapshots, label, position

    def on_train_start(self, trainer: pl.Trainer, system: ViTModule) -> None:  # type: ignore[override]
        self.bar = tqdm(
            total=system.step + trainer.max_steps,
            initial=system.step,
            desc=self.label,
            unit="step",
            position=self.position,
            mininterval=0.5,
            dynamic_ncols=True,
        )

    def on_train_batch_end(self, trainer: pl.Trainer, system: ViTModule, *args: Any) -> None:  # type: ignore[override]
        if system.step in self.snapshots.steps:
            self.bar.set_postfix(
                {name: f"{value:.3f}" for name, value in self.snapshots.named().items()},
                refresh=False,
            )
        self.bar.update()

    def teardown(self, trainer: pl.Trainer, system: ViTModule, stage: str) -> None:  # type: ignore[override]
        if hasattr(self, "bar"):
            self.bar.close()


class StopOnSignal(pl.Callback):
    """SIGINT and SIGTERM: finish the step, save, stop."""

    signum: int | None = None

    @contextmanager
    def listening(self) -> Iterator[StopOnSignal]:
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {
            signum: signal.signal(signum, self.note) for signum in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield self
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def note(self, signum: int, frame: Any) -> None:
        self.signum = signum

    def on_train_start(self, trainer: pl.Trainer, system: ViTModule) -> None:  # type: ignore[override]
        if threading.current_thread() is threading.main_thread():
            for signum in (
                signal.SIGINT,
                signal.SIGTERM,
            ):  # Lightning has put its own in place by now
                signal.signal(signum, self.note)

    def on_train_batch_end(self, trainer: pl.Trainer, system: ViTModule, *args: Any) -> None:  # type: ignore[override]
        if self.signum is not None:
            trainer.should_stop = True


def fit(
    run: RunConfig,
    path: Path | str,
    *,
    resume: bool = False,
    progress: bool = True,
    position: int = 0,
) -> RunFolder:
    """Train `run` in the folder `path` and return the finished folder.

    With `resume` a run that was stopped goes on, bit for bit, and a finished one is returned as it is; without it an
    existing folder is refused. Raises BadInput, Diverged (status `diverged`), or Stopped after a signal.
    """
    run = resolve_config(run)
    folder = RunFolder(path)
    plan_checkpoints(run.train)
    check_clamps(run)
    system = ViTModule(run)
    if folder.config_file.exists():
        if not resume:
            raise BadInput(
                f"{folder.path} exists already: use --resume to go on with it, or another --name"
            )
        folder.check_same(run)
        if folder.read_status() in ("finished", "diverged"):
            return _ended(folder)
    elif folder.path.exists() and (not folder.path.is_dir() or any(folder.path.iterdir())):
        raise BadInput(f"{folder.path} exists and is not a run folder: give another --name")
    _check_accelerator(run)
    _check_disk(folder, run, system)
    validation = build_task(run.task).eval_batch(
        "validation", run.train.n_validation, run.seeds.measure
    )
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder.path} cannot be made: {error.strerror}") from None
    with folder.lock():
        if not folder.config_file.exists():
            folder.create(run)
        _train(
            folder,
            run,
            system,
            CheckpointWriter(folder, validation, load_state(folder)),
            progress,
            position,
        )
    return folder


def _train(
    folder: RunFolder,
    run: RunConfig,
    system: ViTModule,
    snapshots: CheckpointWriter,
    progress: bool,
    position: int,
) -> None:
    first = snapshots.state["step"] if snapshots.state else 0
    callbacks: list[pl.Callback] = [
        snapshots,
        *([Progress(snapshots, folder.path.name, position)] if progress else []),
    ]
    try:
        with open_trainer(run, callbacks, run.train.steps - first) as (trainer, interrupts):
            if first < run.train.steps:
                trainer.fit(
                    system, ViTDataModule(BatchStream(build_task(run.task), run, first + 1))
                )
    except Diverged as error:
        snapshots.diverged(str(error))
        raise Diverged(f"{error}; training stopped, {_last_finite(folder)}") from None
    if interrupts.signum is not None and system.step < run.train.steps:
        raise Stopped(interrupts.signum, folder.path, system.step)


@contextmanager
def open_trainer(
    run: RunConfig, callbacks: list[pl.Callback], steps: int
) -> Iterator[tuple[pl.Trainer, StopOnSignal]]:
    """A trainer of so many steps, on the run's number of threads, that a signal stops after the step it is at."""
    interrupts, threads = StopOnSignal(), torch.get_num_threads()
    torch.set_num_threads(run.train.threads)
    try:
        with interrupts.listening(), _quiet():
            yield _trainer(run, [*callbacks[:1], interrupts, *callbacks[1:]], steps), interrupts
    finally:
        torch.set_num_threads(threads)


def _trainer(run: RunConfig, callbacks: list[pl.Callback], steps: int) -> pl.Trainer:
    return pl.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator=run.train.accelerator,
        devices=1,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's banners, and its advice to use more loader workers (a worker would hand batches over more slowly)."""
    log = logging.getLogger("pytorch_lightning")
    level = log.level
    log.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # Lightning's own use of torch
        yield
    log.setLevel(level)


def _ended(folder: RunFolder) -> RunFolder:
    if folder.read_status() == "diverged":
        reason = read_lines(folder.metrics)[-1]["reason"]
        raise Diverged(f"{folder.path} diverged before ({reason}); {_last_finite(folder)}")
    logger.info("%s is finished: nothing to do", folder.path)
    return folder


def _last_finite(folder: RunFolder) -> str:
    entries = folder.read_manifest()
    return (
        f"the last finite checkpoint is {folder.checkpoints / entries[-1].file}"
        if entries
        else "there is no checkpoint"
    )


def _check_accelerator(run: RunConfig) -> None:
    from pytorch_lightning.accelerators import AcceleratorRegistry

    from toyvit.errors import choose

    choose(
        run.train.accelerator,
        ["auto", "gpu", *AcceleratorRegistry.available_accelerators()],
        "train.accelerator",
    )


def _check_disk(folder: RunFolder, run: RunConfig, system: ViTModule) -> None:
    """Refuse before step 0 what the disk cannot hold: every checkpoint, and the states with their two moments."""
    weights = (
        sum(value.numel() * value.element_size() for value in system.model.state_dict().values())
        + 4096
    )
    planned = weights * len(plan_checkpoints(run.train)) + 3 * weights * (N_KEPT_STATES + 3)
    place = next(
        parent
        for parent in (folder.path.absolute(), *folder.path.absolute().parents)
        if parent.exists()
    )
    free = shutil.disk_usage(place).free
    if planned > free:
        raise BadInput(
            f"{folder.path} would need {planned / 1e6:.1f} MB for {len(plan_checkpoints(run.train))} checkpoints, "
            f"but {free / 1e6:.1f} MB are free: keep fewer (--train.checkpoints 0,100,200) or use another --runs"
        )
