"""`watch` as a callback of Lightning's Trainer, and of Hugging Face's."""

from __future__ import annotations

from toyvit.torchvision_guard import torchvision  # before Lightning, which imports it too

# isort: split

from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
from torch import Tensor, nn

from toyvit.bridges.watching import Watcher, watch
from toyvit.errors import BadInput

FindModel = Callable[[nn.Module], nn.Module]


class Watching:
    """What both callbacks have: what `watch` is told but for the model and the step, and its watch.

    `into`, `every`, `pictures` and `analyses` are those of `watch`.
    """

    def __init__(
        self,
        into: Path | str,
        every: int | Collection[int] = 100,
        pictures: tuple[Tensor, Tensor] | None = None,
        analyses: Sequence[str] = (),
    ) -> None:
        self.open = partial(watch, into=into, every=every, pictures=pictures, analyses=analyses)
        self.watcher: Watcher | None = None

    def start(self, model: nn.Module, step: int) -> None:
        """Watch a model from a step on."""
        self.watcher = self.open(model, start=step)

    def reach(self, step: int) -> None:
        """Say that so many updates were done."""
        if self.watcher is not None and step > self.watcher.n_steps:
            self.watcher.reach(step)

    def close(self) -> None:
        """Keep the last step, and watch no more."""
        if self.watcher is not None:
            self.watcher.close()
            self.watcher = None


class WatchCallback(Watching, pl.Callback):
    """Keeps the checkpoints of a model that Lightning trains, as `watch` does.

    `find_model` gives the ViT of the LightningModule; by itself it is its only child that has a
    mapping. Steps are the trainer's `global_step`; what goes on from a checkpoint goes on here.
    """

    find_model: FindModel

    def __init__(
        self,
        into: Path | str,
        every: int | Collection[int] = 100,
        pictures: tuple[Tensor, Tensor] | None = None,
        analyses: Sequence[str] = (),
        find_model: FindModel | None = None,
    ) -> None:
        super().__init__(into, every, pictures, analyses)
        self.find_model = find_model or find_child

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.start(self.find_model(pl_module), trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object
    ) -> None:
        self.reach(trainer.global_step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self.close()


class HuggingFaceWatch(Watching):
    """Keeps the checkpoints of a model that Hugging Face's Trainer trains, as `watch` does.

    `Trainer(..., callbacks=[HuggingFaceWatch("runs/mine")])`. It has every method that the Trainer
    calls, and needs nothing of that library to be imported.
    """

    def on_train_begin(self, args: object, state: object, control: object, **given: object) -> None:
        model = given.get("model")
        if not isinstance(model, nn.Module):
            raise BadInput("the Trainer has handed no model over: on_train_begin got none")
        if getattr(state, "is_world_process_zero", True):
            self.start(model, int(getattr(state, "global_step", 0)))

    def on_step_end(self, args: object, state: object, control: object, **given: object) -> None:
        self.reach(int(getattr(state, "global_step", 0)))

    def on_train_end(self, args: object, state: object, control: object, **given: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Callable[..., None]:
        """The other events of the Trainer, at which nothing is done."""
        if not name.startswith("on_"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return lambda *args, **given: None


def find_child(module: nn.Module) -> nn.Module:
    """The one ViT among the modules that a LightningModule has itself; BadInput where none is."""
    children = [child for child in module.children() if _may_be_watched(child)]
    if len(children) != 1:
        names = ", ".join(type(child).__name__ for child in module.children())
        raise BadInput(
            f"{type(module).__name__} has {len(children)} models that may be watched ({names}):"
            " give find_model"
        )
    return children[0]


def _may_be_watched(module: nn.Module) -> bool:
    if isinstance(module, torchvision.models.VisionTransformer):
        return True
    libraries = ("timm.", "transformers.")
    return any(kind.__module__.startswith(libraries) for kind in type(module).__mro__)
