"""Pictures for a model from elsewhere: of any world in the size that it takes, and photographs."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from toyvit.data.own_pictures import OwnPictures
from toyvit.data.question_configs import LookConfig
from toyvit.data.random import (
    draw_integers,
    draw_uniforms,
    make_noise_keys,
    make_sample_keys,
)
from toyvit.data.world import Factors, World
from toyvit.errors import BadInput

PHOTOGRAPHS = ("china", "flower")  # scikit-learn's names for them
N_EXTENTS = 4
N_PLACES = 8
GREY = (0.299, 0.587, 0.114)  # luma of ITU-R 601


class PhotographWorld(World):
    """Square parts of scikit-learn's two photographs, 427 x 640, in colour; nothing to download.

    A part is a quarter to the whole of the shorter side in four steps (`extent`), somewhere in one
    of 8 x 8 places (`row`, `column`; where in it, `noise_key` says), shown at `size` pixels, from
    -1 to +1.
    """

    name = "photographs"
    n_channels = 3
    probed: ClassVar = ["photograph", "extent", "row", "column"]

    def __init__(self, size: tuple[int, int]) -> None:
        self.image_size = size
        self.sizes = dict.fromkeys(("train", "validation", "test"))
        counts = (len(PHOTOGRAPHS), N_EXTENTS, N_PLACES, N_PLACES)
        self.factors = dict(zip(self.probed, counts, strict=True)) | {"noise_key": 2**63 - 1}

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        keys = make_sample_keys(seed, f"photographs {self.check_split(split)}", indices)
        drawn = {
            name: draw_integers(keys, name, 1, self.factors[name])[:, 0] for name in self.probed
        }
        return drawn | {"noise_key": make_noise_keys(keys)}

    def render(self, factors: Factors) -> Tensor:
        keys = factors["noise_key"].astype(np.uint64)
        within = draw_uniforms(keys, "within", 2)
        rows = zip(*(factors[name].tolist() for name in self.probed), strict=True)
        return torch.stack([self._cut(*row, *at) for row, at in zip(rows, within, strict=True)])

    def _cut(
        self, photograph: int, extent: int, row: int, column: int, down: float, right: float
    ) -> Tensor:
        whole = load_photographs()[photograph]
        height, width = whole.shape[1:]
        side = min(height, width) * (extent + 1) // N_EXTENTS
        top = int((height - side) * (row + down) / N_PLACES)
        left = int((width - side) * (column + right) / N_PLACES)
        return resize(whole[None, :, top : top + side, left : left + side], self.image_size)[0]


@lru_cache
def load_photographs() -> list[Tensor]:
    """The two photographs (channel height width), from -1 to +1."""
    from sklearn.datasets import load_sample_images

    images = load_sample_images().images
    return [torch.from_numpy(image.copy()).permute(2, 0, 1) / 127.5 - 1 for image in images]


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures made larger or smaller until they just cover a size, and cut around their middle.

    Linearly, without aliasing; those that have the size stay as they are.

    >>> resize(torch.ones(1, 1, 4, 8), (2, 2)).shape
    torch.Size([1, 1, 2, 2])
    """
    height, width = size
    there = images.shape[-2:]
    if tuple(there) == size:
        return images
    scale = max(height / there[0], width / there[1])
    covering = [max(side, round(old * scale)) for side, old in zip(size, there, strict=True)]
    # One by one: of several at once the last bits depend on how many there are.
    parts = [
        F.interpolate(image, covering, mode="bilinear", antialias=True, align_corners=False)
        for image in images.split(1)
    ]
    images = torch.cat(parts)
    top = (covering[0] - height) // 2
    left = (covering[1] - width) // 2
    return images[..., top : top + height, left : left + width].contiguous()


def convert_channels(images: Tensor, n: int) -> Tensor:
    """Grey pictures in n equal channels; coloured ones as grey.

    >>> convert_channels(torch.zeros(2, 1, 4, 4), 3).shape
    torch.Size([2, 3, 4, 4])
    """
    if images.shape[1] == n:
        return images
    if images.shape[1] == len(GREY):
        images = (images * torch.tensor(GREY)[:, None, None]).sum(1, keepdim=True)
    return images[:, :1].expand(-1, n, -1, -1).contiguous()


class ShownWorld(World):
    """Another world's pictures, in the size and the channels that a model takes, and normalised.

    Shown from -1 to +1 there, here 0 to 1 less `mean`, over `deviation`. Floats of the user's own
    are shown as they are. BadInput where the two have not a number for each channel.

    >>> from toyvit.data.question_configs import LookConfig
    >>> world = ShownWorld(PhotographWorld((8, 8)), LookConfig(size=(4, 4), channels=1))
    >>> world.render(world.sample(0, "test", np.arange(2))).shape
    torch.Size([2, 1, 4, 4])
    """

    def __init__(self, shown: World, config: LookConfig) -> None:
        self.shown = shown
        self.name = shown.name
        self.image_size = config.size or shown.image_size
        self.n_channels = config.channels or shown.n_channels
        self.sizes = shown.sizes
        self.factors = shown.factors
        self.as_it_is = isinstance(shown, OwnPictures) and shown.images.dtype != np.uint8
        self.mean = self._read_channels("mean", config.mean)
        self.deviation = self._read_channels("deviation", config.deviation)

    def _read_channels(self, name: str, numbers: tuple[float, ...]) -> Tensor:
        if numbers and len(numbers) != self.n_channels:
            raise BadInput(
                f"task.{name} must be a number for each of {self.n_channels} channels, "
                f"got {len(numbers)}"
            )
        if numbers and self.as_it_is:
            raise BadInput(f"task.{name} is for bytes: floats are shown as they are")
        return torch.tensor(numbers or (0.5,))[:, None, None]

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        return self.shown.sample(seed, split, indices)

    def render(self, factors: Factors) -> Tensor:
        images = resize(self.shown.render(factors), self.image_size)
        images = convert_channels(images, self.n_channels)
        return images if self.as_it_is else ((images + 1) / 2 - self.mean) / self.deviation

    def objects(self, factors: Factors) -> Tensor | None:
        return self.shown.objects(factors) if self.shown.image_size == self.image_size else None

    @property
    def class_factor(self) -> str:
        """The factor that says what a picture shows; nothing where none does."""
        return next((name for name in ("class", "photograph") if name in self.factors), "")

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of its values, where they have some."""
        if isinstance(self.shown, PhotographWorld):
            return PHOTOGRAPHS
        return self.shown.class_names if isinstance(self.shown, OwnPictures) else ()

    def match_classes(self, config: LookConfig) -> NDArray[np.int64] | None:
        """The model's number of each class of the pictures, -1 where it has no such class.

        By name where both have names; else by number, where both have as many. None where nothing
        is known of any.
        """
        names = self.class_names
        if names and config.answers:
            numbers = {name: number for number, name in enumerate(config.answers)}
            matches = np.array([numbers.get(name, -1) for name in names])
            return matches if (matches >= 0).any() else None

        is_named = isinstance(self.shown, PhotographWorld)  # no model's classes by number
        if is_named or self.factors.get(self.class_factor) != config.n_answers:
            return None
        return np.arange(config.n_answers)
