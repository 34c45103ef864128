"""Counting discs: so many apples on the left, so many on the right; how many together, or on which side are there more?"""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toyvit.data.random import (
    draw_bits,
    draw_integers,
    draw_normals,
    draw_subsets,
    draw_uniforms,
    make_sample_keys,
)
from toyvit.data.task import Task, ask_target, flip_answer, score_class_baselines
from toyvit.data.world import Factors, World, add_held_out
from toyvit.data.worlds.counting.config import CountingConfig

CELL = 6  # pixels a side; a disc sits in the middle of a cell
ROWS, COLUMNS = 4, 8  # cells; half of the columns are the left side
RADII = (1.6, 2.2, 2.6)  # pixels
SIDES = (4, 6)  # pixels: squares are hollow, because a full one of 4 is the disc of radius 2.2
SIDE = ROWS * COLUMNS // 2  # cells on one side


@lru_cache
def draw_stamps() -> NDArray[np.float32]:
    """What a cell can show (stamp row column), 0 or 1: a disc of each radius, then the outline of a square of each side."""
    place = np.arange(CELL) + 0.5 - CELL / 2
    discs = np.hypot(place[:, None], place) <= np.array(RADII)[:, None, None]
    squares = (
        np.maximum(abs(place[:, None]), abs(place)) == (np.array(SIDES)[:, None, None] - 1) / 2
    )
    return np.concatenate([discs, squares]).astype(np.float32)


class CountingWorld(World):
    """24 x 48 pixels: `left` discs in random cells of the left half, `right` in the other, of random radius and brightness.

    Some pairs (left, right) are held out: no training picture shows them; the split `held_out` shows nothing else. Factors:
    `left`, `right`, `squares` (hollow squares on either side, which do not count), `order` (discs go to the first cells of a
    side, squares to the last), `noise_key` (key of sizes, brightness and noise).
    """

    name = "counting"
    image_size = (ROWS * CELL, COLUMNS * CELL)

    def __init__(self, config: CountingConfig) -> None:
        self.config = config
        self.sizes = dict.fromkeys(
            add_held_out(
                ("train", "validation", "test"), config.held_out, len(self.combinations[True])
            )
        )
        sides = {
            "left": config.most + 1,
            "right": config.most + 1,
            "squares": config.distractors + 1,
        }
        self.factors = sides | {"order": SIDE, "noise_key": 2**63 - 1}

    @cached_property
    def combinations(self) -> dict[bool, NDArray[np.int64]]:
        """Pairs (left, right) that are held out (True) and that are not."""
        n = self.config.most + 1
        every = np.stack(np.divmod(np.arange(n * n), n), 1)
        order = draw_bits(make_sample_keys(0, "counting pairs", np.array([n])), "order", n * n)[
            0
        ].argsort(kind="stable")
        n_held = round(self.config.held_out * n * n)
        return {True: every[np.sort(order[:n_held])], False: every[np.sort(order[n_held:])]}

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        keys = make_sample_keys(seed, self.check_split(split), indices)
        pairs = self.combinations[split == "held_out"]
        left, right = pairs[draw_integers(keys, "pair", 1, len(pairs))[:, 0]].T
        order = np.concatenate(
            [draw_subsets(keys, side, SIDE, SIDE) for side in ("left", "right")], 1
        )
        return {
            "left": left,
            "right": right,
            "squares": draw_integers(keys, "squares", 2, self.config.distractors + 1),
            "order": order,
            "noise_key": (keys >> np.uint64(1)).astype(np.int64),
        }

    def shown(self, factors: Factors) -> NDArray[np.bool_]:
        """Which cells hold a disc (image row column)."""
        first = np.stack([factors["left"], factors["right"]], 1)
        return self._on_cells(factors["order"].reshape(-1, 2, SIDE) < first[:, :, None])

    def distracting(self, factors: Factors) -> NDArray[np.bool_]:
        """Which cells hold a square (image row column)."""
        return self._on_cells(
            factors["order"].reshape(-1, 2, SIDE) >= SIDE - factors["squares"][:, :, None]
        )

    @staticmethod
    def _on_cells(sides: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Cells (image row column) from cells by side (image side cell)."""
        return (
            sides.reshape(-1, 2, ROWS, COLUMNS // 2)
            .transpose(0, 2, 1, 3)
            .reshape(-1, ROWS, COLUMNS)
        )

    def render(self, factors: Factors) -> Tensor:
        keys, n = factors["noise_key"].astype(np.uint64), len(factors["left"])
        stamp = draw_integers(keys, "radius", ROWS * COLUMNS, len(RADII))
        bright = 0.6 + 0.4 * draw_uniforms(keys, "brightness", ROWS * COLUMNS)
        filled = self.shown(factors).reshape(n, -1)
        if self.config.distractors:
            square = self.distracting(factors).reshape(n, -1)
            stamp = np.where(
                square, len(RADII) + draw_integers(keys, "side", ROWS * COLUMNS, len(SIDES)), stamp
            )
            filled = filled | square
        cells = draw_stamps()[stamp] * (bright * filled).astype(np.float32)[:, :, None, None]
        images = draw_normals(keys, "pixels", ROWS * COLUMNS * CELL**2, self.config.noise).reshape(
            n, ROWS, CELL, COLUMNS, CELL
        )
        images += cells.reshape(n, ROWS, COLUMNS, CELL, CELL).transpose(0, 1, 3, 2, 4)
        return torch.from_numpy(images.reshape(n, 1, *self.image_size))

    def content(self, factors: Factors) -> None:
        return None


def build_counting(config: CountingConfig) -> Task:
    """How many discs in all (`add`) or on the left (`count`), or has the left fewer, as many or more (`compare`: 0, 1, 2)?"""
    world = CountingWorld(config)

    def target(factors: Factors) -> NDArray[np.int64]:
        left, right = factors["left"], factors["right"]
        return {"add": left + right, "count": left, "compare": np.sign(left - right) + 1}[
            config.ask
        ]

    def probe_factors(factors: Factors) -> dict[str, NDArray[np.int64]]:
        found = {
            "left": factors["left"],
            "right": factors["right"],
            "sum": factors["left"] + factors["right"],
        }
        return found | ({"squares": factors["squares"].sum(1)} if config.distractors else {})

    return Task(
        config=config,
        world=world,
        n_classes={"add": 2 * config.most + 1, "count": config.most + 1, "compare": 3}[config.ask],
        ask=ask_target(target),
        probe_factors=probe_factors,
        baselines=lambda batch: score_class_baselines(batch.target),
        counterfactuals={
            name: flip_answer(world, name, target)
            for name in ("left", "right")
            if name == "left" or config.ask != "count"
        },
    )
