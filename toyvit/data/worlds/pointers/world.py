"""Pointer-value retrieval (Zhang 2021): the first cell says which other cell holds the answer.

With two hops, it says which cell says so.
"""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from toyvit.data.random import (
    draw_integers,
    draw_order,
    draw_uniforms,
    make_noise_keys,
    make_sample_keys,
)
from toyvit.data.task import Batch, Retrieval, Task, ask_target, flip_answer, score_class_baselines
from toyvit.data.world import Factors, World, add_held_out
from toyvit.data.worlds.glyphs.world import CELL, draw_glyph_bank, render_cells
from toyvit.data.worlds.mnist.world import load_small_digits
from toyvit.data.worlds.pointers.config import PointersConfig

DIGIT = 14  # pixels a side of an MNIST digit after averaging
DRAWN_FROM = {"train": 0, "validation": 1, "test": 2, "held_out": 2}  # splits of MNIST


@lru_cache
def load_drawings() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """MNIST's digits, -1 to 1 (picture line column), by split and digit.

    And where each (split digit) begins.
    """
    sums, first = load_small_digits()
    return sums.astype(np.float32) / np.float32(510) - np.float32(1), first


class PointersWorld(World):
    """Cells in raster order: the pointer, then block 0, block 1 ... Every cell shows a number.

    Pointer p points to block p; a number shown in a block points in the same way. Blocks from
    `n_values` on are shown and never pointed to. With two hops no block shows its own number.

    Factors: `pointer`, `value` (of each block, independent and uniform but for the one that the
    pointer points to), `noise_key` (the key of the drawings and the pixel noise). Some combinations
    (pointer, value there) are held out: no other split shows them, `held_out` shows nothing else;
    each pointer and each value loses as many, to within one.
    """

    name = "pointers"

    def __init__(self, config: PointersConfig) -> None:
        self.config = config
        self.grid = (config.rows, config.columns)
        side = CELL if config.source == "glyphs" else DIGIT
        self.patch_size = side
        self.image_size = (config.rows * side, config.columns * side)

        splits = ("train", "validation", "test")
        n_held = len(self.combinations[True])
        self.sizes = dict.fromkeys(add_held_out(splits, config.held_out, n_held))
        self.factors = {
            "pointer": config.n_values,
            "value": config.n_values,
            "noise_key": 2**63 - 1,
        }

    @cached_property
    def combinations(self) -> dict[bool, NDArray[np.int64]]:
        """Combinations (pointer, value there) that are held out (True) and that are not.

        Diagonals of the table (pointer, value), one after the other, rows and columns dealt out
        anew: every pointer and every value is in each diagonal once, and no sum or difference says
        which they are. With two hops rows and columns are dealt out alike, so that the diagonal of
        equal numbers, which is not among them, stays where it is.
        """
        n = self.config.n_values
        n_equal = self.config.hops - 1  # diagonals left out: with two hops that of equal numbers
        key = make_sample_keys(0, "pointer pairs", np.array([n]))
        shift = draw_order(key, "shift", n - n_equal)[0] + n_equal
        pointer = draw_order(key, "rows", n)[0]
        value = pointer if n_equal else draw_order(key, "columns", n)[0]

        places = (np.arange(n) + shift[:, None]).ravel() % n
        table = np.stack([np.tile(pointer, n - n_equal), value[places]], 1)
        n_held = round(self.config.held_out * len(table))
        return {True: table[:n_held], False: table[n_held:]}

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        keys = make_sample_keys(seed, self.check_split(split), indices)
        combinations = self.combinations[split == "held_out"]
        numbers = draw_integers(keys, "pair", 1, len(combinations))[:, 0]
        pointer, there = combinations[numbers].T

        n_blocks = self.config.n_blocks
        n_values = self.config.n_values
        # With two hops no block shows its own number: another one is drawn, counting up from it.
        least = self.config.hops - 1
        shift = draw_integers(keys, "value", n_blocks, n_values - least) + least
        value = (shift + np.arange(n_blocks)) % n_values
        np.put_along_axis(value, pointer[:, None], there[:, None], 1)
        return {
            "pointer": pointer,
            "value": value,
            "noise_key": make_noise_keys(keys),
            "split": np.full(len(keys), DRAWN_FROM[split]),
        }

    def block(self, factors: Factors) -> NDArray[np.int64]:
        """The block that is pointed to at last (image)."""
        block = factors["pointer"]
        for _ in range(self.config.hops - 1):
            block = np.take_along_axis(factors["value"], block[:, None], 1)[:, 0]
        return block

    def list_answers(self, value: NDArray[np.int64]) -> NDArray[np.int64]:
        """What the answer is if block b is pointed to (image block).

        The sum of its window modulo n_values; blocks wrap round.
        """
        total = sum(np.roll(value, -step, 1) for step in range(self.config.window))
        return np.asarray(total % self.config.n_values)[:, : self.config.n_values]

    def cells(self, factors: Factors) -> NDArray[np.int64]:
        """Number shown in each cell (image cell)."""
        return np.concatenate([factors["pointer"][:, None], factors["value"]], 1)

    def render(self, factors: Factors) -> Tensor:
        cells = self.cells(factors)
        pictures = draw_glyph_bank(self.config.n_values)
        if self.config.source == "mnist":
            pictures, first = load_drawings()
            cells = self._choose_drawings(factors, cells, first)
        cells = cells.reshape(-1, *self.grid)
        return render_cells(pictures, cells, self.config.noise, factors["noise_key"])

    def _choose_drawings(
        self, factors: Factors, cells: NDArray[np.int64], first: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """A drawing of the number in each cell (image cell), of the picture's split of MNIST."""
        group = factors["split"][:, None] * 10 + cells
        n_drawings = first[group + 1] - first[group]
        draws = draw_uniforms(factors["noise_key"].astype(np.uint64), "drawing", cells.shape[1])
        return first[group] + (draws * n_drawings).astype(np.int64)

    def content(self, factors: Factors) -> Tensor:
        return torch.from_numpy(self.cells(factors))

    def answers(self, factors: Factors) -> NDArray[np.int64]:
        """The answer of the block that is pointed to at last (image)."""
        answers = self.list_answers(factors["value"])
        return np.take_along_axis(answers, self.block(factors)[:, None], 1)[:, 0]

    def probe_factors(self, factors: Factors) -> Factors:
        there = np.take_along_axis(factors["value"], factors["pointer"][:, None], 1)[:, 0]
        return {"pointer": factors["pointer"], "value": there, "answer": self.answers(factors)}

    def retrieval(self, factors: Factors) -> Retrieval:
        """The pointer asks, the block that is pointed to at last answers."""
        match = torch.from_numpy(1 + self.block(factors))
        blocks = torch.arange(1, self.config.n_values + 1).expand(len(match), -1)
        return Retrieval(query=torch.zeros_like(match), target=match, candidates=blocks)


def build_pointers(config: PointersConfig) -> Task:
    """What is the value where the pointer points?"""
    world = PointersWorld(config)

    def baselines(batch: Batch) -> dict[str, float]:
        assert batch.content is not None
        answers = torch.from_numpy(world.list_answers(batch.content[:, 1:].numpy()))
        bag = score_bag_of_values(answers, batch.target, config.n_values)
        return score_class_baselines(batch.target) | bag

    return Task(
        config=config,
        world=world,
        n_classes=config.n_values,
        ask=ask_target(world.answers),
        probe_factors=world.probe_factors,
        baselines=baselines,
        retrieval=world.retrieval,
        counterfactuals={"pointer": flip_answer(world, "pointer", world.answers)},
    )


def score_bag_of_values(answers: Tensor, target: Tensor, n_values: int) -> dict[str, float]:
    """Accuracy and loss of the predictor that knows what each block would answer.

    It does not know which is pointed to, and answers each value with its share of the blocks; of
    the values with the largest share it names the smallest.
    """
    share = F.one_hot(answers, n_values).double().mean(1)
    right = (share.argmax(1) == target).double().mean()
    return {
        "accuracy.bag_of_values": right.item(),
        "loss.bag_of_values": -share.gather(1, target[:, None]).log().mean().item(),
    }
