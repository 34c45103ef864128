"""dSprites as a world: one sprite, or two side by side, and what can be asked about them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toyvit.data.random import (
    draw_bits,
    draw_integers,
    draw_normals,
    draw_uniforms,
    make_sample_keys,
)
from toyvit.data.task import (
    Batch,
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

N_ANGLES = (
    SIZES["orientation"] - 1
)  # the last orientation shows the same picture as the first, so it is left out
SPLITS = {
    "train": 0.8,
    "validation": 0.1,
    "test": 0.1,
}  # shares of the pictures whose outline is not held out


@lru_cache
def split_outlines(held_out: float) -> dict[str, NDArray[np.int64]]:
    """Numbers of the pictures of each split: they share none, and `held_out` has outlines that no other split shows."""
    every = np.arange(N_IMAGES)
    every = every[decode_factors(every)["orientation"] < N_ANGLES]
    looks = SIZES["shape"] * SIZES["scale"]
    order = draw_bits(
        make_sample_keys(0, "dsprites outlines", np.arange(N_ANGLES)), "order", looks
    ).argsort(1, kind="stable")
    held_looks = np.zeros(
        (looks, N_ANGLES), bool
    )  # of every orientation, the same number is held out
    held_looks[order[:, : round(held_out * looks)].T, np.arange(N_ANGLES)] = True
    found = decode_factors(every)
    held = held_looks[found["shape"] * SIZES["scale"] + found["scale"], found["orientation"]]
    rest = every[~held]
    rest = rest[
        draw_bits(make_sample_keys(0, "dsprites pictures", np.array([0])), "order", len(rest))[
            0
        ].argsort(kind="stable")
    ]
    cuts = (np.cumsum(list(SPLITS.values()))[:-1] * len(rest)).astype(int)
    return {**dict(zip(SPLITS, np.split(rest, cuts), strict=True)), "held_out": every[held]}


@lru_cache
def group_by_factor(
    held_out: float, split: str, factor: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A split's pictures in order of a factor's value, and where each value starts (and the last one ends)."""
    pool = split_outlines(held_out)[split]
    values = decode_factors(pool)[factor]
    return pool[values.argsort(kind="stable")], np.searchsorted(
        np.sort(values), np.arange(SIZES[factor] + 1)
    )


class Sprites(World):
    """64 x 64 pixels, or two such pictures side by side: sprites +1 on -1, with normal noise where it is asked for.

    Factors: those of dSprites, with a column for each sprite where there are two, and `noise_key` (the key of the pixel noise). The
    second sprite has the first's value of the factor in question in half of the pictures (`same`) or never.
    """

    name = "dsprites"

    def __init__(self, config: DspritesConfig) -> None:
        self.config = config
        self.n_sprites = 1 if config.ask == "all" else 2
        self.image_size = (SIDE, SIDE * self.n_sprites)
        self.sizes = dict.fromkeys(
            add_held_out(
                list(SPLITS), config.held_out, len(split_outlines(config.held_out)["held_out"])
            )
        )
        self.factors = {**SIZES, "orientation": N_ANGLES, "noise_key": 2**63 - 1}

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        keys = make_sample_keys(seed, self.check_split(split), indices)
        pool = split_outlines(self.config.held_out)[split]
        numbers = pool[draw_integers(keys, "first", 1, len(pool))]
        if self.n_sprites == 2:
            numbers = np.concatenate([numbers, self._second(keys, split, numbers)], 1)
        found = {
            name: values if self.n_sprites == 2 else values[:, 0]
            for name, values in decode_factors(numbers).items()
        }
        return {**found, "noise_key": (keys >> np.uint64(1)).astype(np.int64)}

    def _second(
        self, keys: NDArray[np.uint64], split: str, first: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Numbers of the second sprites (image, 1), from the same split as the first."""
        factor, n = self.config.compared, self.factors[self.config.compared]
        moved = 1 + draw_integers(keys, "other value", 1, n - 1)
        if self.config.ask == "same":
            moved *= draw_integers(keys, "differ", 1, 2)
        values = (decode_factors(first)[factor] + moved) % n
        pictures, starts = group_by_factor(self.config.held_out, split, factor)
        places = draw_uniforms(keys, "second", 1) * (starts[values + 1] - starts[values])
        return pictures[starts[values] + places.astype(np.int64)]

    def render(self, factors: Factors) -> Tensor:
        shown = draw_images(
            encode_factors({name: factors[name] for name in SIZES})
        )  # image, sprite where there are two, row, column
        if self.n_sprites == 2:
            shown = shown.transpose(0, 2, 1, 3)
        pictures = (
            torch.from_numpy(shown.reshape(len(shown), 1, *self.image_size)).float().mul_(2).sub_(1)
        )
        if self.config.noise:
            noise = draw_normals(
                factors["noise_key"].astype(np.uint64),
                "pixels",
                pictures[0].numel(),
                self.config.noise,
            )
            pictures += torch.from_numpy(noise).view(pictures.shape)
        return pictures


def encode_numbers(factors: Factors) -> Tensor:
    """All factors of one sprite as numbers of mean 0 and variance 1 (image, 8): three shapes, scale, cos, sin, x, y."""
    shape = (np.eye(3)[factors["shape"]] - 1 / 3) / np.sqrt(2 / 9)
    angle = np.sqrt(2) * np.exp(1j * VALUES["orientation"][factors["orientation"]])
    standard = [standardize_levels(factors[name], SIZES[name]) for name in ("scale", "x", "y")]
    found = np.column_stack([shape, standard[0], angle.real, angle.imag, standard[1], standard[2]])
    return torch.from_numpy(found.astype(np.float32))


def build_dsprites(config: DspritesConfig) -> Task:
    """All factors at once, or two sprites compared: the same in one factor? which is larger? which is further left?"""
    world = Sprites(config)
    compared = config.compared

    def relation(factors: Factors) -> NDArray[np.int64]:
        first, second = factors[compared].T
        return {"same": first == second, "larger": second > first, "left": second < first}[
            config.ask
        ].astype(np.int64)

    def other(factors: Factors) -> Factors:
        """The two sprites change their values; where they are the same, or asked to be, the second gets a new one."""
        first, second = factors[compared].T
        alike = np.where(first == second, (first + 1) % world.factors[compared], first)
        new = (first, alike) if config.ask == "same" else (second, first)
        return world.change_factor(factors, compared, np.stack(new, 1))

    def probe_factors(factors: Factors) -> dict[str, NDArray[np.int64]]:
        if config.ask == "all":
            return {name: factors[name] for name in SIZES}
        sides = {
            f"{name}_{side}": factors[name][:, place]
            for name in SIZES
            for place, side in enumerate(("left", "right"))
        }
        return {"answer": relation(factors), **sides}

    def baselines(batch: Batch) -> dict[str, float]:
        return (
            score_number_baselines(batch.target)
            if config.ask == "all"
            else score_class_baselines(batch.target)
        )

    return Task(
        config=config,
        world=world,
        n_classes=8 if config.ask == "all" else 2,
        ask=(lambda factors, images: (images, encode_numbers(factors)))
        if config.ask == "all"
        else ask_target(relation),
        probe_factors=probe_factors,
        baselines=baselines,
        counterfactuals={} if config.ask == "all" else {compared: other},
    )
