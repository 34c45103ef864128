"""Data sets of other libraries, written as the npz file that the task `classify` reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from toyvit.config.whole_files import replace_atomically
from toyvit.data.dataset_items import (
    choose_columns,
    describe_value,
    find_class_names,
    number_labels,
    read_column,
    read_label,
)
from toyvit.data.npz_files import write_npz
from toyvit.data.own_arrays import check_arrays
from toyvit.data.own_pictures import list_some
from toyvit.data.picture_files import Pixels, cut_picture, flatten_picture
from toyvit.data.picture_stack import PictureStack
from toyvit.errors import BadInput

PATIENCE = 2.0  # seconds without a progress bar


class Items(Protocol):
    """What a data set is asked for: its number of items, and each of them."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> object: ...


def from_dataset(
    dataset: Items,
    into: Path | str = "pictures.npz",
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    image: str = "",
    label: str = "",
    progress: bool = True,
) -> Path:
    """Write a data set's pictures into an npz file that `--task.npz` reads; its path comes back.

    Items are (image, label), as torchvision's, or have columns, as Hugging Face's: those named
    `image` and `label`, or else the usual names. An image is a PIL picture, a tensor (channel
    height width) or an array (height width channel). Bytes are treated as in a folder of pictures:
    cut to a `size` (height, width), in grey where `channels` is 1 or none has colour. Floats stay
    as they are. Labels are whole numbers, whose names come from `dataset.classes` or the features,
    or texts, numbered in sorted order. A file that is there is replaced, when the new one is whole.
    BadInput for what cannot be trained on, and then nothing is written.

    >>> from tempfile import TemporaryDirectory
    >>> pictures = [(torch.full((1, 8, 8), i, dtype=torch.uint8), i % 2) for i in range(20)]
    >>> with TemporaryDirectory() as folder:
    ...     np.load(from_dataset(pictures, f"{folder}/mine.npz"))["images"].shape
    (20, 8, 8)
    """
    place = Path(into)
    if not place.absolute().parent.is_dir():
        raise BadInput(f"there is no folder {place.absolute().parent}")
    _check_dataset(dataset, channels)
    columns = choose_columns(dataset[0], image, label)

    stack = PictureStack(len(dataset), channels)
    labels: list[int | str] = []
    for number in tqdm(range(len(dataset)), delay=PATIENCE, disable=not progress):
        name = f"item {number}"
        shown, answer = (read_column(dataset[number], column, name) for column in columns)
        stack.add(_read_pixels(shown, size, channels, name), name)
        labels.append(read_label(answer, name))

    images = stack.images if stack.images.shape[3] > 1 else stack.images[..., 0]
    numbers, names = number_labels(labels, find_class_names(dataset, columns[1]))
    arrays: dict[str, NDArray[np.generic]] = {"images": images, "labels": numbers}
    if names:
        arrays["class_names"] = np.array(names)
    check_arrays(place, arrays)
    with replace_atomically(place) as file:
        write_npz(file, arrays)
    return place


def _check_dataset(dataset: object, channels: int | None) -> None:
    """BadInput for what has no numbered items, and for numbers of channels that are not shown."""
    if isinstance(dataset, Mapping):
        raise BadInput(f"the data set holds the splits {list_some([*dataset])}: give one of them")
    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise BadInput(
            f"a data set with a length and numbered items is wanted, got {type(dataset).__name__}: "
            "of a stream, give a list of its first items"
        )
    if not len(dataset):
        raise BadInput("the data set has no items")
    if channels not in (None, 1, 3):
        raise BadInput(f"channels must be 1 or 3, got {channels}")


def _read_pixels(
    value: object, size: tuple[int, int] | None, channels: int | None, name: str
) -> Pixels | NDArray[np.float32]:
    """An image as bytes or floats (height width) or (height width channel)."""
    if isinstance(value, Image.Image):
        return cut_picture(flatten_picture(value, name), size, channels)
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
        if value.ndim == 3:
            value = value.transpose(1, 2, 0)
    if not isinstance(value, np.ndarray) or not _is_picture(value):
        raise BadInput(
            f"{name} of the data set must be a picture in bytes or floats of 1 or 3 channels, "
            f"got {describe_value(value)}"
        )
    if value.dtype == np.uint8:
        pixels = value[..., 0] if value.shape[2:] == (1,) else value
        return cut_picture(flatten_picture(Image.fromarray(pixels), name), size, channels)
    return _check_floats(value, size, channels, name)


def _is_picture(value: NDArray[np.generic]) -> bool:
    shapes = [(), (1,), (3,)]
    if value.dtype == np.uint8:
        shapes.append((4,))
    is_shown = value.dtype == np.uint8 or value.dtype.kind == "f"
    return is_shown and value.size > 0 and value.ndim > 1 and value.shape[2:] in shapes


def _check_floats(
    value: NDArray[np.generic], size: tuple[int, int] | None, channels: int | None, name: str
) -> NDArray[np.float32]:
    """Floats, which are neither cut nor turned grey; BadInput where they would have to be."""
    n_channels = value.shape[2] if value.ndim == 3 else 1
    if size not in (None, value.shape[:2]) or channels not in (None, n_channels):
        raise BadInput(
            f"{name} of the data set is {value.shape} of floats, which stay as they are: change "
            "the size and the channels in the data set's transform, or give bytes"
        )
    floats = value.astype(np.float32)
    return floats[..., 0] if n_channels == 1 and floats.ndim == 3 else floats
