"""Options of the questions that any world can be asked; see `questions.py`. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from toyvit.config.fields import number
from toyvit.config.foreign_files import hash_file, holds_array
from toyvit.config.picture_folders import hash_folders
from toyvit.config.tasks import TaskConfig

DEFAULT_WORLD = "digits"


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(TaskConfig):
    """Name the value of one factor of a picture: of any world, or of your own pictures.

    `toyvit data` lists the worlds; where neither a world nor pictures are given it is digits. Your
    own are arrays in an `npz` file, or PNG and JPEG files in a `folder` that holds a folder a
    class. A run keeps their absolute path and a SHA-256 of all that is read.

    size        height and width to which pictures of a folder are cut
    channels    1 shows pictures of a folder in grey, 3 in colour; by itself 3 where one has colour
    mean        of each channel, of pictures from 0 to 1: shown is (picture - mean) / deviation
    deviation   by itself 0.5, as the mean: from -1 to +1
    masks       a folder like `folder`, of which object each pixel shows
    pairs       a folder like `folder`, of each picture in another class
    patch_size  of the patches that masks are read for; by itself the model's
    """

    name: ClassVar[str] = "classify"
    later: ClassVar[tuple[str, ...]] = (
        "npz_sha256",
        "folder",
        "folder_sha256",
        "size",
        "channels",
        "mean",
        "deviation",
        "masks",
        "pairs",
        "patch_size",
    )

    world: str = ""
    factor: str = "class"
    npz: str = ""
    npz_sha256: str = ""
    folder: str = ""
    folder_sha256: str = ""  # of all three folders
    size: tuple[int, int] | None = number(None, least=1)
    channels: int | None = number(None, least=1, most=3)
    mean: tuple[float, ...] = number((), least=0)
    deviation: tuple[float, ...] = number((), above=0)
    masks: str = ""
    pairs: str = ""
    patch_size: int | None = number(None, least=1)

    @property
    def own(self) -> str:
        """The file or folder of the user's own pictures; nothing where a world is shown."""
        return self.npz or self.folder

    @property
    def data_set(self) -> str:
        return "own" if self.own else self.world or DEFAULT_WORLD

    @property
    def reads_files(self) -> bool:
        """Whether its pictures come from files of the user's, or of the world's."""
        return bool(self.own) or super().reads_files

    @property
    def sha256(self) -> str:
        """The digest that its own pictures must have; nothing where they are not bound."""
        return self.npz_sha256 if self.npz else self.folder_sha256

    @property
    def folders(self) -> dict[str, str]:
        """The folders that are read, by what they are for."""
        named = {"folder": self.folder, "masks": self.masks, "pairs": self.pairs}
        return {purpose: folder for purpose, folder in named.items() if folder}

    def to_json(self) -> dict[str, object]:
        """Name and options; those that came later where they are given."""
        return {"name": self.name, **self.list_values()}

    def hash_files(self) -> str:
        """SHA-256 of its own pictures as they are now."""
        return hash_file(Path(self.npz)) if self.npz else hash_folders(self.folders)

    def bind_files(self) -> ClassifyConfig:
        """Itself with the absolute paths of its own pictures, and their SHA-256."""
        if self.npz and Path(self.npz).is_file():
            digest = self.npz_sha256 or self.hash_files()
            return replace(self, npz=_make_absolute(self.npz), npz_sha256=digest)
        if self.folder and Path(self.folder).is_dir():
            return replace(
                self,
                folder=_make_absolute(self.folder),
                masks=_make_absolute(self.masks),
                pairs=_make_absolute(self.pairs),
                folder_sha256=self.folder_sha256 or self.hash_files(),
            )
        return self  # nothing to bind; what is missing is said where it is read

    def move_files(self, other: TaskConfig) -> ClassifyConfig:
        """Itself with its files where another task has the same; one without a digest may be."""
        if not isinstance(other, ClassifyConfig) or self.sha256 not in ("", other.sha256):
            return self
        if self.npz and other.npz:
            return replace(self, npz=other.npz, npz_sha256=other.npz_sha256)
        if self.folder and self.folders.keys() == other.folders.keys():
            return replace(
                self,
                folder=other.folder,
                masks=other.masks,
                pairs=other.pairs,
                folder_sha256=other.folder_sha256,
            )
        return self

    def find_beside(self, folder: Path) -> ClassifyConfig:
        """Itself with its file in another folder, where it has gone there with a run."""
        beside = folder / Path(self.npz).name
        if not self.npz or Path(self.npz).exists() or not beside.is_file():
            return self
        return replace(self, npz=str(beside.absolute()))

    def take_patch_size(self, size: int | None) -> ClassifyConfig:
        """Itself with the model's patches where there are masks, and it names none itself."""
        has_masks = bool(self.masks) or (self.npz != "" and holds_array(Path(self.npz), "masks"))
        if not has_masks or self.patch_size is not None:
            return self
        return replace(self, patch_size=size)


def _make_absolute(path: str) -> str:
    return str(Path(path).absolute()) if path else ""


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


@dataclass(frozen=True, kw_only=True)
class LookConfig(ClassifyConfig):
    """Show a model from elsewhere pictures that it was not made for.

    Of any world, of your own (`folder`, `npz`), or by themselves parts of two photographs. Their
    classes are found among the model's by name, where both have names, or by number, where both
    have as many; others are not known, and what needs them is left out.

    n_answers  classes of the model
    answers    their names, in order
    is_whole   each split has all pictures of one's own: where nothing is fitted to them
    size       height and width that it takes; pictures are scaled to cover them, and cut
    channels   1 or 3
    """

    name: ClassVar[str] = "look"

    n_answers: int = number(2, least=1)
    answers: tuple[str, ...] = ()
    is_whole: bool = False

    @property
    def data_set(self) -> str:
        return "own" if self.own else self.world or "photographs"

    @property
    def reads_files(self) -> bool:
        return bool(self.own) or (self.world != "" and super().reads_files)

    @property
    def shown(self) -> ClassifyConfig:
        """The pictures by themselves, as they would be classified."""
        named = ["world", "npz", "npz_sha256", "folder", "folder_sha256", "masks", "patch_size"]
        named += ["size", "channels"] if self.folder else []
        return ClassifyConfig(**{name: getattr(self, name) for name in named})


QUESTIONS = (ClassifyConfig, RegressConfig, ReconstructConfig, LookConfig)
