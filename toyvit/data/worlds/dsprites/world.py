"""dSprites as a world: one sprite, or two side by side, and what can be asked about them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toyvit.data.random import (
    Keys,
    draw_integers,
    draw_normals,
    draw_order,
    draw_uniforms,
    make_noise_keys,
    make_sample_keys,
)
from toyvit.data.task import (
    Task,
    ask_target,
    score_class_baselines,
    score_number_baselines,
    standardize_levels,
)
from toyvit.data.world import Factors, World, add_held_out
from toyvit.data.worlds.dsprites.config import DspritesConfig
from toyvit.data.worlds.dsprites.drawing import (
    N_IMAGES,
    SIDE,
    SIZES,
    VALUES,
    decode_factors,
    draw_images,
    encode_factors,
)

# The last orientation shows the same picture as the first, so it is left out.
N_ANGLES = SIZES["orientation"] - 1
# Shares of the pictures whose outline is not held out.
SPLITS = {"train": 0.8, "validation": 0.1, "test": 0.1}
SIDES = ("left", "right")


@lru_cache
def split_outlines(held_out: float) -> dict[str, NDArray[np.int64]]:
    """Numbers of the pictures of each split.

    No two splits share a picture, and `held_out` has outlines that no other split shows.
    """
    numbers = np.arange(N_IMAGES)
    numbers = numbers[decode_factors(numbers)["orientation"] < N_ANGLES]
    factors = decode_factors(numbers)
    look = factors["shape"] * SIZES["scale"] + factors["scale"]
    is_held = _choose_held_looks(held_out)[look, factors["orientation"]]

    rest = numbers[~is_held]
    key = make_sample_keys(0, "dsprites pictures", np.array([0]))
    rest = rest[draw_order(key, "order", len(rest))[0]]
    cuts = (np.cumsum(list(SPLITS.values()))[:-1] * len(rest)).astype(int)
    parts = dict(zip(SPLITS, np.split(rest, cuts), strict=True))
    return {**parts, "held_out": numbers[is_held]}


def _choose_held_looks(share: float) -> NDArray[np.bool_]:
    """Which looks are held out (shape scale, orientation): of every orientation as many."""
    n_looks = SIZES["shape"] * SIZES["scale"]
    keys = make_sample_keys(0, "dsprites outlines", np.arange(N_ANGLES))
    order = draw_order(keys, "order", n_looks)
    is_held = np.zeros((n_looks, N_ANGLES), bool)
    is_held[order[:, : round(share * n_looks)].T, np.arange(N_ANGLES)] = True
    return is_held


@lru_cache
def group_by_factor(
    held_out: float, split: str, factor: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A split's pictures in order of a factor's value, and where each value starts.

    And where the last one ends.
    """
    pool = split_outlines(held_out)[split]
    values = decode_factors(pool)[factor]
    starts = np.searchsorted(np.sort(values), np.arange(SIZES[factor] + 1))
    return pool[values.argsort(kind="stable")], starts


