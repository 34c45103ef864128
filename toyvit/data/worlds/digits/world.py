"""scikit-learn's small handwritten digits as a world."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from toyvit.data.world import CollectedWorld, shuffle_splits

N_IMAGES = 1797
CUTS = {"train": 1297, "validation": 1497, "test": N_IMAGES}  # where each split ends


class Digits(CollectedWorld):
    """1,797 handwritten digits, 8 x 8: 1,297 / 200 / 300 pictures.

    Alpaydin & Kaynak 1998, the copy in scikit-learn.
    """

    name = "digits"

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        data = load_digits()
        super().__init__(
            images=data.images.astype(np.uint8),
            known={"class": data.target.astype(np.int64)},
            splits=shuffle_splits("digits", N_IMAGES, CUTS),
            low=0,
            high=16,
        )


@lru_cache
def load_digits() -> Digits:
    """The data set, read once a process."""
    return Digits()
