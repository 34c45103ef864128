"""Counting discs: apples on the left, apples on the right; how many, or where are there more?"""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toyvit.data.random import (
    draw_integers,
    draw_normals,
    draw_order,
    draw_uniforms,
    make_noise_keys,
    make_sample_keys,
)
from toyvit.data.task import Task, ask_target, flip_answer, score_class_baselines
from toyvit.data.world import Factors, World, add_held_out
from toyvit.data.worlds.counting.config import CountingConfig

CELL = 6  # pixels a side; a disc sits in the middle of a cell
# Cells; half of the columns are the left side.
ROWS = 4
COLUMNS = 8
RADII = (1.6, 2.2, 2.6)  # pixels
SIDES = (4, 6)  # pixels: squares are hollow, because a full one of 4 is the disc of radius 2.2
SIDE = ROWS * COLUMNS // 2  # cells on one side


@lru_cache
def draw_stamps() -> NDArray[np.float32]:
    """What a cell can show (stamp row column), 0 or 1.

    A disc of each radius, then the outline of a square of each side.
    """
    place = np.arange(CELL) + 0.5 - CELL / 2
    discs = np.hypot(place[:, None], place) <= np.array(RADII)[:, None, None]
    distance = np.maximum(abs(place[:, None]), abs(place))
    squares = distance == (np.array(SIDES)[:, None, None] - 1) / 2
    return np.concatenate([discs, squares]).astype(np.float32)


class CountingWorld(World):
    """24 x 48 pixels: `left` discs in cells of the left half, `right` discs in the other.

    Cells, radius and brightness are random. Some combinations (left, right) are held out: no
    training picture shows them; the split `held_out` shows nothing else. Factors: `left`, `right`,
    `squares` (hollow squares on either side, which do not count), `order` (discs go to the first
    cells of a side, squares to the last), `noise_key` (key of sizes, brightness and noise).
    """

    name = "counting"
    image_size = (ROWS * CELL, COLUMNS * CELL)

    def __init__(self, config: CountingConfig) -> None:
        self.config = config

        splits = ("train", "validation", "test")
        n_held = len(self.combinations[True])
        self.sizes = dict.fromkeys(add_held_out(splits, config.held_out, n_held))
        self.factors = {
            "left": config.most + 1,
            "right": config.most + 1,
            "squares": config.distractors + 1,
            "order": SIDE,
            "noise_key": 2**63 - 1,
        }

    @cached_property
    def combinations(self) -> dict[bool, NDArray[np.int64]]:
        """Combinations (left, right) that are held out (True) and that are not."""
        n = self.config.most + 1
        pairs = np.stack(np.divmod(np.arange(n * n), n), 1)
        order = draw_order(make_sample_keys(0, "counting pairs", np.array([n])), "order", n * n)[0]
        n_held = round(self.config.held_out * n * n)
        return {True: pairs[np.sort(order[:n_held])], False: pairs[np.sort(order[n_held:])]}

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        keys = make_sample_keys(seed, self.check_split(split), indices)
        combinations = self.combinations[split == "held_out"]
        numbers = draw_integers(keys, "pair", 1, len(combinations))[:, 0]
        left, right = combinations[numbers].T

        order = [draw_order(keys, side, SIDE) for side in ("left", "right")]
        return {
            "left": left,
            "right": right,
            "squares": draw_integers(keys, "squares", 2, self.config.distractors + 1),
            "order": np.concatenate(order, 1),
            "noise_key": make_noise_keys(keys),
        }

    def shown(self, factors: Factors) -> NDArray[np.bool_]:
        """Which cells hold a disc (image row column)."""
        order = factors["order"].reshape(-1, 2, SIDE)
        first = np.stack([factors["left"], factors["right"]], 1)
        return self._on_cells(order < first[:, :, None])

    def distracting(self, factors: Factors) -> NDArray[np.bool_]:
        """Which cells hold a square (image row column)."""
        order = factors["order"].reshape(-1, 2, SIDE)
        return self._on_cells(order >= SIDE - factors["squares"][:, :, None])

    @staticmethod
    def _on_cells(sides: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Cells (image row column) from cells by side (image side cell)."""
        halves = sides.reshape(-1, 2, ROWS, COLUMNS // 2)
        return halves.transpose(0, 2, 1, 3).reshape(-1, ROWS, COLUMNS)

    def render(self, factors: Factors) -> Tensor:
        keys = factors["noise_key"].astype(np.uint64)
        n = len(keys)
        n_cells = ROWS * COLUMNS
        stamp = draw_integers(keys, "radius", n_cells, len(RADII))
        bright = 0.6 + 0.4 * draw_uniforms(keys, "brightness", n_cells)
        filled = self.shown(factors).reshape(n, -1)
        if self.config.distractors:
            square = self.distracting(factors).reshape(n, -1)
            sides = len(RADII) + draw_integers(keys, "side", n_cells, len(SIDES))
            stamp = np.where(square, sides, stamp)
            filled = filled | square

        cells = draw_stamps()[stamp] * (bright * filled).astype(np.float32)[:, :, None, None]
        images = draw_normals(keys, "pixels", n_cells * CELL**2, self.config.noise)
        images = images.reshape(n, ROWS, CELL, COLUMNS, CELL)
        images += cells.reshape(n, ROWS, COLUMNS, CELL, CELL).transpose(0, 1, 3, 2, 4)
        return torch.from_numpy(images.reshape(n, 1, *self.image_size))

    def answers(self, factors: Factors) -> NDArray[np.int64]:
        """The number that is asked for; of `compare` 0, 1, 2: left has fewer, as many, more."""
        left = factors["left"]
        right = factors["right"]
        if self.config.ask == "compare":
            return np.sign(left - right) + 1
        return left if self.config.ask == "count" else left + right

    def probe_factors(self, factors: Factors) -> Factors:
        counts = {"left": factors["left"], "right": factors["right"]}
        counts["sum"] = factors["left"] + factors["right"]
        if self.config.distractors:
            counts["squares"] = factors["squares"].sum(1)
        return counts


def build_counting(config: CountingConfig) -> Task:
    """How many discs in all (`add`) or on the left (`count`), or where are there more (`compare`)?

    Of `compare`: 0, 1, 2 where the left has fewer, as many, more.
    """
    world = CountingWorld(config)
    sides = ("left",) if config.ask == "count" else ("left", "right")
    return Task(
        config=config,
        world=world,
        n_classes={"add": 2 * config.most + 1, "count": config.most + 1, "compare": 3}[config.ask],
        ask=ask_target(world.answers),
        probe_factors=world.probe_factors,
        baselines=lambda batch: score_class_baselines(batch.target),
        counterfactuals={name: flip_answer(world, name, world.answers) for name in sides},
    )