class Sprites(World):
    """64 x 64 pixels, or two such pictures side by side: sprites +1 on -1, with noise if wanted.

    Factors: those of dSprites, with a column for each sprite where there are two, and `noise_key`
    (the key of the pixel noise). The second sprite has the first's value of the factor in question
    in half of the pictures (`same`) or never.
    """

    name = "dsprites"

    def __init__(self, config: DspritesConfig) -> None:
        self.config = config
        self.n_sprites = 1 if config.ask == "all" else 2
        self.image_size = (SIDE, SIDE * self.n_sprites)
        n_held = len(split_outlines(config.held_out)["held_out"])
        self.sizes = dict.fromkeys(add_held_out(list(SPLITS), config.held_out, n_held))
        self.factors = {**SIZES, "orientation": N_ANGLES, "noise_key": 2**63 - 1}

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        keys = make_sample_keys(seed, self.check_split(split), indices)
        pool = split_outlines(self.config.held_out)[split]
        numbers = pool[draw_integers(keys, "first", 1, len(pool))]
        if self.n_sprites == 2:
            numbers = np.concatenate([numbers, self._draw_second(keys, split, numbers)], 1)
        else:
            numbers = numbers[:, 0]
        return {**decode_factors(numbers), "noise_key": make_noise_keys(keys)}

    def _draw_second(self, keys: Keys, split: str, first: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of the second sprites (image, 1), from the same split as the first."""
        factor = self.config.compared
        n_values = self.factors[factor]
        shift = 1 + draw_integers(keys, "other value", 1, n_values - 1)
        if self.config.ask == "same":
            shift *= draw_integers(keys, "differ", 1, 2)
        values = (decode_factors(first)[factor] + shift) % n_values

        pictures, starts = group_by_factor(self.config.held_out, split, factor)
        n_pictures = starts[values + 1] - starts[values]
        places = draw_uniforms(keys, "second", 1) * n_pictures
        return pictures[starts[values] + places.astype(np.int64)]

    def render(self, factors: Factors) -> Tensor:
        numbers = encode_factors({name: factors[name] for name in SIZES})
        pixels = draw_images(numbers)  # image, sprite where there are two, row, column
        if self.n_sprites == 2:
            pixels = pixels.transpose(0, 2, 1, 3)
        pictures = torch.from_numpy(pixels.reshape(len(pixels), 1, *self.image_size))
        pictures = pictures.float().mul_(2).sub_(1)

        if self.config.noise:
            keys = factors["noise_key"].astype(np.uint64)
            noise = draw_normals(keys, "pixels", pictures[0].numel(), self.config.noise)
            pictures += torch.from_numpy(noise).view(pictures.shape)
        return pictures


def encode_numbers(factors: Factors) -> Tensor:
    """All factors of one sprite as numbers of mean 0 and variance 1 (image, 8).

    Is it each of the three shapes; scale; cosine and sine of the orientation; x; y.
    """
    shape = (np.eye(3)[factors["shape"]] - 1 / 3) / np.sqrt(2 / 9)
    angle = np.sqrt(2) * np.exp(1j * VALUES["orientation"][factors["orientation"]])
    scale, x, y = (standardize_levels(factors[name], SIZES[name]) for name in ("scale", "x", "y"))
    numbers = np.column_stack([shape, scale, angle.real, angle.imag, x, y])
    return torch.from_numpy(numbers.astype(np.float32))


def build_dsprites(config: DspritesConfig) -> Task:
    """All factors at once, or two sprites compared.

    The same in one factor? which is larger? which is further left?
    """
    world = Sprites(config)
    return _ask_numbers(world) if config.ask == "all" else _ask_comparison(world)


def _ask_numbers(world: Sprites) -> Task:
    """All factors of one sprite, as numbers."""

    def ask(factors: Factors, images: Tensor) -> tuple[Tensor, Tensor]:
        return images, encode_numbers(factors)

    return Task(
        config=world.config,
        world=world,
        n_classes=8,
        ask=ask,
        probe_factors=lambda factors: {name: factors[name] for name in SIZES},
        baselines=lambda batch: score_number_baselines(batch.target),
    )


def _ask_comparison(world: Sprites) -> Task:
    """Yes or no about two sprites and one factor."""
    config = world.config
    compared = config.compared

    def relation(factors: Factors) -> NDArray[np.int64]:
        first, second = factors[compared].T
        if config.ask == "same":
            return (first == second).astype(np.int64)
        return (second > first if config.ask == "larger" else second < first).astype(np.int64)

    def change(factors: Factors) -> Factors:
        """The two sprites change their values.

        Where they are the same, or asked to be, the second gets a new one.
        """
        first, second = factors[compared].T
        alike = np.where(first == second, (first + 1) % world.factors[compared], first)
        values = (first, alike) if config.ask == "same" else (second, first)
        return world.change_factor(factors, compared, np.stack(values, 1))

    def probe_factors(factors: Factors) -> Factors:
        probed = {"answer": relation(factors)}
        for name in SIZES:
            for place, side in enumerate(SIDES):
                probed[f"{name}_{side}"] = factors[name][:, place]
        return probed

    return Task(
        config=config,
        world=world,
        n_classes=2,
        ask=ask_target(relation),
        probe_factors=probe_factors,
        baselines=lambda batch: score_class_baselines(batch.target),
        counterfactuals={compared: change},
    )
