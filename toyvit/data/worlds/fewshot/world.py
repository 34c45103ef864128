"""Few shots: exemplar-label pairs and a query (after Chan 2022).

The answer is in the context, in the weights, or in both.
"""

from __future__ import annotations

import math
from functools import lru_cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from toyvit.data.random import (
    Keys,
    draw_integers,
    draw_normals,
    draw_order,
    draw_subsets,
    draw_uniforms,
    make_noise_keys,
    make_sample_keys,
)
from toyvit.data.task import Batch, Retrieval, Task, ask_target, score_class_baselines
from toyvit.data.world import Factors, World
from toyvit.data.worlds.fewshot.config import FewshotConfig
from toyvit.data.worlds.glyphs.world import add_blank, draw_glyph_bank, render_cells
from toyvit.data.worlds.mnist.world import load_small_digits
from toyvit.data.worlds.omniglot import drawings

SPLITS = ("train", "validation", "test", "in_context", "in_weights")
MIXED_SPLITS = SPLITS[:3]  # where bursty pictures and others are mixed
SIDE = 8  # of the square of numbers that a vector is shown as
# How many drawings of a class each split shows, one after the other; glyphs and vectors
# have one, the same in all.
DRAWINGS = {"mnist": (4900, 400, 800), "omniglot": (14, 3, 3)}


def load_exemplars(config: FewshotConfig) -> NDArray[np.float32]:
    """Pictures (class, drawing, line, column), -1 to 1.

    The classes that training shows, then those that it never shows.
    """
    if config.source == "glyphs":
        return draw_glyph_bank(config.n_classes + config.n_held)[:, None]
    if config.source == "vectors":
        return draw_vectors("fewshot classes", config.n_classes + config.n_held)[:, None]
    if config.source == "mnist":
        return _load_digits()
    parts = drawings.load_drawings()
    trained = parts["images_background"][: config.n_classes]
    return np.concatenate([trained, parts["images_evaluation"]])


def draw_vectors(name: str, n: int) -> NDArray[np.float32]:
    """The first n vectors of a bank, always the same: (n, 8, 8), normal, of length about 1."""
    keys = make_sample_keys(0, name, np.arange(n))
    return draw_normals(keys, "vector", SIDE * SIDE, 1 / SIDE).reshape(n, SIDE, SIDE)


@lru_cache
def _load_digits() -> NDArray[np.float32]:
    """MNIST by digit, -1 to 1: the first so many pictures of each split, one after another."""
    sums, first = load_small_digits()
    split = np.repeat(np.arange(3), DRAWINGS["mnist"])
    digit = np.arange(10)[:, None]
    place = np.concatenate([np.arange(n) for n in DRAWINGS["mnist"]])
    pictures = sums[first[10 * split + digit] + place]
    return pictures.astype(np.float32) / np.float32(510) - np.float32(1)


