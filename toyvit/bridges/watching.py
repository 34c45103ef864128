"""`watch`: checkpoints and measures of a model in somebody else's training loop."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from toyvit.analyses.registry import list_analyses
from toyvit.bridges.fitted_heads import fit_head
from toyvit.bridges.modules import ForeignModel, describe_module, read_parts
from toyvit.bridges.shown import N_VALIDATION, describe_run, score_known
from toyvit.config import RunConfig
from toyvit.config.whole_files import write_atomically
from toyvit.data.npz_files import write_npz
from toyvit.data.own_pictures import LEAST_PICTURES
from toyvit.data.task import build_task
from toyvit.errors import BadInput, choose
from toyvit.measuring import measure
from toyvit.model import ViT
from toyvit.model.mappings.assembly import fill_head, load_parts
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run
from toyvit.runs.provenance import WATCHED, add_provenance, cut_provenance
from toyvit.surroundings import pin_torch

PICTURES = "pictures.npz"  # in the run folder: what the user gave
MOST_PICTURES = 4096


def watch(
    model: nn.Module,
    *,
    into: Path | str,
    every: int | Collection[int] = 100,
    pictures: tuple[Tensor, Tensor] | None = None,
    analyses: Sequence[str] = (),
    optimizer: Optimizer | None = None,
    start: int = 0,
) -> Watcher:
    """Keep checkpoints of a model of timm, torchvision or Hugging Face while somebody trains it.

    Call `step()` after each update, or give the `optimizer`, whose updates are counted then. A
    checkpoint is kept at `start`, at each `every` updates (or at these), and by `close`.

    `pictures` are (image channel height width), as the model sees them, and their classes: they are
    kept with the run, and every measure is of them; by itself the model is shown parts of two
    photographs. `analyses` are run at each checkpoint. The folder opens in everything of the lab.
    With `start` above 0 a folder that is there is gone on with, from its last checkpoint on.
    BadInput for a model that no mapping knows, and for a folder that is taken.
    """
    return Watcher(describe_module(model), into, every, pictures, analyses, optimizer, start)


@contextmanager
def leave_loop_alone() -> Iterator[None]:
    """torch as runs are measured within a block, and its random numbers after it as before."""
    with pin_torch(), torch.random.fork_rng(devices=[]):
        yield


def _check_place(folder: RunFolder, start: int) -> bool:
    """Whether a run begins there; BadInput where it cannot, and nothing is to be gone on with."""
    is_new = not folder.config_file.exists()
    if is_new and folder.path.exists() and any(folder.path.iterdir()):
        raise BadInput(f"{folder.path} is no run, and not empty: give another folder")
    if not is_new and not start:
        raise BadInput(f"{folder.path} exists already: give another folder, or start")
    return is_new


def _empty(folder: RunFolder) -> None:
    """Remove what was put into a new folder but its lock."""
    for path in folder.path.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path != folder.lock_file:
            path.unlink()


class Watcher:
    """A model under watch: see `watch`. As a context it closes itself."""

    @leave_loop_alone()
    def __init__(
        self,
        model: ForeignModel,
        into: Path | str,
        every: int | Collection[int],
        pictures: tuple[Tensor, Tensor] | None,
        analyses: Sequence[str],
        optimizer: Optimizer | None,
        start: int,
    ) -> None:
        if isinstance(every, int) and every < 1:
            raise BadInput(f"every must be at least 1, got {every}")
        for name in analyses:
            choose(name, list_analyses(), "analysis")
        self.model = model
        self.every = every
        self.analyses = list(analyses)
        self.n_steps = start
        folder = RunFolder(into)
        is_new = _check_place(folder, start)
        with ExitStack() as after:
            after.enter_context(folder.claim())
            with ExitStack() as undo:  # a start that fails leaves nothing
                if is_new:
                    undo.callback(_empty, folder)
                    self._begin(folder, pictures)
                else:
                    self._go_on(folder, start)
                self._start(folder, start)
                undo.pop_all()
            if optimizer is not None:
                hook = optimizer.register_step_post_hook(lambda *_: self.step())
                after.callback(hook.remove)
            self._after = after.pop_all()

    def _start(self, folder: RunFolder, start: int) -> None:
        """Open the run, and keep the model as it is now."""
        self.run = Run(folder)
        self.task = build_task(self.run.config.task)
        self.batch = self.task.eval_batch("validation", N_VALIDATION, 0)
        self.mirror = ViT(self.run.config.model).eval()
        if start not in self.run.entries:
            self.keep()

    def _begin(self, folder: RunFolder, pictures: tuple[Tensor, Tensor] | None) -> None:
        shown: dict[str, object] = {}
        if pictures is not None:
            write_atomically(folder.path / PICTURES, pack_pictures(pictures, self.model))
            has_head = self.model.config.n_classes is not None
            shown = {"npz": str(folder.path / PICTURES), "is_whole": has_head}
        folder.create(self._describe(shown))
        facts = {"kind": WATCHED, "family": self.model.family.name, "every": self._name_every()}
        add_provenance(folder.provenance, folder.hash_run(), facts)

    def _describe(self, shown: dict[str, object]) -> RunConfig:
        described = self.model.description
        if shown:  # pictures come as the model sees them
            described = replace(described, mean=(), deviation=())
        return describe_run(self.model.config, self.model.family.name, described, shown, [0])

    def _name_every(self) -> int | list[int]:
        return self.every if isinstance(self.every, int) else sorted(self.every)

    def _go_on(self, folder: RunFolder, start: int) -> None:
        config = folder.read_config()
        if not folder.provenance.exists():
            raise BadInput(f"{folder.path} was trained by the lab itself: give another folder")
        shape = replace(self.model.config, n_classes=config.model.n_classes)
        if shape != config.model:
            raise BadInput(f"{folder.path} is of a model of another shape: give another folder")
        last = max((entry.step for entry in folder.read_manifest()), default=0)
        if start < last:
            raise BadInput(f"{folder.path} has a checkpoint at step {last}: start there or later")
        entries = folder.truncate(last)  # without what a kill has left half written
        steps = [entry.step for entry in entries]
        cut_provenance(folder.provenance, folder.hash_run(), steps)

    def step(self) -> None:
        """Count an update of the model, and keep it where that is due."""
        self.reach(self.n_steps + 1)

    def reach(self, step: int) -> None:
        """Say that so many updates were done, and keep the model where that is due."""
        self.n_steps = step
        if self._is_due(step) and step not in self.run.entries:
            self.keep()

    def _is_due(self, step: int) -> bool:
        if isinstance(self.every, int):
            return step % self.every == 0
        return step in self.every

    @leave_loop_alone()
    def keep(self) -> None:
        """A checkpoint of the model as it is, and its measures."""
        parts = read_parts(self.model)
        if self.model.config.n_classes is None:
            config = self.mirror.config
            fill_head(parts, config, *fit_head(parts, config, self.task))
        load_parts(self.mirror, parts)
        scores = score_known(self.mirror, self.batch)
        folder = self.run.folder
        source = {"step": self.n_steps, "source": "memory"}
        add_provenance(folder.provenance, folder.hash_run(), source)  # before: see `verify`
        folder.write_checkpoint(self.n_steps, 0, self.mirror.state_dict(), scores)
        self.run.refresh()
        if self.analyses:
            self._measure(self.n_steps)

    def _measure(self, step: int) -> None:
        measure(self.run, analyses=self.analyses, steps=[step], images=N_VALIDATION, progress=False)

    def close(self) -> None:
        """Keep the last step, and give the folder free."""
        if self.n_steps not in self.run.entries:
            self.keep()
        self._after.close()

    def __enter__(self) -> Watcher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def pack_pictures(pictures: tuple[Tensor, Tensor], model: ForeignModel) -> bytes:
    """Pictures and their classes as the npz file that is shown; BadInput where they are none."""
    are_two = isinstance(pictures, tuple | list) and len(pictures) == 2
    if not are_two or not all(isinstance(part, Tensor) for part in pictures):
        raise BadInput("pictures are two tensors: (image channel height width), a class for each")
    images, classes = pictures
    model.check_pictures(images)
    if classes.shape != images.shape[:1] or classes.is_floating_point():
        raise BadInput(
            f"pictures need a class for each, {len(images)} whole numbers, got "
            f"{tuple(classes.shape)} of {classes.dtype}"
        )
    if not LEAST_PICTURES <= len(images) <= MOST_PICTURES:
        allowed = f"{LEAST_PICTURES} to {MOST_PICTURES}"
        raise BadInput(f"pictures are kept with the run: {allowed}, got {len(images)}")
    n_classes = model.config.n_classes
    if n_classes is not None and (classes.min() < 0 or classes.max() >= n_classes):
        raise BadInput(
            f"classes of pictures are 0 to {n_classes - 1} as the model's, got "
            f"{int(classes.min())} to {int(classes.max())}"
        )

    floats = images.detach().cpu().float().permute(0, 2, 3, 1).numpy()
    labels = classes.detach().cpu().numpy().astype(np.int64)
    arrays: dict[str, NDArray[np.generic]] = {
        "images": np.ascontiguousarray(floats),
        "labels": labels,
    }
    if n_classes is not None:  # also those that no picture shows
        arrays["class_names"] = np.array([str(number) for number in range(n_classes)])
    content = BytesIO()
    write_npz(content, arrays)
    return content.getvalue()
