"""The contract of a world: factors drawn from (seed, split, index), and a rendering of factors into pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toyvit.data.random import order_epochs
from toyvit.errors import BadInput, choose

# Arrays whose first axis is the image: a column for each factor, or a row of slots.
Factors = dict[str, NDArray[np.int64]]


class World(ABC):
    """Pictures with known factors.

    `sizes` gives the number of different samples of each split (None: endless). `factors` gives, for each factor, how
    many values it takes. `sample` and `render` are pure and vectorised over the batch.
    """

    name: ClassVar[str]
    image_size: tuple[int, int]
    n_channels: int = 1
    patch_size: int | None = None  # where the picture is made of cells, a patch is a cell
    sizes: dict[str, int | None]
    factors: dict[str, int]

    @abstractmethod
    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        """Factors of the samples with these indices. Sample k is a pure function of (seed, split, k)."""

    @abstractmethod
    def render(self, factors: Factors) -> Tensor:
        """Pictures (image channel height width), float32."""

    def content(self, factors: Factors) -> Tensor | None:
        """Content ids (image patch): equal where two patches show the same thing. None where patches have no such id."""
        return None

    def objects(self, factors: Factors) -> Tensor | None:
        """Which object each patch shows (image patch), 0 for none. None where pictures are not made of objects."""
        return None

    def check_split(self, name: str) -> str:
        return choose(name, self.sizes, f"split of {self.name}")

    def change_factor(self, factors: Factors, name: str, values: NDArray[np.int64]) -> Factors:
        """The same factors but for one: render both for a counterfactual pair."""
        choose(name, self.factors, f"factor of {self.name}")
        values = np.asarray(values, np.int64)
        if (
            values.shape != factors[name].shape
            or values.min() < 0
            or values.max() >= self.factors[name]
        ):
            raise BadInput(
                f"factor {name!r} takes whole numbers 0 to {self.factors[name] - 1} of shape {factors[name].shape}, "
                f"got {values.min()} to {values.max()} of shape {values.shape}"
            )
        return factors | {name: values}


def add_held_out(splits: Sequence[str], share: float, n_held: int) -> list[str]:
    """The splits, and `held_out` where anything is held out; BadInput where a share was asked for that comes to nothing."""
    if share and not n_held:
        raise BadInput(f"task.held_out {share} comes to nothing here: give more, or 0")
    return [*splits, "held_out"] if n_held else list(splits)


def select_rows(
    world: World, seed: int, split: str, indices: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Rows of a finite split: in epochs for training, row k for the others, BadInput past their end."""
    size = world.sizes[world.check_split(split)] or 0
    indices = np.asarray(indices, np.int64)
    if split == "train":
        return order_epochs(seed, split, indices, size)
    if len(indices) and indices.max() >= size:
        raise BadInput(
            f"{world.name} has {size} {split} pictures, asked for number {indices.max()}"
        )
    return indices


class CollectedWorld(World):
    """Pictures that somebody collected, with what they noted of each, and no way to render a picture that is not there.

    `images`, (picture, height, width) or (picture, height, width, channel), are shown from -1 at `low` to +1 at `high`; `known`
    are the factors, the class among them; `splits` names the rows of each split.
    """

    def __init__(
        self,
        images: NDArray[np.generic],
        known: dict[str, NDArray[np.int64]],
        splits: dict[str, NDArray[np.int64]],
        low: float,
        high: float,
    ) -> None:
        self.images: NDArray[Any] = images if images.ndim == 4 else images[..., None]
        self.known, self.splits, self.middle, self.half = (
            known,
            splits,
            (low + high) / 2,
            (high - low) / 2,
        )
        self.sizes = {split: len(rows) for split, rows in splits.items()}
        self.image_size, self.n_channels = self.images.shape[1:3], self.images.shape[3]
        self.factors = {name: int(values.max()) + 1 for name, values in known.items()}

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        """Training samples go through the set once an epoch, each epoch in an order of its own; the others are row k."""
        rows = self.splits[self.check_split(split)][select_rows(self, seed, split, indices)]
        return {**{name: values[rows] for name, values in self.known.items()}, "row": rows}

    def render(self, factors: Factors) -> Tensor:
        shown = torch.from_numpy(self.images[factors["row"]]).permute(0, 3, 1, 2)
        return shown.float().sub_(self.middle).div_(self.half).contiguous()

    def change_factor(self, factors: Factors, name: str, values: NDArray[np.int64]) -> Factors:
        raise BadInput(
            f"{self.name} is collected data: it cannot render a picture with another {name}, so it has no counterfactual pairs"
        )
