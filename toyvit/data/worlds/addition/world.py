"""Modular addition in pictures: two operands, as glyphs or as the hands of a clock, and their sum modulo p to be read."""

from __future__ import annotations

import math
from functools import cache, cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toyvit.data.random import draw_bits, make_sample_keys
from toyvit.data.task import OperandTable, Task, ask_target, flip_answer, score_class_baselines
from toyvit.data.world import Factors, World, select_rows
from toyvit.data.worlds.addition.config import AdditionConfig
from toyvit.data.worlds.glyphs.world import CELL, draw_glyph_bank, render_cells

CLOCK = 32  # pixels a side of the clock's face
HANDS = (14.0, 9.0)  # pixels: the first operand's hand is the long one


class AdditionWorld(World):
    """All p^2 ordered pairs (a, b), split over unordered pairs: (a, b) and (b, a) are on the same side.

    Split over ordered pairs, commutativity alone would give most of the test pairs away. As glyphs the picture is a row of
    three cells, [a] [b] [=]; as a clock, one face with two hands at a and b parts of a turn. Factors: `a`, `b`.
    """

    name = "addition"

    def __init__(self, config: AdditionConfig) -> None:
        self.config = config
        self.factors = {"a": config.modulus, "b": config.modulus}
        clock = config.shown == "clock"
        self.image_size = (CLOCK, CLOCK) if clock else (CELL, 3 * CELL)
        self.patch_size = None if clock else CELL
        self.sizes = {split: len(pairs) for split, pairs in self.combinations.items()}

    @cached_property
    def combinations(self) -> dict[str, NDArray[np.int64]]:
        """The pairs (pair operand) of each split; of those that are not trained on a quarter is for validation."""
        p, share = self.config.modulus, self.config.train_share
        a, b = np.divmod(np.arange(p * p), p)
        group = (
            np.minimum(a, b) * p + np.maximum(a, b)
            if self.config.split == "unordered"
            else np.arange(p * p)
        )
        names = np.unique(group)
        order = names[
            draw_bits(make_sample_keys(0, "addition split", np.array([p])), "order", len(names))[
                0
            ].argsort(kind="stable")
        ]
        n_train = round(share * len(names))
        n_seen = n_train + (len(names) - n_train) // 4
        parts = {
            "train": order[:n_train],
            "validation": order[n_train:n_seen],
            "test": order[n_seen:],
        }
        return {name: np.stack([a, b], 1)[np.isin(group, part)] for name, part in parts.items()}

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        a, b = self.combinations[self.check_split(split)][select_rows(self, seed, split, indices)].T
        return {"a": a, "b": b}

    def render(self, factors: Factors) -> Tensor:
        a, b = factors["a"], factors["b"]
        if self.config.shown == "clock":
            return self.faces[torch.from_numpy(a), 0].maximum(self.faces[torch.from_numpy(b), 1])[
                :, None
            ]
        equals = np.full_like(a, self.config.modulus)
        cells = np.stack([a, b, equals], 1)[:, None]
        return render_cells(draw_glyph_bank(self.config.modulus + 1), cells, 0.0, a)

    @cached_property
    def faces(self) -> Tensor:
        """One hand on a face, for each operand and hand: (operand hand height width), -1 paper to +1 ink, 12 o'clock is 0.

        Ink fades with the distance from the hand's middle line: full within half a pixel, none beyond one and a half.
        """
        places = torch.arange(CLOCK) + 0.5 - CLOCK / 2
        y, x = torch.meshgrid(places, places, indexing="ij")
        angles = 2 * math.pi * torch.arange(self.config.modulus) / self.config.modulus
        right, up = angles.sin()[:, None, None, None], angles.cos()[:, None, None, None]
        length = torch.tensor(HANDS)[None, :, None, None]
        along = (x * right - y * up).clamp(min=0).minimum(length)
        far = torch.hypot(x - along * right, -y - along * up)
        return 2 * (1.5 - far).clamp(0, 1) - 1


def build_addition(config: AdditionConfig) -> Task:
    """What is (a + b) mod p?"""
    world = AdditionWorld(config)

    def target(factors: Factors) -> NDArray[np.int64]:
        return (factors["a"] + factors["b"]) % config.modulus

    @cache
    def operand_table() -> OperandTable:
        a, b = np.divmod(np.arange(config.modulus**2), config.modulus)
        trained = np.zeros(len(a), bool)
        trained[world.combinations["train"] @ (config.modulus, 1)] = True
        every = {"a": a, "b": b}
        return OperandTable(
            world.render(every), torch.from_numpy(target(every)), torch.from_numpy(trained)
        )

    return Task(
        config=config,
        world=world,
        n_classes=config.modulus,
        ask=ask_target(target),
        probe_factors=lambda factors: {
            "a": factors["a"],
            "b": factors["b"],
            "sum": target(factors),
        },
        baselines=lambda batch: {
            "accuracy.uniform": 1 / config.modulus,
            "loss.uniform": math.log(config.modulus),
            **score_class_baselines(batch.target),
        },
        counterfactuals={name: flip_answer(world, name, target) for name in ("a", "b")},
        operand_table=operand_table,
    )
