"""Counting discs: so many apples on the left, so many on the right; how many together?"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toyvit.config import CountingConfig
from toyvit.data.draws import bits, integers, normals, sample_keys, subsets, uniforms
from toyvit.data.task import Task, asking, class_baselines
from toyvit.data.world import Factors, World

CELL = 6  # pixels a side; a disc sits in the middle of a cell
ROWS, COLUMNS = 4, 8  # cells; half of the columns are the left side
RADII = (1.6, 2.2, 2.6)  # pixels
SIDE = ROWS * COLUMNS // 2  # cells on one side


class CountingWorld(World):
    """24 x 48 pixels: `left` discs in random cells of the left half, `right` in the other, of random radius and brightness.

    Some pairs (left, right) are held out: no training picture shows them; the split `held_out` shows nothing else. Factors:
    `left`, `right`, `order` (where the discs go), `look` (key of radii, brightness and noise).
    """

    name: ClassVar[str] = "counting"
    image_size = (ROWS * CELL, COLUMNS * CELL)

    def __init__(self, config: CountingConfig) -> None:
        self.config = config
        self.sizes = dict.fromkeys(("train", "validation", "test", "held_out"))
        self.factors = {"left": config.most + 1, "right": config.most + 1, "order": SIDE, "look": 2**63 - 1}

    @cached_property
    def pairs(self) -> dict[bool, NDArray[np.int64]]:
        """Pairs (left, right) that are held out (True) and that are not."""
        n = self.config.most + 1
        every = np.stack(np.divmod(np.arange(n * n), n), 1)
        order = bits(sample_keys(0, "counting pairs", np.array([n])), "order", n * n)[0].argsort(kind="stable")
        n_held = round(self.config.held_out * n * n)
        return {True: every[np.sort(order[:n_held])], False: every[np.sort(order[n_held:])]}

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        keys = sample_keys(seed, self.split(split), indices)
        pairs = self.pairs[split == "held_out"]
        left, right = pairs[integers(keys, "pair", 1, len(pairs))[:, 0]].T
        order = np.concatenate([subsets(keys, side, SIDE, SIDE) for side in ("left", "right")], 1)
        return {"left": left, "right": right, "order": order, "look": (keys >> np.uint64(1)).astype(np.int64)}

    def shown(self, factors: Factors) -> NDArray[np.bool_]:
        """Which cells hold a disc (image row column)."""
        n = len(factors["left"])
        sides = [factors["order"][:, :SIDE] < factors["left"][:, None], factors["order"][:, SIDE:] < factors["right"][:, None]]
        return np.concatenate([side.reshape(n, ROWS, COLUMNS // 2) for side in sides], 2)

    def render(self, factors: Factors) -> Tensor:
        keys, n = factors["look"].astype(np.uint64), len(factors["left"])
        radius = np.array(RADII)[integers(keys, "radius", ROWS * COLUMNS, len(RADII))]
        bright = 0.6 + 0.4 * uniforms(keys, "brightness", ROWS * COLUMNS)
        place = np.arange(CELL) + 0.5 - CELL / 2
        inside = np.hypot(place[:, None], place) <= radius[:, :, None, None]
        cells = (inside * (bright * self.shown(factors).reshape(n, -1))[:, :, None, None]).astype(np.float32)
        images = cells.reshape(n, ROWS, COLUMNS, CELL, CELL).transpose(0, 1, 3, 2, 4).reshape(n, 1, *self.image_size)
        noise = normals(keys, "pixels", images[0].size).reshape(images.shape)
        return torch.from_numpy(images + np.float32(self.config.noise) * noise)

    def content(self, factors: Factors) -> None:
        return None


def counting(config: CountingConfig) -> Task:
    """How many discs in all?"""
    world = CountingWorld(config)

    def target(factors: Factors) -> NDArray[np.int64]:
        return factors["left"] + factors["right"]

    return Task(
        config=config,
        world=world,
        n_classes=2 * config.most + 1,
        question=asking(target),
        scalars=lambda factors: {"left": factors["left"], "right": factors["right"], "sum": target(factors)},
        baselines=lambda batch: class_baselines(batch.target),
    )
