"""The contract of a task's options."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from toyvit.config.extensions import Origin
from toyvit.config.fields import Checked
from toyvit.errors import NotInstalled


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

    @property
    def schedulable(self) -> tuple[str, ...]:
        """The options that `train.curriculum` may change while training.

        None that changes the size of pictures, the classes, or what is held out.
        """
        return ()

    @property
    def reads_files(self) -> bool:
        """Whether its pictures come from files that are not installed with the lab."""
        from toyvit.data import worlds

        return worlds.find(self.data_set).reads_files

    def bind_files(self) -> TaskConfig:
        """Itself with what tells the files that it reads from others of their names."""
        return self

    def move_files(self, other: TaskConfig) -> TaskConfig:
        """Itself with its files where another task has the same ones."""
        return self

    def take_patch_size(self, size: int | None) -> TaskConfig:
        """Itself with the patches that the model is given, where what it shows depends on them."""
        return self

    def find_beside(self, folder: Path) -> TaskConfig:
        """Itself with the files that a run has brought along in its folder."""
        return self

    def to_json(self) -> dict[str, Any]:
        """Name and options, as a run's config keeps them."""
        return {"name": self.name, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class MissingTaskConfig(TaskConfig):
    """The options of a task whose world comes from a package that is not here.

    A run of it can be listed, verified and reported; what needs its pictures is NotInstalled.
    """

    name: ClassVar[str] = "missing"
    task: str
    origin: Origin
    options: dict[str, Any] = field(hash=False)

    def __post_init__(self) -> None:
        """Options of an unknown record cannot be checked."""

    @property
    def data_set(self) -> str:
        """The world's name."""
        return self.task

    def to_json(self) -> dict[str, Any]:
        """Name and options, as they were read."""
        return {"name": self.task, **self.options}

    @property
    def reads_files(self) -> bool:
        """It cannot be told."""
        return True

    def explain(self) -> NotInstalled:
        """What is missing, and what to install."""
        package = self.origin.distribution
        if not package:
            return NotInstalled(
                f"the task {self.task!r} was registered by a notebook or script: run its "
                "`toyvit.register(...)` first"
            )
        return NotInstalled(
            f"the task {self.task!r} comes from {package} {self.origin.version}, which is not "
            f"installed: pip install {package}=={self.origin.version}"
        )
