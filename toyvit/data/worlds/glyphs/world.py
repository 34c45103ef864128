"""Glyphs: pictures made of cells, each showing one of a fixed bank of 8 x 8 glyphs."""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import count, product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from toyvit.data.random import (
    draw_integers,
    draw_normals,
    draw_subsets,
    make_noise_keys,
    make_sample_keys,
)
from toyvit.data.task import Batch, Retrieval, Task, ask_target, flip_answer
from toyvit.data.world import Factors, World
from toyvit.data.worlds.glyphs.config import InductionConfig

CELL = 8  # pixels a side
N_UNSEEN = 64  # item glyphs kept for the split `unseen`, after items and labels in the bank


@lru_cache
def draw_glyph_bank(n: int, side: int = CELL) -> NDArray[np.float32]:
    """The first n glyphs (n, side, side), ink +1 and paper -1, half of the pixels ink.

    Always the same: normal noise, a 3 x 3 circular mean, a threshold at the median; a glyph that
    differs from an accepted one in fewer than a quarter of its pixels is left out.
    """
    glyphs: list[NDArray[np.bool_]] = []
    n_pixels = side * side
    for index in count():
        key = make_sample_keys(0, "glyph bank", np.array([index]))
        noise = draw_normals(key, "noise", n_pixels).reshape(side, side)
        shifts = product((-1, 0, 1), repeat=2)
        smooth = sum(np.roll(noise, shift, (0, 1)) for shift in shifts)

        glyph = np.zeros(n_pixels, bool)
        glyph[np.argsort(smooth, axis=None, kind="stable")[n_pixels // 2 :]] = True
        n_different = (np.array(glyphs).reshape(-1, n_pixels) != glyph).sum(1)
        if (n_different >= n_pixels // 4).all():
            glyphs.append(glyph)
        if len(glyphs) == n:
            return np.where(np.array(glyphs), np.float32(1), np.float32(-1)).reshape(n, side, side)
    raise AssertionError


def add_blank(glyphs: NDArray[np.float32]) -> NDArray[np.float32]:
    """The glyphs and a blank grey one after the last: cell number -1."""
    return np.concatenate([glyphs, np.zeros_like(glyphs[:1])])


def render_cells(
    glyphs: NDArray[np.float32], cells: NDArray[np.int64], noise: float, keys: NDArray[np.int64]
) -> Tensor:
    """Pictures (image 1 height width) of cells (image row column) that show glyphs by number.

    -1 is the last glyph. Every pixel gets normal noise, a function of its image's key.
    """
    n, rows, columns = cells.shape
    side = glyphs.shape[1]
    lines = cells[:, :, None] * side + np.arange(side)[:, None]  # image, row of cells, line, column
    images = glyphs.reshape(-1, side).take(lines, 0, mode="wrap")
    images = images.reshape(n, 1, rows * side, columns * side)
    if noise:
        added = draw_normals(keys.astype(np.uint64), "pixels", images[0].size, noise)
        images += added.reshape(images.shape)
    return torch.from_numpy(images)


def blank_cells(images: Tensor, hidden: Tensor, grid: tuple[int, int]) -> Tensor:
    """The pictures with some of their cells grey: `hidden` (image cell) says which."""
    side = images.shape[2] // grid[0]
    blank = hidden.unflatten(1, grid).repeat_interleave(side, 1).repeat_interleave(side, 2)
    return images.masked_fill(blank[:, None], 0)


class PairsWorld(World):
    """Cells in raster order: item1 label1 item2 label2 ... itemN labelN query.

    With an even number of cells the first is blank. Factors: `item` (N slots, no item twice),
    `label` (N slots, independent and uniform), `query` (the slot whose item the last cell repeats),
    `noise_key` (the key of the pixel noise). The split `unseen` draws its items from glyphs that no
    other split shows.
    """

    name = "glyphs"
    patch_size = CELL

    def __init__(self, config: InductionConfig) -> None:
        self.config = config
        self.grid = (config.rows, config.columns)
        self.image_size = (config.rows * CELL, config.columns * CELL)
        self.n_cells = config.rows * config.columns
        self.n_pairs = config.n_pairs
        self.first = self.n_cells - 2 * self.n_pairs - 1  # 1 where the first cell is blank

        self.sizes = dict.fromkeys(("train", "validation", "test", "unseen"))
        self.factors = {
            "item": config.n_items,
            "label": config.n_labels,
            "query": config.n_pairs,
            "noise_key": 2**63 - 1,
        }
        self.glyphs = add_blank(draw_glyph_bank(config.n_items + config.n_labels + N_UNSEEN))

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        keys = make_sample_keys(seed, self.check_split(split), indices)
        n_items = self.config.n_items
        if split == "unseen":
            items = draw_subsets(keys, "item", self.n_pairs, N_UNSEEN)
            items = items + n_items + self.config.n_labels
        else:
            items = draw_subsets(keys, "item", self.n_pairs, n_items)

        return {
            "item": items,
            "label": draw_integers(keys, "label", self.n_pairs, self.config.n_labels),
            "query": draw_integers(keys, "query", 1, self.n_pairs)[:, 0],
            "noise_key": make_noise_keys(keys),
        }

    def cells(self, factors: Factors) -> NDArray[np.int64]:
        """Glyph number shown in each cell (image cell); -1 is blank."""
        n = len(factors["query"])
        cells = np.full((n, self.n_cells), -1)
        cells[:, self.first : -1 : 2] = factors["item"]
        cells[:, self.first + 1 : -1 : 2] = factors["label"] + self.config.n_items
        cells[:, -1] = factors["item"][np.arange(n), factors["query"]]
        return cells

    def render(self, factors: Factors) -> Tensor:
        cells = self.cells(factors).reshape(-1, *self.grid)
        return render_cells(self.glyphs, cells, self.config.noise, factors["noise_key"])

    def content(self, factors: Factors) -> Tensor:
        return torch.from_numpy(self.cells(factors))

    def label_cells(self) -> Tensor:
        """Patch numbers of the cells that show labels, in slot order."""
        return torch.arange(self.first + 1, self.n_cells - 1, 2)

    def retrieval(self, factors: Factors) -> Retrieval:
        """The last cell asks, the label after the query's item answers."""
        n = len(factors["query"])
        cells = self.label_cells()
        return Retrieval(
            query=torch.full((n,), self.n_cells - 1),
            target=cells[torch.from_numpy(factors["query"])],
            candidates=cells.expand(n, -1),
        )

    def change_label(self, factors: Factors) -> Factors:
        """The label that answers becomes the next one of the bank."""
        labels = factors["label"].copy()
        query = factors["query"][:, None]
        following = (np.take_along_axis(labels, query, 1) + 1) % self.config.n_labels
        np.put_along_axis(labels, query, following, 1)
        return self.change_factor(factors, "label", labels)

    def answers(self, factors: Factors) -> NDArray[np.int64]:
        """The label after the query's item."""
        return _take_slot(factors["label"], factors["query"])

    def change_query(self, factors: Factors) -> Factors:
        """The query shows the item of the next slot with another label."""
        return flip_answer(self, "query", self.answers)(factors)

    def swap_items(self, factors: Factors) -> Factors:
        """The item asked about and another change places.

        The query cell stays, the label before which it stands does not.
        """
        images = np.arange(len(factors["query"]))
        here = factors["query"]
        there = self.change_query(factors)["query"]
        items = factors["item"].copy()
        items[images, here] = factors["item"][images, there]
        items[images, there] = factors["item"][images, here]
        return factors | {"item": items, "query": there}

    def probe_factors(self, factors: Factors) -> Factors:
        item = _take_slot(factors["item"], factors["query"])
        return {"label": self.answers(factors), "item": item, "query": factors["query"]}


def build_induction(config: InductionConfig) -> Task:
    """Which label followed the query's item?"""
    world = PairsWorld(config)
    labels = world.glyphs[config.n_items : config.n_items + config.n_labels]
    return Task(
        config=config,
        world=world,
        n_classes=config.n_labels,
        ask=ask_target(world.answers),
        probe_factors=world.probe_factors,
        baselines=lambda batch: {
            "accuracy.uniform": 1 / config.n_labels,
            "loss.uniform": math.log(config.n_labels),
            **score_bag_of_labels(batch, config.n_items),
        },
        retrieval=world.retrieval,
        class_images=lambda: torch.from_numpy(labels),
        counterfactuals={
            "query": world.change_query,
            "item": world.swap_items,
            "label": world.change_label,
        },
    )


def _take_slot(values: NDArray[np.int64], slot: NDArray[np.int64]) -> NDArray[np.int64]:
    """The value in one slot of each picture."""
    return values[np.arange(len(slot)), slot]


def score_bag_of_labels(batch: Batch, n_items: int) -> dict[str, float]:
    """Accuracy and loss of the predictor that knows which labels are in the picture.

    It does not know which follows what, and answers each label with its share of the N label cells:
    accuracy E[largest count] / N, loss E[-ln share].
    """
    assert batch.content is not None and batch.retrieval is not None
    labels = batch.content.gather(1, batch.retrieval.candidates) - n_items
    counts = F.one_hot(labels).sum(1).double()
    share = counts / counts.sum(1, keepdim=True)
    expected_loss = -(share * share.clamp(min=1e-300).log()).sum(1).mean()
    return {
        "accuracy.bag_of_labels": share.amax(1).mean().item(),
        "loss.bag_of_labels": expected_loss.item(),
    }
