"""Pointer-value retrieval (Zhang 2021): the first cell says which other cell holds the answer; with two hops, who says so."""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from toyvit.data.random import draw_integers, draw_subsets, draw_uniforms, make_sample_keys
from toyvit.data.task import Batch, Retrieval, Task, ask_target, flip_answer, score_class_baselines
from toyvit.data.world import Factors, World, add_held_out
from toyvit.data.worlds.glyphs.world import CELL, draw_glyph_bank, render_cells
from toyvit.data.worlds.mnist.world import load_small_digits
from toyvit.data.worlds.pointers.config import PointersConfig

DIGIT = 14  # pixels a side of an MNIST digit after averaging
DRAWN_FROM = {"train": 0, "validation": 1, "test": 2, "held_out": 2}  # splits of MNIST


@lru_cache
def load_drawings() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """MNIST's digits, -1 to 1 (picture line column), by split and digit; where each (split digit) begins."""
    sums, first = load_small_digits()
    return sums.astype(np.float32) / np.float32(510) - np.float32(1), first


class PointersWorld(World):
    """Cells in raster order: the pointer, then block 0, block 1 ... Every cell shows a number; pointer p points to block p.

    A number shown in a block points in the same way. Blocks from `n_values` on are shown and never pointed to. With two hops no
    block shows its own number. Factors: `pointer`, `value` (of each block, independent and uniform but for the one that the
    pointer points to), `noise_key` (the key of the drawings and the pixel noise). Some pairs (pointer, value there) are held out:
    no other split shows them, `held_out` shows nothing else; each pointer and each value loses as many, to within one.
    """

    name = "pointers"

    def __init__(self, config: PointersConfig) -> None:
        self.config, self.grid = config, (config.rows, config.columns)
        self.patch_size = CELL if config.source == "glyphs" else DIGIT
        self.image_size = (config.rows * self.patch_size, config.columns * self.patch_size)
        self.sizes = dict.fromkeys(
            add_held_out(
                ("train", "validation", "test"), config.held_out, len(self.combinations[True])
            )
        )
        self.factors = {
            "pointer": config.n_values,
            "value": config.n_values,
            "noise_key": 2**63 - 1,
        }

    @cached_property
    def combinations(self) -> dict[bool, NDArray[np.int64]]:
        """Pairs (pointer, value there) that are held out (True) and that are not.

        Diagonals of the table (pointer, value), one after the other, rows and columns dealt out anew: every pointer and every
        value is in each diagonal once, and no sum or difference says which pairs they are. With two hops rows and columns
        are dealt out alike, so that the diagonal of equal numbers, which is not among them, stays where it is.
        """
        n, own = self.config.n_values, self.config.hops - 1
        key = make_sample_keys(0, "pointer pairs", np.array([n]))
        shift, pointer = (
            draw_subsets(key, "shift", n - own, n - own)[0] + own,
            draw_subsets(key, "rows", n, n)[0],
        )
        value = pointer if own else draw_subsets(key, "columns", n, n)[0]
        every = np.stack(
            [np.tile(pointer, n - own), value[(np.arange(n) + shift[:, None]).ravel() % n]], 1
        )
        n_held = round(self.config.held_out * len(every))
        return {True: every[:n_held], False: every[n_held:]}

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        keys = make_sample_keys(seed, self.check_split(split), indices)
        pairs = self.combinations[split == "held_out"]
        pointer, there = pairs[draw_integers(keys, "pair", 1, len(pairs))[:, 0]].T
        own, n_blocks = self.config.hops - 1, self.config.n_blocks
        value = (
            draw_integers(keys, "value", n_blocks, self.config.n_values - own)
            + own
            + np.arange(n_blocks)
        )
        value %= self.config.n_values
        np.put_along_axis(value, pointer[:, None], there[:, None], 1)
        look = (keys >> np.uint64(1)).astype(np.int64)
        return {
            "pointer": pointer,
            "value": value,
            "noise_key": look,
            "split": np.full(len(keys), DRAWN_FROM[split]),
        }

    def block(self, factors: Factors) -> NDArray[np.int64]:
        """The block that is pointed to at last (image)."""
        block = factors["pointer"]
        for _ in range(self.config.hops - 1):
            block = np.take_along_axis(factors["value"], block[:, None], 1)[:, 0]
        return block

    def list_answers(self, value: NDArray[np.int64]) -> NDArray[np.int64]:
        """What the answer is if block b is pointed to (image block): its window's sum modulo n_values; blocks wrap round."""
        total = sum(np.roll(value, -step, 1) for step in range(self.config.window))
        return np.asarray(total % self.config.n_values)[:, : self.config.n_values]

    def cells(self, factors: Factors) -> NDArray[np.int64]:
        """Number shown in each cell (image cell)."""
        return np.concatenate([factors["pointer"][:, None], factors["value"]], 1)

    def render(self, factors: Factors) -> Tensor:
        cells, pictures = self.cells(factors), draw_glyph_bank(self.config.n_values)
        if self.config.source == "mnist":
            pictures, first = load_drawings()
            group = factors["split"][:, None] * 10 + cells
            draws = draw_uniforms(factors["noise_key"].astype(np.uint64), "drawing", cells.shape[1])
            cells = first[group] + (draws * (first[group + 1] - first[group])).astype(np.int64)
        return render_cells(
            pictures, cells.reshape(-1, *self.grid), self.config.noise, factors["noise_key"]
        )

    def content(self, factors: Factors) -> Tensor:
        return torch.from_numpy(self.cells(factors))


def build_pointers(config: PointersConfig) -> Task:
    """What is the value where the pointer points?"""
    world = PointersWorld(config)

    def target(factors: Factors) -> NDArray[np.int64]:
        return np.take_along_axis(
            world.list_answers(factors["value"]), world.block(factors)[:, None], 1
        )[:, 0]

    def probe_factors(factors: Factors) -> dict[str, NDArray[np.int64]]:
        there = np.take_along_axis(factors["value"], factors["pointer"][:, None], 1)[:, 0]
        return {"pointer": factors["pointer"], "value": there, "answer": target(factors)}

    def retrieval(factors: Factors) -> Retrieval:
        match = torch.from_numpy(1 + world.block(factors))
        blocks = torch.arange(1, config.n_values + 1).expand(len(match), -1)
        return Retrieval(query=torch.zeros_like(match), target=match, candidates=blocks)

    def baselines(batch: Batch) -> dict[str, float]:
        assert batch.content is not None
        answers = torch.from_numpy(world.list_answers(batch.content[:, 1:].numpy()))
        return {
            **score_class_baselines(batch.target),
            **score_bag_of_values(answers, batch.target, config.n_values),
        }

    return Task(
        config=config,
        world=world,
        n_classes=config.n_values,
        ask=ask_target(target),
        probe_factors=probe_factors,
        baselines=baselines,
        retrieval=retrieval,
        counterfactuals={"pointer": flip_answer(world, "pointer", target)},
    )


def score_bag_of_values(answers: Tensor, target: Tensor, n_values: int) -> dict[str, float]:
    """Accuracy and loss of the predictor that knows what each block would answer, but not which is pointed to.

    It answers each value with its share of the blocks; of the values with the largest share it names the smallest.
    """
    share = F.one_hot(answers, n_values).double().mean(1)
    right = (share.argmax(1) == target).double().mean()
    return {
        "accuracy.bag_of_values": right.item(),
        "loss.bag_of_values": -share.gather(1, target[:, None]).log().mean().item(),
    }
