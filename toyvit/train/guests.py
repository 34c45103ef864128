"""What a user adds to the lab's own training: callbacks and loggers of Lightning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers import Logger

Loggers = Logger | Iterable[Logger]


@dataclass(frozen=True)
class Guests:
    """What a user adds to the lab's own training: it may look, and stop it."""

    callbacks: Sequence[pl.Callback] = ()
    logger: Loggers | None = None

    @property
    def is_any(self) -> bool:
        return bool(self.callbacks) or self.logger is not None

    def list_arguments(self, n_steps: int) -> dict[str, object]:
        """What the trainer of so many steps is told of them.

        They see values every hundredth of the run, as its checkpoints are; without them nothing is
        validated and nothing logged.
        """
        every = max(1, n_steps // 100)
        return {
            "logger": False if self.logger is None else self.logger,
            "enable_checkpointing": any(isinstance(guest, Checkpoint) for guest in self.callbacks),
            "limit_val_batches": 1.0 if self.is_any else 0,
            "val_check_interval": every,
            "check_val_every_n_epoch": None,
            "log_every_n_steps": every,
        }
