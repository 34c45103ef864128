"""Modular addition in pictures: two operands are shown, their sum modulo p is to be read."""

from __future__ import annotations

import math
from functools import cache, cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toyvit.data.random import draw_order, make_sample_keys
from toyvit.data.task import OperandTable, Task, ask_target, flip_answer, score_class_baselines
from toyvit.data.world import Factors, World, select_rows
from toyvit.data.worlds.addition.config import AdditionConfig
from toyvit.data.worlds.glyphs.world import CELL, draw_glyph_bank, render_cells

CLOCK = 32  # pixels a side of the clock's face
HANDS = (14.0, 9.0)  # pixels: the first operand's hand is the long one


class AdditionWorld(World):
    """All p^2 ordered pairs (a, b), split over unordered pairs: (a, b), (b, a) on the same side.

    Split over ordered pairs, commutativity alone would give most of the test pairs away. As glyphs
    the picture is a row of three cells, [a] [b] [=]; as a clock, one face with two hands at a and b
    parts of a turn. Factors: `a`, `b`.
    """

    name = "addition"

    def __init__(self, config: AdditionConfig) -> None:
        self.config = config
        self.factors = {"a": config.modulus, "b": config.modulus}
        is_clock = config.shown == "clock"
        self.image_size = (CLOCK, CLOCK) if is_clock else (CELL, 3 * CELL)
        self.patch_size = None if is_clock else CELL
        self.sizes = {split: len(pairs) for split, pairs in self.combinations.items()}

    @cached_property
    def combinations(self) -> dict[str, NDArray[np.int64]]:
        """The operands (pair operand) of each split.

        Of those that are not trained on a quarter is for validation.
        """
        p = self.config.modulus
        a, b = np.divmod(np.arange(p * p), p)
        group = np.arange(p * p)
        if self.config.split == "unordered":
            group = np.minimum(a, b) * p + np.maximum(a, b)
        groups = self._split_groups(np.unique(group))

        pairs = np.stack([a, b], 1)
        return {split: pairs[np.isin(group, part)] for split, part in groups.items()}

    def _split_groups(self, groups: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
        """The groups of pairs of each split, dealt out at random."""
        key = make_sample_keys(0, "addition split", np.array([self.config.modulus]))
        order = groups[draw_order(key, "order", len(groups))[0]]
        n_train = round(self.config.train_share * len(groups))
        n_seen = n_train + (len(groups) - n_train) // 4
        return {
            "train": order[:n_train],
            "validation": order[n_train:n_seen],
            "test": order[n_seen:],
        }

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        pairs = self.combinations[self.check_split(split)]
        a, b = pairs[select_rows(self, seed, split, indices)].T
        return {"a": a, "b": b}

    def render(self, factors: Factors) -> Tensor:
        a = factors["a"]
        b = factors["b"]
        if self.config.shown == "clock":
            long_hand = self.faces[torch.from_numpy(a), 0]
            short_hand = self.faces[torch.from_numpy(b), 1]
            return long_hand.maximum(short_hand)[:, None]

        equals = np.full_like(a, self.config.modulus)
        cells = np.stack([a, b, equals], 1)[:, None]
        return render_cells(draw_glyph_bank(self.config.modulus + 1), cells, 0.0, a)

    @cached_property
    def faces(self) -> Tensor:
        """One hand on a face, for each operand and hand: (operand hand height width).

        -1 is paper, +1 ink, 12 o'clock is 0. Ink fades with the distance from the hand's middle
        line: full within half a pixel, none beyond one and a half.
        """
        places = torch.arange(CLOCK) + 0.5 - CLOCK / 2
        y, x = torch.meshgrid(places, places, indexing="ij")
        angles = 2 * math.pi * torch.arange(self.config.modulus) / self.config.modulus
        right = angles.sin()[:, None, None, None]
        up = angles.cos()[:, None, None, None]
        length = torch.tensor(HANDS)[None, :, None, None]

        along = (x * right - y * up).clamp(min=0).minimum(length)
        distance = torch.hypot(x - along * right, -y - along * up)
        return 2 * (1.5 - distance).clamp(0, 1) - 1

    def answers(self, factors: Factors) -> NDArray[np.int64]:
        """(a + b) mod p."""
        return (factors["a"] + factors["b"]) % self.config.modulus

    def probe_factors(self, factors: Factors) -> Factors:
        return {"a": factors["a"], "b": factors["b"], "sum": self.answers(factors)}

    def render_table(self) -> OperandTable:
        """All pairs of operands, and which of them are trained on."""
        p = self.config.modulus
        a, b = np.divmod(np.arange(p**2), p)
        trained = np.zeros(len(a), bool)
        trained[self.combinations["train"] @ (p, 1)] = True

        factors = {"a": a, "b": b}
        return OperandTable(
            images=self.render(factors),
            target=torch.from_numpy(self.answers(factors)),
            trained=torch.from_numpy(trained),
        )


def build_addition(config: AdditionConfig) -> Task:
    """What is (a + b) mod p?"""
    world = AdditionWorld(config)
    return Task(
        config=config,
        world=world,
        n_classes=config.modulus,
        ask=ask_target(world.answers),
        probe_factors=world.probe_factors,
        baselines=lambda batch: {
            "accuracy.uniform": 1 / config.modulus,
            "loss.uniform": math.log(config.modulus),
            **score_class_baselines(batch.target),
        },
        counterfactuals={name: flip_answer(world, name, world.answers) for name in ("a", "b")},
        operand_table=cache(world.render_table),
    )
