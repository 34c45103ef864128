"""Repeats: a canvas of glyphs that holds one random sequence over and over; which comes next?

The period varies.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from toyvit.data.random import draw_integers, draw_subsets, make_noise_keys, make_sample_keys
from toyvit.data.task import Batch, Task
from toyvit.data.world import Factors, World
from toyvit.data.worlds.glyphs.world import CELL, blank_cells, draw_glyph_bank, render_cells
from toyvit.data.worlds.repeats.config import RepeatsConfig


class RepeatsWorld(World):
    """Cell c shows glyph `sequence[c mod period]`: no glyph twice in a sequence.

    The period is uniform between two limits. Factors: `sequence`, `period` (above the least),
    `noise_key`, `masked` (the cell that the masked question hides).
    """

    name = "repeats"
    patch_size = CELL

    def __init__(self, config: RepeatsConfig) -> None:
        self.config = config
        self.grid = (config.rows, config.columns)
        self.image_size = (config.rows * CELL, config.columns * CELL)
        self.sizes = dict.fromkeys(("train", "validation", "test"))

        self.glyphs = draw_glyph_bank(config.n_glyphs)
        periods = np.arange(config.least, config.most + 1)
        self.places = np.arange(config.n_cells) % periods[:, None]  # in the sequence (period cell)
        self.factors = {
            "sequence": config.n_glyphs,
            "period": config.most - config.least + 1,
            "noise_key": 2**63 - 1,
            "masked": config.n_cells,
        }

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        keys = make_sample_keys(seed, self.check_split(split), indices)
        config = self.config
        period = draw_integers(keys, "period", 1, config.most - config.least + 1)[:, 0]

        # Hidden is a cell of the repeated part, which begins after the first period.
        first = config.least + period
        hidden = draw_integers(keys, "masked", 1, 2**31)[:, 0] % (config.n_cells - first)
        return {
            "sequence": draw_subsets(keys, "sequence", config.most, config.n_glyphs),
            "period": period,
            "noise_key": make_noise_keys(keys),
            "masked": first + hidden,
        }

    def cells(self, factors: Factors) -> NDArray[np.int64]:
        """Glyph number in each cell (image cell)."""
        sequence = factors["sequence"]
        first = sequence.shape[1] * np.arange(len(sequence))[:, None]
        return sequence.take(self.places[factors["period"]] + first)

    def render(self, factors: Factors) -> Tensor:
        cells = self.cells(factors).reshape(-1, *self.grid)
        return render_cells(self.glyphs, cells, self.config.noise, factors["noise_key"])

    def content(self, factors: Factors) -> Tensor:
        return torch.from_numpy(self.cells(factors))

    def ask_next(self, factors: Factors, images: Tensor) -> tuple[Tensor, Tensor]:
        """The pictures, and of each cell the glyph of the next; -1 in the first period."""
        config = self.config
        place = torch.arange(config.n_cells)
        periods = torch.arange(config.least, config.most + 1)[:, None]
        not_asked = (place < periods) | (place == config.n_cells - 1)  # period cell
        skipped = not_asked[torch.from_numpy(factors["period"])]
        return images, self.content(factors).roll(-1, 1).masked_fill_(skipped, -1)

    def ask_masked(self, factors: Factors, images: Tensor) -> tuple[Tensor, Tensor]:
        """The pictures with one cell blanked, and its glyph; -1 at the other cells."""
        hidden = torch.arange(self.config.n_cells) == torch.from_numpy(factors["masked"])[:, None]
        answers = self.content(factors).masked_fill(~hidden, -1)
        return blank_cells(images, hidden, self.grid), answers


def build_repeats(config: RepeatsConfig) -> Task:
    """Which glyph comes next (`next`), or which is hidden (`masked`)?

    The first is asked from the second time on; for the second one cell of the repeated part is
    blanked.
    """
    world = RepeatsWorld(config)

    def probe_factors(factors: Factors) -> Factors:
        return {"period": factors["period"], "first": factors["sequence"][:, 0]}

    return Task(
        config=config,
        world=world,
        n_classes=config.n_glyphs,
        ask=world.ask_next if config.ask == "next" else world.ask_masked,
        probe_factors=probe_factors,
        baselines=lambda batch: {
            "accuracy.uniform": 1 / config.n_glyphs,
            "loss.uniform": math.log(config.n_glyphs),
            **score_bag_of_glyphs(batch),
        },
        output_kind="patch",
    )


def score_bag_of_glyphs(batch: Batch) -> dict[str, float]:
    """The predictor that knows which glyphs are in the picture and how often, but not where."""
    assert batch.content is not None
    asked = batch.target >= 0
    answers = batch.target[asked]
    counts = F.one_hot(batch.content).sum(1).double()
    share = counts / counts.sum(1, keepdim=True)
    share = share[:, None].expand(-1, batch.target.shape[1], -1)[asked]

    right = share.gather(1, answers[:, None])[:, 0]
    return {
        "accuracy.bag_of_glyphs": (share.argmax(1) == answers).float().mean().item(),
        "loss.bag_of_glyphs": -right.log().mean().item(),
    }
