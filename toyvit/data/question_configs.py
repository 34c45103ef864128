"""Options of the questions that any world can be asked; see `questions.py`. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from toyvit.config.fields import number
from toyvit.config.foreign_files import hash_file
from toyvit.config.tasks import TaskConfig

DEFAULT_WORLD = "digits"


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(TaskConfig):
    """Name the value of one factor of a picture: of any world, or of your own arrays (`npz`).

    `toyvit data` lists the worlds; where neither a world nor a file is given it is digits. The file
    holds `images`, `labels` and, where there are any, `factor_NAME`; a run keeps its absolute path
    and its SHA-256.
    """

    name: ClassVar[str] = "classify"
    world: str = ""
    factor: str = "class"
    npz: str = ""
    npz_sha256: str = ""

    @property
    def data_set(self) -> str:
        return self.world or DEFAULT_WORLD

    @property
    def reads_files(self) -> bool:
        """Whether its pictures come from a file of the user's, or of the world's."""
        return bool(self.npz) or super().reads_files

    def to_json(self) -> dict[str, object]:
        """Name and options; without a file as version 0.1 wrote them."""
        plain = super().to_json()
        if not self.npz_sha256:
            del plain["npz_sha256"]
        return plain

    def bind_files(self) -> ClassifyConfig:
        """Itself with the absolute path of its file, and the file's SHA-256."""
        file = Path(self.npz)
        if not self.npz or not file.is_file():
            return self  # nothing to bind; what is missing is said where it is read
        digest = self.npz_sha256 or hash_file(file)
        return replace(self, npz=str(file.absolute()), npz_sha256=digest)

    def move_files(self, other: TaskConfig) -> ClassifyConfig:
        """Itself with its file where another task has the same one; one without a digest may be."""
        if not (isinstance(other, ClassifyConfig) and self.npz and other.npz):
            return self
        if self.npz_sha256 not in ("", other.npz_sha256):
            return self
        return replace(self, npz=other.npz, npz_sha256=other.npz_sha256)


@dataclass(frozen=True, kw_only=True)
class RegressConfig(TaskConfig):
    """Say the value of one factor as a number.

    Scaled so that equally likely values have mean 0 and variance 1.
    """

    name: ClassVar[str] = "regress"
    world: str = "dsprites"
    factor: str = "x"

    @property
    def data_set(self) -> str:
        return self.world


@dataclass(frozen=True, kw_only=True)
class ReconstructConfig(TaskConfig):
    """Patches of a picture are hidden: what did they show?"""

    name: ClassVar[str] = "reconstruct"
    world: str = DEFAULT_WORLD
    # Pixels; where a world is made of cells, a patch is a cell whatever is said here.
    patch_size: int = number(2, least=1)
    hidden: float = number(0.5, above=0, most=1)  # share of the patches

    @property
    def data_set(self) -> str:
        return self.world


QUESTIONS = (ClassifyConfig, RegressConfig, ReconstructConfig)
