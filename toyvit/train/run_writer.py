"""A run folder written while somebody else's `Trainer` trains a `ViTModule`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytorch_lightning as pl

from toyvit.config import RunConfig, list_differences
from toyvit.errors import BadInput, Diverged
from toyvit.runs.folder import RunFolder
from toyvit.surroundings import pin_torch
from toyvit.train.datamodule import ViTDataModule
from toyvit.train.module import ViTModule, settle_config
from toyvit.train.opening import check_config, open_writer
from toyvit.train.snapshots import CheckpointWriter
from toyvit.train.trainer import begin_at

# What a run's config does not say, and would change its bits: an argument of the trainer, and the
# one value that it may have.
PLAIN = {
    "accumulate_grad_batches": 1,
    "gradient_clip_val": None,
    "precision": "32-true",
    "world_size": 1,
}


class RunWriter(pl.Callback):
    """A callback for your own `Trainer`: what it trains is a run folder, as `fit` writes one.

    The folder has checkpoints on the schedule of the config, metrics and states: it is measured,
    drawn, verified and replayed as any other. With `resume` a run that was stopped goes on from its
    last state; the trainer's steps are counted from there. torch is pinned while it trains.

    The module is a `ViTModule`, and its data a `ViTDataModule` of the same config, for that is what
    the folder says of it. BadInput for others, for arguments of the trainer that would change the
    bits and that no config knows (`PLAIN`), and where `fit` refuses. A callback of yours that
    changes the model makes a run that `replay` refuses.

    ```python
    config = toyvit.RECIPES["induction-smoke"]()
    trainer = pl.Trainer(max_epochs=1, callbacks=[toyvit.RunWriter("runs/mine")])
    trainer.fit(toyvit.ViTModule(config), toyvit.ViTDataModule(config))
    ```
    """

    def __init__(self, path: Path | str, *, resume: bool = False) -> None:
        self.path = Path(path)
        self.resume = resume
        self.stack = ExitStack()
        self.writer: CheckpointWriter | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Open the folder, locked until training ends."""
        if stage != "fit":
            return
        module = _check_training(trainer, pl_module)
        folder = RunFolder(self.path)
        _check_same(check_config(module.config, folder), module.config)

        with ExitStack() as opened:
            self.writer = opened.enter_context(open_writer(folder, module, self.resume))
            if self.writer is None:
                raise BadInput(f"{self.path} is finished: there is nothing to train")
            opened.enter_context(pin_torch(module.config.train.threads))
            begin_at(trainer, module.step)
            self.stack = opened.pop_all()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.writer is not None:
            self.writer.on_train_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: object
    ) -> None:
        if self.writer is not None:
            self.writer.on_train_batch_end(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.writer is not None:
            self.writer.on_train_end(trainer, pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Write down that the run diverged, where it did; what is there stays to go on with."""
        if isinstance(exception, Diverged) and self.writer is not None:
            self.writer.note_divergence(str(exception))
        self.stack.__exit__(type(exception), exception, exception.__traceback__)
        self.writer = None

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.stack.close()
        self.writer = None


def _check_training(trainer: pl.Trainer, module: pl.LightningModule) -> ViTModule:
    """The module; BadInput where a run's config would not say what is trained, and on what."""
    data = getattr(trainer, "datamodule", None)  # set by `fit`, where it is given one
    if not isinstance(module, ViTModule):
        raise BadInput(f"a run folder is of a ViTModule, got {type(module).__name__}")
    if not isinstance(data, ViTDataModule):
        raise BadInput(f"a run folder is of a ViTDataModule's batches, got {type(data).__name__}")
    _check_same(settle_config(data.config), module.config)
    for name, plain in PLAIN.items():
        if getattr(trainer, name) != plain:
            raise BadInput(
                f"a run folder is of Trainer({name}={plain!r}), got {getattr(trainer, name)!r}"
            )
    return module


def _check_same(config: RunConfig, own: RunConfig) -> None:
    """BadInput where a config is not that of the module."""
    changes = list_differences(own, config)
    if changes:
        raise BadInput(f"the module has another config ({'; '.join(changes)})")
