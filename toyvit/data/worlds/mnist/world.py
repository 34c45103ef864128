"""MNIST as a world, and its digits at half their size, of which other worlds are made."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from toyvit.data import files
from toyvit.data.world import CollectedWorld
from toyvit.errors import BadInput

N_IMAGES = 70_000
CUTS = {"train": 55_000, "validation": 60_000, "test": N_IMAGES}  # where each split ends
N_DIGITS = 10
PARTS = ("train", "t10k")  # MNIST's own two, as its files call them


class Mnist(CollectedWorld):
    """Handwritten digits, 28 x 28 (LeCun 1998): 55,000 / 5,000 / 10,000 pictures.

    `train` and `validation` are MNIST's training pictures, `test` its test pictures. BadInput where
    the files are not here.
    """

    name = "mnist"

    def __init__(self) -> None:
        root = files.find_mnist()
        if root is None:
            raise BadInput(
                "MNIST is not here: run `toyvit data mnist` to download it, or "
                f"{files.describe_mnist_files()}"
            )
        images, labels = (
            np.concatenate(
                [files.read_idx(root / "MNIST/raw" / f"{part}-{what}") for part in PARTS]
            )
            for what in ("images-idx3-ubyte", "labels-idx1-ubyte")
        )
        rows = np.split(np.arange(N_IMAGES), list(CUTS.values())[:-1])
        super().__init__(
            images=images,
            known={"class": labels.astype(np.int64)},
            splits=dict(zip(CUTS, rows, strict=True)),
            low=0,
            high=255,
        )


@lru_cache
def load_mnist() -> Mnist:
    """The data set, read once a process."""
    return Mnist()


@lru_cache
def load_small_digits() -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """Pictures at half the size, sums of 2 x 2 pixels (picture 14 14), by split and digit.

    And where each (split digit) begins, the end of the last one included.
    """
    mnist = Mnist()
    rows = np.concatenate(list(mnist.splits.values()))
    n_rows = [len(part) for part in mnist.splits.values()]
    split = np.repeat(np.arange(len(n_rows)), n_rows)
    group = N_DIGITS * split + mnist.known["class"][rows]

    order = group.argsort(kind="stable")
    lines = mnist.images[rows[order]].reshape(-1, 14, 2, 28).sum(2, dtype=np.int16)
    starts = np.searchsorted(group[order], np.arange(N_DIGITS * len(n_rows) + 1))
    return lines[..., ::2] + lines[..., 1::2], starts
