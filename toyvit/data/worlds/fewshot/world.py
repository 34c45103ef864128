"""Few shots: exemplar-label pairs and a query; the answer is in the context, in the weights, or in both (after Chan 2022)."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from toyvit.data.random import draw_integers, draw_subsets, draw_uniforms, make_sample_keys
from toyvit.data.task import Batch, Retrieval, Task, ask_target, score_class_baselines
from toyvit.data.world import Factors, World
from toyvit.data.worlds.fewshot.config import FewshotConfig
from toyvit.data.worlds.glyphs.world import add_blank, draw_glyph_bank, render_cells
from toyvit.data.worlds.mnist.world import load_small_digits
from toyvit.data.worlds.omniglot import drawings

SPLITS = ("train", "validation", "test", "in_context", "in_weights")
# How many drawings of a class each split shows, one after the other; glyphs have one, the same in all.
DRAWINGS = {"mnist": (4900, 400, 800), "omniglot": (14, 3, 3)}


def load_exemplars(config: FewshotConfig) -> NDArray[np.float32]:
    """Pictures (class, drawing, line, column), -1 to 1: the classes that training shows, then those that it never shows."""
    if config.source == "glyphs":
        return draw_glyph_bank(config.n_classes + config.n_held)[:, None]
    if config.source == "mnist":
        return _digits()
    parts = drawings.load_drawings()
    return np.concatenate(
        [parts["images_background"][: config.n_classes], parts["images_evaluation"]]
    )


@lru_cache
def _digits() -> NDArray[np.float32]:
    """MNIST by digit, -1 to 1: the first so many of its training, validation and test pictures, one after the other."""
    sums, first = load_small_digits()
    split, digit = np.repeat(np.arange(3), DRAWINGS["mnist"]), np.arange(10)[:, None]
    place = np.concatenate([np.arange(n) for n in DRAWINGS["mnist"]])
    return sums[first[10 * split + digit] + place].astype(np.float32) / np.float32(
        510
    ) - np.float32(1)


def draw_distinct(draws: NDArray[np.float64], weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """Classes (image place) by draws from 0 .. 1: one after the other in proportion to their weights, none twice in a row.

    Every class holds as many tickets as its weight; a place draws one of those that the classes before it leave.
    """
    ends = weights.cumsum()
    starts, found = ends - weights, np.empty(draws.shape, np.int64)
    for place in range(draws.shape[1]):
        before = np.sort(found[:, :place], 1)
        taken = weights[before]
        ticket = (draws[:, place] * (ends[-1] - taken.sum(1))).astype(np.int64)
        passed = ticket[:, None] >= starts[before] - taken.cumsum(1) + taken
        found[:, place] = np.searchsorted(ends, ticket + (taken * passed).sum(1), "right")
    return found


class FewshotWorld(World):
    """Cells in raster order: exemplar1 label1 ... exemplarN labelN query; first cells are blank where the count does not fit.

    A bursty picture shows ceil(N / B) classes, B copies of each (the last takes what is left), in random order; the query
    is one of those with B copies. In the other pictures N exemplars and the query are drawn independently. `in_context`
    lays classes that training never shows out as bursty pictures do, under fresh labels; `in_weights` lays trained ones
    out so under their fixed labels, and asks for one more that is not among them.

    Factors: `class` and `label` (N slots), `query` (a class), `drawing` (N slots and the query: which picture of the class),
    `noise_key` (the key of the pixel noise).
    """

    name = "fewshot"

    def __init__(self, config: FewshotConfig) -> None:
        self.config, n_cells = config, 2 * config.n_pairs + 1
        shown = load_exemplars(config)
        self.n_known, self.n_drawings, side, _ = shown.shape
        before = self.n_known if config.source == "glyphs" else 0
        labels = draw_glyph_bank(before + config.n_labels, side)[
            before:
        ]  # glyphs too, but none that is an exemplar
        self.shown = add_blank(np.concatenate([shown.reshape(-1, side, side), labels]))
        self.pictures = self.shown[:-1]
        columns = math.ceil(math.sqrt(n_cells))
        self.grid, self.patch_size = (-(-n_cells // columns), columns), side
        self.first = math.prod(self.grid) - n_cells  # blank cells
        self.image_size = (self.grid[0] * side, columns * side)
        self.sizes = dict.fromkeys(SPLITS if config.labels == "fixed" else SPLITS[:-1])
        self.factors = {
            "class": self.n_known,
            "label": config.n_labels,
            "query": self.n_known,
            "drawing": self.n_drawings,
            "noise_key": 2**63 - 1,
        }
        # Whole numbers, so that drawing without replacement is exact; equal where zipf is 0.
        shares = np.arange(1, config.n_classes + 1) ** -float(config.zipf)
        self.weights = np.maximum(1, np.rint(2**30 * shares / shares.sum())).astype(np.int64)
        self.held_weights = np.ones(config.n_held, np.int64)

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        config, n, new = self.config, self.config.n_pairs, split == "in_context"
        keys = make_sample_keys(seed, self.check_split(split), indices)
        groups = np.arange(n) // config.copies + (split == "in_weights")  # the query is of group 0
        classes = draw_distinct(
            draw_uniforms(keys, "class", groups[-1] + 1), self.held_weights if new else self.weights
        )
        classes += config.n_classes * new
        slots = groups[draw_subsets(keys, "order", n, n)]
        context, query = np.take_along_axis(classes, slots, 1), classes[:, 0]
        if split in SPLITS[:3] and (config.p_bursty < 1 or not config.burstiness):
            tickets = draw_uniforms(keys, "alone", n + 1) * self.weights.sum()
            alone = np.searchsorted(self.weights.cumsum(), tickets.astype(np.int64), "right")
            bursty = draw_uniforms(keys, "bursty", 1) < config.p_bursty * (config.burstiness > 0)
            context, query = (
                np.where(bursty, context, alone[:, :n]),
                np.where(bursty[:, 0], query, alone[:, n]),
            )
        label = context % config.n_labels
        if new or config.labels == "random":
            label = np.take_along_axis(
                draw_integers(keys, "label", groups[-1] + 1, config.n_labels), slots, 1
            )
        return {
            "class": context,
            "label": label,
            "query": query,
            "drawing": self._drawn(keys, split),
            "noise_key": (keys >> np.uint64(1)).astype(np.int64),
        }

    def _drawn(self, keys: NDArray[np.uint64], split: str) -> NDArray[np.int64]:
        """Drawings of the exemplars and, last, of the query; where a class has several, no exemplar shows the query's."""
        if self.n_drawings == 1:
            return np.zeros((len(keys), self.config.n_pairs + 1), np.int64)
        sizes, place = DRAWINGS[self.config.source], min(SPLITS.index(split), 2)
        asks = draw_integers(keys, "query drawing", 1, sizes[place])
        others = asks + 1 + draw_integers(keys, "drawing", self.config.n_pairs, sizes[place] - 1)
        return sum(sizes[:place]) + np.concatenate([others % sizes[place], asks], 1)

    def laid_out(
        self, exemplar: NDArray[np.int64], label: NDArray[np.int64], query: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """A number for each cell (image cell); -1 is blank."""
        cells = np.full((len(query), math.prod(self.grid)), -1)
        cells[:, self.first : -1 : 2], cells[:, self.first + 1 : -1 : 2], cells[:, -1] = (
            exemplar,
            label,
            query,
        )
        return cells

    def render(self, factors: Factors) -> Tensor:
        exemplar = factors["class"] * self.n_drawings + factors["drawing"][:, :-1]
        query = factors["query"] * self.n_drawings + factors["drawing"][:, -1]
        cells = self.laid_out(exemplar, factors["label"] + self.n_known * self.n_drawings, query)
        return render_cells(
            self.shown, cells.reshape(-1, *self.grid), self.config.noise, factors["noise_key"]
        )

    def content(self, factors: Factors) -> Tensor:
        """The class, whatever the drawing; labels come after the classes."""
        return torch.from_numpy(
            self.laid_out(factors["class"], factors["label"] + self.n_known, factors["query"])
        )

    def label_cells(self) -> Tensor:
        """Patch numbers of the cells that show labels, in slot order."""
        return torch.arange(self.first + 1, math.prod(self.grid) - 1, 2)


def build_fewshot(config: FewshotConfig) -> Task:
    """Which label has the query's class: the last one beside it in the context, or, where there is none, its fixed label?"""
    world = FewshotWorld(config)

    def matches(factors: Factors) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Which slots show the query's class (image slot), and the last that does."""
        same = factors["class"] == factors["query"][:, None]
        return same, config.n_pairs - 1 - same[:, ::-1].argmax(1)

    def target(factors: Factors) -> NDArray[np.int64]:
        same, last = matches(factors)
        beside = np.take_along_axis(factors["label"], last[:, None], 1)[:, 0]
        return np.where(same.any(1), beside, factors["query"] % config.n_labels)

    def other(factors: Factors) -> Factors:
        """The query shows the class of the first slot whose answer is another."""
        asked = [
            world.change_factor(factors, "query", factors["class"][:, slot])
            for slot in range(config.n_pairs)
        ]
        new = np.stack([target(one) for one in asked], 1) != target(factors)[:, None]
        query = np.take_along_axis(factors["class"], new.argmax(1)[:, None], 1)[:, 0]
        return world.change_factor(factors, "query", np.where(new.any(1), query, factors["query"]))

    def retrieval(factors: Factors) -> Retrieval | None:
        """The last copy of the query's class is the match; None where a picture has none.

        `mass` and `strength` then count one of B copies: a head that shares its attention among them has mass 1 / B, and
        the other copies count against its strength. `prefix_matching` counts all copies.
        """
        same, last = matches(factors)
        if not same.any(1).all():
            return None
        n, cells = len(last), world.label_cells()
        asks = torch.full((n,), math.prod(world.grid) - 1)
        return Retrieval(
            query=asks, target=cells[torch.from_numpy(last)], candidates=cells.expand(n, -1)
        )

    def baselines(batch: Batch) -> dict[str, float]:
        assert batch.content is not None
        labels = batch.content[:, world.label_cells()] - world.n_known
        return score_class_baselines(batch.target) | score_bag_of_labels(
            labels, batch.target, config.n_labels
        )

    return Task(
        config=config,
        world=world,
        n_classes=config.n_labels,
        ask=ask_target(target),
        probe_factors=lambda factors: {"label": target(factors), "class": factors["query"]},
        baselines=baselines,
        retrieval=retrieval,
        class_images=lambda: torch.from_numpy(world.pictures[-config.n_labels :]),
        counterfactuals={"query": other},
    )


def score_bag_of_labels(labels: Tensor, target: Tensor, n_labels: int) -> dict[str, float]:
    """Accuracy and loss of the predictor that answers each label with its share of the context, a tie by lot.

    The loss is infinite, and left out, where an answer is not in its context.
    """
    counts = F.one_hot(labels, n_labels).sum(1).double()
    best = counts == counts.amax(1, keepdim=True)
    right = best.gather(1, target[:, None])[:, 0] / best.sum(1)
    share = counts.gather(1, target[:, None])[:, 0] / labels.shape[1]
    found = {"accuracy.bag_of_labels": right.mean().item()}
    return (
        found if (share == 0).any() else found | {"loss.bag_of_labels": -share.log().mean().item()}
    )
