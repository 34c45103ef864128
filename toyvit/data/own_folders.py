"""A user's folder of pictures: read by the rules of `picture_files.py`, with masks and pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toyvit.config.picture_folders import PictureFile, list_pictures
from toyvit.data.own_pictures import PictureSet, check_number
from toyvit.data.picture_files import cut_picture, read_mask, read_picture
from toyvit.data.picture_pairs import Place, match_masks, match_pairs, number_pairs
from toyvit.data.picture_stack import PictureStack, check_memory
from toyvit.data.question_configs import ClassifyConfig
from toyvit.errors import BadInput, escape_text


def read_folder(config: ClassifyConfig) -> PictureSet:
    """The pictures of a folder and of those that belong to it; BadInput says what does not fit.

    They are in the order of their split, class and file name. A class has the name of its folder,
    and classes are numbered in the sorted order of their names. In `masks` the file of a picture's
    place has its objects; in `pairs` the file of its name in another class is its counterpart.
    """
    folder = Path(config.folder)
    files = list_pictures(folder)
    check_number(len(files), folder)
    labels = sorted({file.label for file in files})
    if len(labels) < 2:
        raise BadInput(
            f"{folder} holds one class, {labels[0]!r}: at least two class folders are needed"
        )
    pairs = match_pairs(files, Path(config.pairs), labels) if config.pairs else {}
    masks = match_masks(files, Path(config.masks)) if config.masks else {}
    number = {label: place for place, label in enumerate(labels)}
    classes = np.array([number[file.label] for file in files])

    images, objects = _read_pictures([*files, *pairs.values()], masks, config)
    pictures = PictureSet(
        place=folder,
        images=images,
        factors={"class": classes},
        splits=_list_rows(files),
        class_names=tuple(map(escape_text, labels)),
        masks=objects,
    )
    if not pairs:
        return pictures
    others, other_classes = number_pairs(files, pairs, classes, number)
    return replace(pictures, others=others, other_classes=other_classes)


def _list_rows(files: list[PictureFile]) -> dict[str, NDArray[np.int64]] | None:
    """The rows of each split, where the folder has splits; BadInput for one without a picture."""
    splits = np.array([file.split for file in files])
    if not splits[0]:
        return None
    rows = {split: np.flatnonzero(splits == split) for split in ("train", "validation", "test")}
    for split, chosen in rows.items():
        if not len(chosen):
            raise BadInput(f"the split {split!r} of the folder holds no pictures")
    return rows


def _read_pictures(
    files: list[PictureFile], masks: Mapping[Place, Path], config: ClassifyConfig
) -> tuple[NDArray[np.uint8], NDArray[np.uint16] | None]:
    """All pictures, and the objects of those that have masks, which come first."""
    stack = PictureStack(len(files), config.channels)
    objects: list[NDArray[np.uint16]] = []
    for file in files:
        image = read_picture(file.path)
        stack.add(cut_picture(image, config.size, config.channels), file.path)
        if len(objects) < len(masks):
            mask = read_mask(masks[file.place], (image.height, image.width), config.size)
            objects.append(mask)
    if not objects:
        return stack.images, None
    check_memory(sum(mask.nbytes for mask in objects), "masks")
    return stack.images, np.stack(objects)
