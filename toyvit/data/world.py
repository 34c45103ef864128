"""The contract of a world: factors drawn from (seed, split, index), rendered into pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toyvit.data.random import draw_order, make_sample_keys, order_epochs
from toyvit.errors import BadInput, choose

# Arrays whose first axis is the image: a column for each factor, or a row of slots.
Factors = dict[str, NDArray[np.int64]]


class World(ABC):
    """Pictures with known factors.

    `sizes` gives the number of different samples of each split (None: endless). `factors` gives,
    for each factor, how many values it takes. `sample` and `render` are pure and vectorised over
    the batch.
    """

    name: str
    image_size: tuple[int, int]
    n_channels: int = 1
    patch_size: int | None = None  # where the picture is made of cells, a patch is a cell
    sizes: dict[str, int | None]
    factors: dict[str, int]

    @abstractmethod
    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        """Factors of the samples with these indices.

        Sample k is a pure function of (seed, split, k).
        """

    @abstractmethod
    def render(self, factors: Factors) -> Tensor:
        """Pictures (image channel height width), float32."""

    def content(self, factors: Factors) -> Tensor | None:
        """Content ids (image patch): equal where two patches show the same thing.

        None where patches have no such id.
        """
        return None

    def objects(self, factors: Factors) -> Tensor | None:
        """Which object each patch shows (image patch), 0 for none.

        None where pictures are not made of objects.
        """
        return None

    def check_split(self, name: str) -> str:
        """The split's name itself, else BadInput that lists the splits."""
        return choose(name, self.sizes, f"split of {self.name}")

    def change_factor(self, factors: Factors, name: str, values: NDArray[np.int64]) -> Factors:
        """The same factors but for one: render both for a counterfactual pair."""
        choose(name, self.factors, f"factor of {self.name}")
        values = np.asarray(values, np.int64)

        shape = factors[name].shape
        n_values = self.factors[name]
        if values.shape != shape or values.min() < 0 or values.max() >= n_values:
            raise BadInput(
                f"factor {name!r} takes whole numbers 0 to {n_values - 1} of shape {shape}, "
                f"got {values.min()} to {values.max()} of shape {values.shape}"
            )
        return factors | {name: values}


def add_held_out(splits: Sequence[str], share: float, n_held: int) -> list[str]:
    """The splits, and `held_out` where anything is held out.

    BadInput where a share was asked for that comes to nothing.
    """
    if share and not n_held:
        raise BadInput(f"task.held_out {share} comes to nothing here: give more, or 0")
    return [*splits, "held_out"] if n_held else list(splits)


def select_rows(
    world: World, seed: int, split: str, indices: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Rows of a finite split: in epochs for training, row k for the others.

    BadInput past the end of the others.
    """
    size = world.sizes[world.check_split(split)] or 0
    indices = np.asarray(indices, np.int64)
    if split == "train":
        return order_epochs(seed, split, indices, size)
    if len(indices) and indices.max() >= size:
        raise BadInput(
            f"{world.name} has {size} {split} pictures, asked for number {indices.max()}"
        )
    return indices


def shuffle_splits(name: str, n: int, cuts: Mapping[str, int]) -> dict[str, NDArray[np.int64]]:
    """Rows 0 to n - 1 in an order that the name fixes, cut into splits that end at these places."""
    key = make_sample_keys(0, f"{name} split", np.array([0]))
    parts = np.split(draw_order(key, "order", n)[0], list(cuts.values())[:-1])
    return dict(zip(cuts, parts, strict=True))


class CollectedWorld(World):
    """Pictures that somebody collected, with what was noted of each.

    There is no way to render a picture that is not there. `images`, (picture, height, width) or
    (picture, height, width, channel), are shown from -1 at `low` to +1 at `high`; `known` are the
    factors, the class among them; `splits` names the rows of each split.
    """

    def __init__(
        self,
        images: NDArray[np.generic],
        known: dict[str, NDArray[np.int64]],
        splits: dict[str, NDArray[np.int64]],
        low: float,
        high: float,
    ) -> None:
        self.images: NDArray[np.generic] = images if images.ndim == 4 else images[..., None]
        self.known = known
        self.splits = splits
        self.middle: float | Tensor = (low + high) / 2
        self.half: float | Tensor = (high - low) / 2

        _, height, width, self.n_channels = self.images.shape
        self.image_size = (height, width)
        self.sizes = {split: len(rows) for split, rows in splits.items()}
        self.factors = {name: int(values.max()) + 1 for name, values in known.items()}

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        """The noted factors, and `row`.

        Training samples go through the set once an epoch, each epoch in an order of its own; the
        others are row k of their split.
        """
        rows = self.splits[self.check_split(split)][select_rows(self, seed, split, indices)]
        return {**{name: values[rows] for name, values in self.known.items()}, "row": rows}

    def render(self, factors: Factors) -> Tensor:
        pictures = torch.from_numpy(self.images[factors["row"]]).permute(0, 3, 1, 2)
        return pictures.float().sub_(self.middle).div_(self.half).contiguous()

    def change_factor(self, factors: Factors, name: str, values: NDArray[np.int64]) -> Factors:
        raise BadInput(
            f"{self.name} is collected data: it cannot render a picture with another {name}, "
            "so it has no counterfactual pairs"
        )
