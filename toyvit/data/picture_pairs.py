"""Which mask and which counterpart belong to a picture of a folder: those of its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toyvit.config.picture_folders import PictureFile, list_pictures
from toyvit.data.own_pictures import list_some
from toyvit.errors import BadInput

Place = tuple[str, str, str]  # of a picture: split, class, name


def match_masks(files: list[PictureFile], folder: Path) -> dict[Place, Path]:
    """The mask of each picture, by the picture's place."""
    masks = {mask.place: mask.path for mask in list_pictures(folder)}
    places = {file.place for file in files}
    missing = [str(file.path) for file in files if file.place not in masks]
    if missing:
        raise BadInput(f"{folder} has no mask of {list_some(missing)}")
    strays = [str(path) for place, path in masks.items() if place not in places]
    if strays:
        raise BadInput(f"there is no picture to the mask {list_some(strays)}")
    return masks


def match_pairs(
    files: list[PictureFile], folder: Path, labels: Iterable[str]
) -> dict[Place, PictureFile]:
    """The counterpart of each picture that has one, by the picture's place."""
    named: dict[tuple[str, str], list[PictureFile]] = {}
    for file in files:
        named.setdefault((file.split, file.name), []).append(file)

    pairs: dict[Place, PictureFile] = {}
    for other in list_pictures(folder):
        if other.label not in labels:
            raise BadInput(f"{other.path} is of the class {other.label!r}, of which no picture is")
        shown = [
            file for file in named.get((other.split, other.name), ()) if file.label != other.label
        ]
        if len(shown) != 1:
            of = list_some([file.path for file in shown]) or "none"
            raise BadInput(
                f"{other.path} must be the counterpart of one picture, which has its name in "
                f"another class, and is that of {of}"
            )
        (file,) = shown
        if file.place in pairs:
            raise BadInput(f"{file.path} has counterparts {pairs[file.place].path}, {other.path}")
        pairs[file.place] = other
    return pairs


def number_pairs(
    files: list[PictureFile],
    pairs: Mapping[Place, PictureFile],
    classes: NDArray[np.int64],
    number: Mapping[str, int],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The row of each picture's counterpart and its class, its own where it has none.

    Counterparts stand behind the pictures, in the order of `pairs`.
    """
    others = np.arange(len(files))
    other_classes = classes.copy()
    rows = {place: len(files) + row for row, place in enumerate(pairs)}
    for row, file in enumerate(files):
        if file.place in pairs:
            others[row] = rows[file.place]
            other_classes[row] = number[pairs[file.place].label]
    return others, other_classes
