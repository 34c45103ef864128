"""Pictures of one size in one array, as far as the memory goes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from toyvit.errors import BadInput
from toyvit.surroundings import read_free_memory


class PictureStack:
    """Pictures of one size and type, one by one, in an array (picture height width channel).

    Grey until one has colour, or in colour from the start. BadInput for a picture that is not like
    the first, and where the memory is too small for all `n`.
    """

    def __init__(self, n: int, channels: int | None) -> None:
        self.n = n
        self.channels = channels
        self.filled = 0
        self.first = ""
        self.images = np.empty((0, 0, 0, channels or 1), np.uint8)

    def add(self, pixels: NDArray[np.generic], name: object) -> None:
        """One more picture, (height width) or (height width channel)."""
        if not self.filled:
            self._begin(pixels, name)
        if pixels.shape[:2] != self.images.shape[1:3]:
            raise BadInput(
                f"{self.first} has {_name_size(self.images.shape[1:3])} pixels, {name} "
                f"{_name_size(pixels.shape)}: give the size to which all are cut, "
                "--task.size 32,32 or in Python size=(32, 32)"
            )
        if pixels.dtype != self.images.dtype:
            raise BadInput(
                f"{self.first} is of {self.images.dtype}, {name} of {pixels.dtype}: "
                "all must be of bytes, or all of floats"
            )
        if pixels.ndim == 3 and self.images.shape[3] == 1:
            check_memory(3 * self.images.nbytes, "pictures in colour")
            self.images = np.repeat(self.images, 3, axis=3)
        self.images[self.filled] = pixels if pixels.ndim == 3 else pixels[..., None]
        self.filled += 1

    def _begin(self, pixels: NDArray[np.generic], name: object) -> None:
        self.first = str(name)
        shape = (self.n, *pixels.shape[:2], self.channels or 1)
        check_memory(math.prod(shape) * pixels.itemsize, f"{self.n:,} pictures")
        self.images = np.empty(shape, pixels.dtype)


def check_memory(needed: int, what: str) -> None:
    """BadInput where so many bytes are not free."""
    free = read_free_memory()
    if needed > free:
        raise BadInput(
            f"{what} need {needed / 1e9:,.1f} GB of memory, but {free / 1e9:,.1f} GB are free: "
            "give fewer or a smaller --task.size"
        )


def _name_size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[1]}"
