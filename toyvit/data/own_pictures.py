"""A user's own pictures as a world, however they were read."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toyvit.data.question_configs import ClassifyConfig
from toyvit.data.world import CollectedWorld, Factors, shuffle_splits
from toyvit.errors import BadInput

LEAST_PICTURES = 20
PIECE = 256  # masks that are cut into patches at once
MOST_NAMED = 5  # in a message
MOST_SHOWN = 80  # characters of a name


@dataclass(frozen=True, kw_only=True)
class PictureSet:
    """What was read of a user's pictures, checked.

    `images` are (picture height width channel) of bytes, or of floats that are shown as they are:
    first the pictures themselves, as many as `factors` have values, then counterparts. `others` are
    the row of each picture's counterpart among them, its own where it has none, and
    `other_classes` the classes of these.
    """

    place: Path
    images: NDArray[np.generic]
    factors: dict[str, NDArray[np.int64]]  # the class among them
    splits: dict[str, NDArray[np.int64]] | None = None  # rows; None leaves them to the lab
    class_names: tuple[str, ...] = ()
    masks: NDArray[np.uint16] | None = None  # (picture height width): which object, 0 for none
    others: NDArray[np.int64] | None = None
    other_classes: NDArray[np.int64] | None = None


class OwnPictures(CollectedWorld):
    """A user's pictures: 80 % / 10 % / 10 % of them, or the splits that their folder has.

    They are in an order that their number fixes. Floats are shown as they are; bytes from -1 to +1,
    or with the mean and deviation of the config. `constants` are the factors of one value: there is
    nothing to learn or to probe, they are left out.
    """

    name = "own"

    def __init__(self, pictures: PictureSet, config: ClassifyConfig) -> None:
        self.place = pictures.place
        self.class_names = pictures.class_names
        self.others = pictures.others
        self.other_classes = pictures.other_classes
        factors = pictures.factors
        self.constants = {
            name: int(values[0]) for name, values in factors.items() if not np.ptp(values)
        }
        self.n = len(factors["class"])

        is_bytes = pictures.images.dtype == np.uint8
        super().__init__(
            images=pictures.images,
            known={name: values for name, values in factors.items() if name not in self.constants},
            splits=_order_splits(self.n, pictures.splits),
            low=0 if is_bytes else -1,
            high=255 if is_bytes else 1,
        )
        if self.class_names:
            self.factors["class"] = len(self.class_names)
        self._scale(config, is_bytes)
        self.patch_size = config.patch_size
        self.covering = self._cover_patches(pictures.masks)

    def _scale(self, config: ClassifyConfig, is_bytes: bool) -> None:
        """Show bytes with a mean and deviation of each channel, where they are given."""
        for name in ("mean", "deviation"):
            given = getattr(config, name)
            if given and len(given) != self.n_channels:
                raise BadInput(
                    f"task.{name} must be a number for each of {self.n_channels} channels, "
                    f"got {len(given)}"
                )
        if not (config.mean or config.deviation):
            return
        if not is_bytes:
            raise BadInput(
                f"{self.place} holds floats, which are shown as they are: task.mean and "
                "task.deviation are for bytes"
            )
        each = (self.n_channels, 1, 1)
        middle = torch.tensor(config.mean or [0.5] * self.n_channels).reshape(each)
        half = torch.tensor(config.deviation or [0.5] * self.n_channels).reshape(each)
        self.middle = 255 * middle
        self.half = 255 * half

    def _cover_patches(self, masks: NDArray[np.uint16] | None) -> Tensor | None:
        """The object of each patch of all pictures (picture patch), where there are masks."""
        size = self.patch_size
        if masks is None and size is not None:
            raise BadInput(
                f"task.patch_size is for masks, and {self.place} has none: give model.patch_size"
            )
        if masks is None or size is None:
            return None
        height, width = self.image_size
        if height % size or width % size:
            raise BadInput(
                f"task.patch_size cannot be {size}: patches of {size} x {size} do not tile "
                f"a picture of {height} x {width}"
            )
        parts = np.array_split(masks, range(PIECE, len(masks), PIECE))
        return torch.from_numpy(np.concatenate([cover_patches(part, size) for part in parts]))

    def objects(self, factors: Factors) -> Tensor | None:
        """The number that most pixels of each patch have in the mask (image patch)."""
        return None if self.covering is None else self.covering[torch.from_numpy(factors["row"])]

    def take_whole(self) -> OwnPictures:
        """Itself with all pictures in each split, in the order of the file."""
        whole = copy.copy(self)
        whole.splits = dict.fromkeys(self.splits, np.arange(self.n))
        whole.sizes = dict.fromkeys(self.splits, self.n)
        return whole

    def swap_pictures(self, factors: Factors) -> Factors:
        """The counterparts of some pictures, and the pictures themselves where they have none."""
        assert self.others is not None
        assert self.other_classes is not None
        rows = factors["row"]
        return {**factors, "class": self.other_classes[rows], "row": self.others[rows]}

    def check_factor(self, name: str) -> None:
        """BadInput for a factor that has one value."""
        if name in self.constants:
            raise BadInput(
                f"task.factor {name!r} is {self.constants[name]} for every picture of "
                f"{self.place}: there is nothing to learn"
            )


def _order_splits(
    n: int, given: dict[str, NDArray[np.int64]] | None
) -> dict[str, NDArray[np.int64]]:
    """The rows of each split, in an order that their number fixes."""
    if given is None:
        cuts = {"train": 8 * n // 10, "validation": 9 * n // 10, "test": n}
        return shuffle_splits("own", n, cuts)
    return {
        split: rows[shuffle_splits("own", len(rows), {split: len(rows)})[split]]
        for split, rows in given.items()
    }


def cover_patches(masks: NDArray[np.uint16], size: int) -> NDArray[np.int64]:
    """The number that most pixels of each patch have (picture patch), of equals the smallest.

    Of masks (picture height width). Patches of so many pixels a side, in raster order.

    >>> mask = np.array([[[0, 0, 3, 3], [0, 3, 3, 7]]], np.uint16)
    >>> cover_patches(mask, 2)
    array([[0, 3]])
    """
    n, height, width = masks.shape
    cut = masks.reshape(n, height // size, size, width // size, size)
    pixels = np.sort(cut.transpose(0, 1, 3, 2, 4).reshape(n, -1, size**2), axis=-1)

    # Equal numbers stand side by side: each place counts those before it, from where they begin.
    place = np.arange(size**2)
    begins = np.diff(pixels, axis=-1, prepend=pixels[..., :1]) != 0
    begin = np.maximum.accumulate(np.where(begins, place, 0), axis=-1)
    last = (place - begin).argmax(-1)
    return np.take_along_axis(pixels, last[..., None], -1)[..., 0].astype(np.int64)


def list_some(things: Sequence[object]) -> str:
    """The first of them between commas, and whether there are more.

    >>> list_some(range(6))
    '0, 1, 2, 3, 4 and so on'
    """
    some = ", ".join(str(thing)[:MOST_SHOWN] for thing in things[:MOST_NAMED])
    return some + " and so on" * bool(things[MOST_NAMED:])


def check_number(n: int, place: Path) -> None:
    """BadInput where there are too few pictures to split them."""
    if n < LEAST_PICTURES:
        raise BadInput(
            f"{place} holds {n} pictures: at least {LEAST_PICTURES} are needed to split them"
        )