def draw_distinct(draws: NDArray[np.float64], weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """Classes (image place) by draws from 0 .. 1, in proportion to their weights, none twice a row.

    One after the other: every class holds as many tickets as its weight; a place draws one of those
    that the classes before it leave.
    """
    ends = weights.cumsum()
    starts = ends - weights
    classes = np.empty(draws.shape, np.int64)

    for place in range(draws.shape[1]):
        before = np.sort(classes[:, :place], 1)
        taken = weights[before]
        ticket = (draws[:, place] * (ends[-1] - taken.sum(1))).astype(np.int64)
        passed = ticket[:, None] >= starts[before] - taken.cumsum(1) + taken
        classes[:, place] = np.searchsorted(ends, ticket + (taken * passed).sum(1), "right")
    return classes


class FewshotWorld(World):
    """Cells in raster order: exemplar1 label1 ... exemplarN labelN query.

    First cells are blank where the count does not fit. A bursty picture shows ceil(N / B) classes,
    B copies of each (the last takes what is left), in random order; the query is one of those with
    B copies. In the other pictures N exemplars and the query are drawn independently. `in_context`
    lays classes that training never shows out as bursty pictures do, under fresh labels;
    `in_weights` lays trained ones out so under their fixed labels, and asks for one more that is
    not among them.

    Factors: `class` and `label` (N slots), `query` (a class), `drawing` (N slots and the query:
    which picture of the class), `noise_key` (the key of the pixel noise).
    """

    name = "fewshot"

    def __init__(self, config: FewshotConfig) -> None:
        self.config = config
        exemplars = load_exemplars(config)
        self.n_all_classes, self.n_drawings, side, _ = exemplars.shape
        labels = self._load_labels(side)
        self.shown = add_blank(np.concatenate([exemplars.reshape(-1, side, side), labels]))
        self.pictures = self.shown[:-1]

        n_shown = 2 * config.n_pairs + 1
        columns = math.ceil(math.sqrt(n_shown))
        self.grid = (-(-n_shown // columns), columns)
        self.n_cells = math.prod(self.grid)
        self.first = self.n_cells - n_shown  # blank cells
        self.patch_size = side
        self.image_size = (self.grid[0] * side, columns * side)
        self.sizes = dict.fromkeys(SPLITS if config.labels == "fixed" else SPLITS[:-1])
        self.factors = {
            "class": self.n_all_classes,
            "label": config.n_labels,
            "query": self.n_all_classes,
            "drawing": self.n_drawings,
            "noise_key": 2**63 - 1,
        }

        # Whole numbers, so that drawing without replacement is exact; equal where zipf is 0.
        shares = np.arange(1, config.n_classes + 1) ** -float(config.zipf)
        self.weights = np.maximum(1, np.rint(2**30 * shares / shares.sum())).astype(np.int64)
        self.held_weights = np.ones(config.n_held, np.int64)

    def _load_labels(self, side: int) -> NDArray[np.float32]:
        """Labels are glyphs too, but none that is an exemplar; vectors among vectors."""
        if self.config.source == "vectors":
            return draw_vectors("fewshot labels", self.config.n_labels)
        before = self.n_all_classes if self.config.source == "glyphs" else 0
        return draw_glyph_bank(before + self.config.n_labels, side)[before:]

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        config = self.config
        n = config.n_pairs
        keys = make_sample_keys(seed, self.check_split(split), indices)
        # The groups of copies, the query's first; in `in_weights` it is not in the context.
        groups = np.arange(n) // config.copies + (split == "in_weights")
        classes = self._draw_classes(keys, split, groups[-1] + 1)
        slots = groups[draw_order(keys, "order", n)]
        context = np.take_along_axis(classes, slots, 1)
        query = classes[:, 0]
        if split in MIXED_SPLITS and (config.p_bursty < 1 or not config.burstiness):
            context, query = self._mix(keys, context, query)

        label = context % config.n_labels
        if split == "in_context" or config.labels != "fixed":
            draw = draw_subsets if config.labels == "distinct" else draw_integers
            fresh = draw(keys, "label", groups[-1] + 1, config.n_labels)
            label = np.take_along_axis(fresh, slots, 1)
        return {
            "class": context,
            "label": label,
            "query": query,
            "drawing": self._draw_drawings(keys, split),
            "noise_key": make_noise_keys(keys),
        }

    def _draw_classes(self, keys: Keys, split: str, n: int) -> NDArray[np.int64]:
        """n different classes a picture (image group)."""
        draws = draw_uniforms(keys, "class", n)
        if split == "in_context":
            return draw_distinct(draws, self.held_weights) + self.config.n_classes
        return draw_distinct(draws, self.weights)

    def _mix(
        self, keys: Keys, context: NDArray[np.int64], query: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Classes of context and query, each drawn by itself in pictures that are not bursty."""
        n = self.config.n_pairs
        tickets = draw_uniforms(keys, "alone", n + 1) * self.weights.sum()
        alone = np.searchsorted(self.weights.cumsum(), tickets.astype(np.int64), "right")
        p_bursty = self.config.p_bursty * (self.config.burstiness > 0)
        bursty = draw_uniforms(keys, "bursty", 1) < p_bursty
        return (
            np.where(bursty, context, alone[:, :n]),
            np.where(bursty[:, 0], query, alone[:, n]),
        )

    def _draw_drawings(self, keys: Keys, split: str) -> NDArray[np.int64]:
        """Drawings of the exemplars and, last, of the query.

        Where a class has several, no exemplar shows the query's.
        """
        n = self.config.n_pairs
        if self.n_drawings == 1:
            return np.zeros((len(keys), n + 1), np.int64)
        sizes = DRAWINGS[self.config.source]
        place = min(SPLITS.index(split), 2)
        query = draw_integers(keys, "query drawing", 1, sizes[place])
        others = query + 1 + draw_integers(keys, "drawing", n, sizes[place] - 1)
        return sum(sizes[:place]) + np.concatenate([others % sizes[place], query], 1)

    def arrange_cells(
        self, exemplar: NDArray[np.int64], label: NDArray[np.int64], query: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """A number for each cell (image cell); -1 is blank."""
        cells = np.full((len(query), self.n_cells), -1)
        cells[:, self.first : -1 : 2] = exemplar
        cells[:, self.first + 1 : -1 : 2] = label
        cells[:, -1] = query
        return cells

    def render(self, factors: Factors) -> Tensor:
        exemplar = factors["class"] * self.n_drawings + factors["drawing"][:, :-1]
        label = factors["label"] + self.n_all_classes * self.n_drawings
        query = factors["query"] * self.n_drawings + factors["drawing"][:, -1]
        cells = self.arrange_cells(exemplar, label, query).reshape(-1, *self.grid)
        if self.config.source == "vectors":
            return self._render_vectors(cells, factors["noise_key"])
        return render_cells(self.shown, cells, self.config.noise, factors["noise_key"])

    def _render_vectors(self, cells: NDArray[np.int64], keys: NDArray[np.int64]) -> Tensor:
        """Exemplars and queries as (class + noise) / sqrt(1 + noise^2), labels as they are."""
        images = render_cells(self.shown, cells, 0, keys)
        if not self.config.noise:
            return images
        scale = self.config.noise / SIDE
        added = draw_normals(keys.astype(np.uint64), "pixels", images[0].numel(), scale)
        noisy = (images + torch.from_numpy(added).view_as(images)) / math.hypot(
            1, self.config.noise
        )

        shows_class = torch.from_numpy((cells >= 0) & (cells < self.n_all_classes))
        by_pixel = shows_class.repeat_interleave(SIDE, 1).repeat_interleave(SIDE, 2)
        return torch.where(by_pixel[:, None], noisy, images)

    def content(self, factors: Factors) -> Tensor:
        """The class, whatever the drawing; labels come after the classes."""
        label = factors["label"] + self.n_all_classes
        return torch.from_numpy(self.arrange_cells(factors["class"], label, factors["query"]))

    def label_cells(self) -> Tensor:
        """Patch numbers of the cells that show labels, in slot order."""
        return torch.arange(self.first + 1, self.n_cells - 1, 2)

    def match(self, factors: Factors) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Which slots show the query's class (image slot), and the last that does."""
        same = factors["class"] == factors["query"][:, None]
        return same, self.config.n_pairs - 1 - same[:, ::-1].argmax(1)

    def answers(self, factors: Factors) -> NDArray[np.int64]:
        """The label beside the last match; the fixed label of the class where nothing matches."""
        same, last = self.match(factors)
        beside = np.take_along_axis(factors["label"], last[:, None], 1)[:, 0]
        return np.where(same.any(1), beside, factors["query"] % self.config.n_labels)

    def change_query(self, factors: Factors) -> Factors:
        """The query shows the class of the first slot whose answer is another."""
        answers = []
        for slot in range(self.config.n_pairs):
            changed = self.change_factor(factors, "query", factors["class"][:, slot])
            answers.append(self.answers(changed))

        flipped = np.stack(answers, 1) != self.answers(factors)[:, None]
        query = np.take_along_axis(factors["class"], flipped.argmax(1)[:, None], 1)[:, 0]
        query = np.where(flipped.any(1), query, factors["query"])
        return self.change_factor(factors, "query", query)

    def retrieval(self, factors: Factors) -> Retrieval | None:
        """The last copy of the query's class is the match; None where a picture has none.

        `mass` and `strength` then count one of B copies: a head that shares its attention among
        them has mass 1 / B, and the other copies count against its strength. `prefix_matching`
        counts all copies.
        """
        same, last = self.match(factors)
        if not same.any(1).all():
            return None
        cells = self.label_cells()
        return Retrieval(
            query=torch.full((len(last),), self.n_cells - 1),
            target=cells[torch.from_numpy(last)],
            candidates=cells.expand(len(last), -1),
        )


def build_fewshot(config: FewshotConfig) -> Task:
    """Which label has the query's class?

    The last one beside it in the context, or, where there is none, its fixed label.
    """
    world = FewshotWorld(config)
    return Task(
        config=config,
        world=world,
        n_classes=config.n_labels,
        ask=ask_target(world.answers),
        probe_factors=lambda factors: {"label": world.answers(factors), "class": factors["query"]},
        baselines=partial(_score_baselines, world),
        retrieval=world.retrieval,
        class_images=lambda: torch.from_numpy(world.pictures[-config.n_labels :]),
        counterfactuals={"query": world.change_query},
    )


def _score_baselines(world: FewshotWorld, batch: Batch) -> dict[str, float]:
    assert batch.content is not None
    labels = batch.content[:, world.label_cells()] - world.n_all_classes
    bag = score_bag_of_labels(labels, batch.target, world.config.n_labels)
    return score_class_baselines(batch.target) | bag


def score_bag_of_labels(labels: Tensor, target: Tensor, n_labels: int) -> dict[str, float]:
    """Accuracy and loss of the predictor that answers each label with its share of the context.

    A tie is broken by lot. The loss is infinite, and left out, where an answer is not in its
    context.
    """
    counts = F.one_hot(labels, n_labels).sum(1).double()
    best = counts == counts.amax(1, keepdim=True)
    right = best.gather(1, target[:, None])[:, 0] / best.sum(1)
    share = counts.gather(1, target[:, None])[:, 0] / labels.shape[1]
    scores = {"accuracy.bag_of_labels": right.mean().item()}
    if not (share == 0).any():
        scores["loss.bag_of_labels"] = -share.log().mean().item()
    return scores
