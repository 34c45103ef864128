"""What happens around the steps of a training: callbacks that know their module, and signals."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytorch_lightning as pl

from toyvit.runs.signals import CLOCK, SIGNALS
from toyvit.train.module import ViTModule


class StepCallback(pl.Callback):
    """A Lightning callback whose module is a `ViTModule`; what it does not say, it does not do."""

    def start(self, trainer: pl.Trainer, module: ViTModule) -> None:
        """Before the first step of this session."""

    def finish_step(self, trainer: pl.Trainer, module: ViTModule) -> None:
        """After every update."""

    def finish(self, trainer: pl.Trainer, module: ViTModule) -> None:
        """After the last step of this session."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, ViTModule)
        self.start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        assert isinstance(pl_module, ViTModule)
        self.finish_step(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, ViTModule)
        self.finish(trainer, pl_module)


class StopOnSignal(StepCallback):
    """SIGINT and SIGTERM: finish the step, save, stop."""

    signum: int | None = None

    @contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Its own handlers within a block, those from before after it; only in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {signum: signal.signal(signum, self.receive) for signum in SIGNALS}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def receive(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        CLOCK.start(signum)

    def start(self, trainer: pl.Trainer, module: ViTModule) -> None:
        """Its handlers again: Lightning has put its own in place by now."""
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                signal.signal(signum, self.receive)

    def finish_step(self, trainer: pl.Trainer, module: ViTModule) -> None:
        if self.signum is not None:
            trainer.should_stop = True
