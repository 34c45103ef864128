"""Relations: glyphs in some cells of a blank grid, and a question about which are alike.

It is not about what they are.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toyvit.data.random import (
    draw_integers,
    draw_subsets,
    draw_uniforms,
    make_noise_keys,
    make_sample_keys,
)
from toyvit.data.task import Batch, Task, ask_target, flip_answer, score_class_baselines
from toyvit.data.world import Factors, World
from toyvit.data.worlds.glyphs.world import CELL, N_UNSEEN, add_blank, draw_glyph_bank, render_cells
from toyvit.data.worlds.relations.config import RelationsConfig
from toyvit.errors import BadInput


class RelationsWorld(World):
    """Objects, each a glyph, in random cells of a grid whose other cells are blank.

    `same`: two objects, alike or not. `match` (after the relational match-to-sample of Lepori
    2024): a sample pair in the upper half and a candidate pair in each lower quarter, of six
    shapes; one candidate is as the sample is, alike or not, the other is not. `odd`: objects of one
    shape and one of another.

    Factors: `relation` (1: the first pair is alike), `left` (the same of the left candidate; the
    right one is the other way), `odd` (which object), `shape` and `cell` (no number twice in a
    picture), `noise_key` (the key of the pixel noise). The split `unseen` takes its shapes from
    glyphs that no other split shows.
    """

    name = "relations"
    patch_size = CELL

    def __init__(self, config: RelationsConfig) -> None:
        self.config = config
        self.grid = (config.rows, config.columns)
        self.n_cells = config.rows * config.columns
        self.image_size = (config.rows * CELL, config.columns * CELL)
        self.sizes = dict.fromkeys(("train", "validation", "test", "unseen"))

        # The factors that decide the answer, and how many values they take.
        self.deciding = {
            "same": {"relation": 2},
            "match": {"relation": 2, "left": 2},
            "odd": {"odd": config.n_objects},
        }[config.ask]
        self.n_shapes = 6 if config.ask == "match" else 2  # in a picture
        self.n_each = config.n_objects if config.ask == "odd" else 2  # objects in a region
        self.regions = self._list_regions()
        self.factors = self.deciding | {
            "shape": config.n_shapes + N_UNSEEN,
            "cell": self.n_cells,
            "noise_key": 2**63 - 1,
        }
        self.glyphs = add_blank(draw_glyph_bank(config.n_shapes + N_UNSEEN))

    def _list_regions(self) -> list[NDArray[np.int64]]:
        """Cell numbers of each region that objects lie in: of `match`, one for each pair."""
        cells = np.arange(self.n_cells).reshape(self.grid)
        if self.config.ask != "match":
            return [cells]
        upper, lower = np.split(cells, [self.config.rows // 2])
        return [upper, *np.split(lower, [self.config.columns // 2], 1)]

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        keys = make_sample_keys(seed, self.check_split(split), indices)
        deciding = {
            name: draw_integers(keys, name, 1, n_values)[:, 0]
            for name, n_values in self.deciding.items()
        }
        if "relation" in deciding:
            is_alike = draw_uniforms(keys, "relation", 1)[:, 0] < self.config.alike
            deciding["relation"] = is_alike.astype(np.int64)

        cells = []
        for number, region in enumerate(self.regions):
            places = draw_subsets(keys, f"cell {number}", self.n_each, region.size)
            cells.append(region.ravel()[places])
        if split == "unseen":
            shape = self.config.n_shapes + draw_subsets(keys, "shape", self.n_shapes, N_UNSEEN)
        else:
            shape = draw_subsets(keys, "shape", self.n_shapes, self.config.n_shapes)
        return deciding | {
            "shape": shape,
            "cell": np.concatenate(cells, 1),
            "noise_key": make_noise_keys(keys),
        }

    def shown(self, factors: Factors) -> NDArray[np.int64]:
        """Glyph number of each object (image object)."""
        if self.config.ask == "odd":
            slots = (np.arange(self.n_each) == factors["odd"][:, None]).astype(np.int64)
            return np.take_along_axis(factors["shape"], slots, 1)

        alike = [factors["relation"]]
        if self.config.ask == "match":
            alike += [factors["left"], 1 - factors["left"]]
        numbers = []
        for pair, is_alike in enumerate(alike):
            first = np.full_like(is_alike, 2 * pair)
            numbers += [first, first + 1 - is_alike]
        return np.take_along_axis(factors["shape"], np.stack(numbers, 1), 1)

    def cells(self, factors: Factors) -> NDArray[np.int64]:
        """Glyph number shown in each cell (image cell); -1 is blank."""
        cells = np.full((len(factors["cell"]), self.n_cells), -1)
        np.put_along_axis(cells, factors["cell"], self.shown(factors), 1)
        return cells

    def render(self, factors: Factors) -> Tensor:
        cells = self.cells(factors).reshape(-1, *self.grid)
        return render_cells(self.glyphs, cells, self.config.noise, factors["noise_key"])

    def content(self, factors: Factors) -> Tensor:
        return torch.from_numpy(self.cells(factors))

    def objects(self, factors: Factors) -> Tensor:
        """Objects by their number in `cell`, from 1."""
        n, n_objects = factors["cell"].shape
        objects = np.zeros((n, self.n_cells), np.int64)
        np.put_along_axis(objects, factors["cell"], 1 + np.arange(n_objects)[None], 1)
        return torch.from_numpy(objects)

    def change_factor(self, factors: Factors, name: str, values: NDArray[np.int64]) -> Factors:
        changed = super().change_factor(factors, name, values)
        if name in ("shape", "cell") and (np.diff(np.sort(changed[name], 1), axis=1) == 0).any():
            raise BadInput(
                f"no {name} comes twice in a picture of {self.name}: "
                "the answer would not be what is shown"
            )

        places = changed["cell"].reshape(-1, len(self.regions), self.n_each)
        for number, region in enumerate(self.regions):
            if not np.isin(places[:, number], region).all():
                raise BadInput(
                    "a pair of 'match' stays in its part of the picture: "
                    "the upper half, the lower left, the lower right"
                )
        return changed

    def answers(self, factors: Factors) -> NDArray[np.int64]:
        """Different or same; left or right; the cell of the odd one (image)."""
        if self.config.ask == "same":
            return factors["relation"]
        if self.config.ask == "match":
            return factors["relation"] ^ factors["left"]
        return np.take_along_axis(factors["cell"], factors["odd"][:, None], 1)[:, 0]

    def probe_factors(self, factors: Factors) -> Factors:
        probed = {name: factors[name] for name in self.deciding if name != "odd"}
        return probed | {"answer": self.answers(factors), "shape": factors["shape"][:, 0]}


def build_relations(config: RelationsConfig) -> Task:
    """Different or same (0, 1); which candidate, left or right (0, 1); the cell of the odd one."""
    world = RelationsWorld(config)
    return Task(
        config=config,
        world=world,
        n_classes=world.n_cells if config.ask == "odd" else 2,
        class_names={"same": ("different", "same"), "match": ("left", "right")}.get(config.ask),
        ask=ask_target(world.answers),
        probe_factors=world.probe_factors,
        baselines=partial(_score_baselines, config),
        counterfactuals={name: flip_answer(world, name, world.answers) for name in world.deciding},
    )


def _score_baselines(config: RelationsConfig, batch: Batch) -> dict[str, float]:
    scores = score_class_baselines(batch.target)
    if config.ask == "odd":  # one object is as good as another
        scores["accuracy.any_object"] = 1 / config.n_objects
        scores["loss.any_object"] = math.log(config.n_objects)
    if config.ask == "match":
        scores |= score_candidates_alone(batch, config.alike)
    return scores


def score_candidates_alone(batch: Batch, alike: float) -> dict[str, float]:
    """Accuracy and loss of the predictor that sees which candidate is alike, but not the sample.

    At even odds it says left.
    """
    is_left_alike = batch.factors["left"] == 1
    answers_left = batch.target == 0
    # The chance that the sample is as the left candidate.
    p_left = torch.where(is_left_alike, alike, 1 - alike).double()
    p_answer = torch.where(answers_left, p_left, 1 - p_left)

    right = ((p_left >= 0.5) == answers_left).double().mean()
    return {
        "accuracy.candidates_alone": right.item(),
        "loss.candidates_alone": -p_answer.log().mean().item(),
    }
