"""Folders of pictures, a folder a class: what they hold, by stated rules, and its digest."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from toyvit.config.foreign_files import read_file
from toyvit.errors import BadInput

# Names of the folders of a split, by the split's name.
SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
LEFT_OUT = ("thumbs.db", "desktop.ini")  # beside names that begin with a dot
ENDINGS = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True, order=True)
class PictureFile:
    """A picture's split ("" where the folder has none), the name of its class, and its path."""

    split: str
    label: str
    path: Path

    @property
    def name(self) -> str:
        """Its file's name without ending, case and the ways to write an accent: unique in a class.

        >>> PictureFile("", "cat", Path("animals/cat/A.1.PNG")).name
        'a.1'
        """
        return _fold(self.path.stem)

    @property
    def place(self) -> tuple[str, str, str]:
        """What it is called: the same in folders that belong together."""
        return self.split, self.label, self.name


def list_pictures(folder: Path) -> list[PictureFile]:
    """The pictures of a folder that holds a folder a class, sorted by split, class and file name.

    Where a folder called `train`, `validation` (or `val`) or `test` holds folders itself, these
    three are the splits, and no other folder may stand beside them. Names that begin with a dot are
    left out, and so are files beside the class folders that are called like no picture. BadInput
    for links, pipes, folders in class folders, class folders without a file, and two names that
    differ in case, in how an accent is written or in the file's ending alone.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as place:
    ...     for name in ("dog/1.png", "cat/2.png", "cat/1.png"):
    ...         Path(place, name).parent.mkdir(exist_ok=True)
    ...         _ = Path(place, name).write_bytes(b"")
    ...     [(file.label, file.path.name) for file in list_pictures(Path(place))]
    [('cat', '1.png'), ('cat', '2.png'), ('dog', '1.png')]
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder" if folder.exists() else f"there is no {folder}")
    pictures: list[PictureFile] = []
    for split, place in _find_splits(folder).items():
        _check_strays(place)
        for class_folder in _list_folders(place):
            pictures += _list_class(class_folder, split)

    if not pictures:
        raise BadInput(
            f"{folder} holds no class folders: a folder a class is wanted, with its pictures in it"
        )
    labels = {picture.label: picture.path.parent for picture in pictures}
    _check_apart({place: _fold(label) for label, place in labels.items()})
    return sorted(pictures)


def hash_folders(folders: Mapping[str, str]) -> str:
    """SHA-256 of all that is read of some folders, by what they are for: file names and bytes."""
    digest = sha256()
    for purpose, folder in folders.items():
        for picture in list_pictures(Path(folder)):
            name = os.fsencode(picture.path.relative_to(folder))
            content = sha256(read_file(picture.path, "picture")).digest()
            digest.update(b"\0".join([purpose.encode(), name, content]))
    return digest.hexdigest()


def _find_splits(folder: Path) -> dict[str, Path]:
    """The folder of each split; the folder itself, as split "", where it has none."""
    folders = {place.name: place for place in _list_folders(folder)}
    parts = [name for name in SPLITS if name in folders and _list_folders(folders[name])]
    if not parts:
        return {"": folder}

    splits = {split: folders[name] for name, split in SPLITS.items() if name in folders}
    if len(splits) < 3 or len(folders) > 3:
        raise BadInput(
            f"{folder} holds {_list_names(folders)}: where {parts[0]!r} holds class folders, "
            "the folders are 'train', 'validation' (or 'val') and 'test', and no others"
        )
    return splits


def _list_folders(folder: Path) -> list[Path]:
    return [entry for entry in _list_entries(folder) if entry.is_dir()]


def _check_strays(folder: Path) -> None:
    """BadInput for a file beside the class folders that is called as a picture is."""
    for entry in _list_entries(folder):
        if entry.suffix.lower() in ENDINGS and not entry.is_dir():
            raise BadInput(f"{entry} belongs to no class: pictures stand in class folders")


def _list_class(folder: Path, split: str) -> list[PictureFile]:
    pictures = [PictureFile(split, folder.name, path) for path in _list_entries(folder)]
    if not pictures:
        raise BadInput(f"the class folder {folder} is empty")
    for picture in pictures:
        if picture.path.is_dir():
            raise BadInput(f"{picture.path} is a folder in a class folder: pictures are wanted")
    _check_apart({picture.path: picture.name for picture in pictures})
    return pictures


def _list_entries(folder: Path) -> list[Path]:
    """What a folder holds and is not left out; BadInput for what is neither file nor folder."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise BadInput(f"{folder} cannot be read: {error.strerror}") from None
    entries = [
        folder / name for name in names if not name.startswith(".") and name.lower() not in LEFT_OUT
    ]
    for entry in entries:
        if entry.is_symlink():
            raise BadInput(f"{entry} is a link: links are not followed")
        if not (entry.is_file() or entry.is_dir()):
            raise BadInput(f"{entry} is no picture: it is a pipe or a device")
    return entries


def _check_apart(names: Mapping[Path, str]) -> None:
    """BadInput for two paths with the same name, as it is compared."""
    first: dict[str, Path] = {}
    for path, name in names.items():
        if name in first:
            raise BadInput(
                f"{first[name]} and {path} have one name up to case and ending: rename one"
            )
        first[name] = path


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _list_names(names: Iterable[str]) -> str:
    shown = [repr(name) for name in names]
    return ", ".join(shown[:5]) + " and so on" * bool(shown[5:])
