"""The contract of a task's options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from toyvit.config.fields import Checked


@dataclass(frozen=True, kw_only=True)
class TaskConfig(Checked):
    """Options of one task. Each task has a subclass of its own, in a file that needs no torch.

    `name` is the task's name in a run's config and on the command line.
    """

    name: ClassVar[str]

    @property
    def data_set(self) -> str:
        """The data set whose pictures the task shows: by itself the one named as the task."""
        return self.name
