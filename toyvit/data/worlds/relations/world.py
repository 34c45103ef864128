"""Relations: glyphs in some cells of a blank grid, and a question about which are alike, not about what they are."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toyvit.data.random import draw_integers, draw_subsets, draw_uniforms, make_sample_keys
from toyvit.data.task import Batch, Task, ask_target, flip_answer, score_class_baselines
from toyvit.data.world import Factors, World
from toyvit.data.worlds.glyphs.world import CELL, N_UNSEEN, add_blank, draw_glyph_bank, render_cells
from toyvit.data.worlds.relations.config import RelationsConfig
from toyvit.errors import BadInput


class RelationsWorld(World):
    """Objects, each a glyph, in random cells of a grid whose other cells are blank.

    `same`: two objects, alike or not. `match` (after the relational match-to-sample of Lepori 2024): a sample pair in the
    upper half and a candidate pair in each lower quarter, of six shapes; one candidate is as the sample is, alike or not, the
    other is not. `odd`: objects of one shape and one of another. Factors: `relation` (1: the first pair is alike), `left` (the
    same of the left candidate; the right one is the other way), `odd` (which object), `shape` and `cell` (no number twice in a
    picture), `noise_key` (the key of the pixel noise). The split `unseen` takes its shapes from glyphs that no other split shows.
    """

    name = "relations"
    patch_size = CELL

    def __init__(self, config: RelationsConfig) -> None:
        self.config, self.grid = config, (config.rows, config.columns)
        self.image_size = (config.rows * CELL, config.columns * CELL)
        self.sizes = dict.fromkeys(("train", "validation", "test", "unseen"))
        self.asked = {
            "same": {"relation": 2},
            "match": {"relation": 2, "left": 2},
            "odd": {"odd": config.n_objects},
        }[config.ask]
        self.n_slots = 6 if config.ask == "match" else 2  # shapes
        cells = np.arange(config.rows * config.columns).reshape(self.grid)
        upper, lower = np.split(cells, [config.rows // 2])
        self.regions = (
            [cells]
            if config.ask != "match"
            else [upper, *np.split(lower, [config.columns // 2], 1)]
        )
        self.n_each = config.n_objects if config.ask == "odd" else 2  # objects in a region
        self.factors = self.asked | {
            "shape": config.n_shapes + N_UNSEEN,
            "cell": cells.size,
            "noise_key": 2**63 - 1,
        }
        self.glyphs = add_blank(draw_glyph_bank(config.n_shapes + N_UNSEEN))

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        keys = make_sample_keys(seed, self.check_split(split), indices)
        first, n_shapes = (
            (self.config.n_shapes, N_UNSEEN) if split == "unseen" else (0, self.config.n_shapes)
        )
        places = [
            draw_subsets(keys, f"cell {number}", self.n_each, region.size)
            for number, region in enumerate(self.regions)
        ]
        asked = {
            name: draw_integers(keys, name, 1, below)[:, 0] for name, below in self.asked.items()
        }
        if "relation" in asked:
            asked["relation"] = (
                draw_uniforms(keys, "relation", 1)[:, 0] < self.config.alike
            ).astype(np.int64)
        return asked | {
            "shape": first + draw_subsets(keys, "shape", self.n_slots, n_shapes),
            "cell": np.concatenate(
                [region.ravel()[place] for region, place in zip(self.regions, places, strict=True)],
                1,
            ),
            "noise_key": (keys >> np.uint64(1)).astype(np.int64),
        }

    def shown(self, factors: Factors) -> NDArray[np.int64]:
        """Glyph number of each object (image object)."""
        if self.config.ask == "odd":
            slots = (np.arange(self.n_each) == factors["odd"][:, None]).astype(np.int64)
        else:
            alike = [factors["relation"]] + (
                [factors["left"], 1 - factors["left"]] if self.config.ask == "match" else []
            )
            slots = np.stack(
                [
                    slot
                    for pair, one in enumerate(alike)
                    for slot in (np.full_like(one, 2 * pair), 2 * pair + 1 - one)
                ],
                1,
            )
        return np.take_along_axis(factors["shape"], slots, 1)

    def cells(self, factors: Factors) -> NDArray[np.int64]:
        """Glyph number shown in each cell (image cell); -1 is blank."""
        cells = np.full((len(factors["cell"]), self.grid[0] * self.grid[1]), -1)
        np.put_along_axis(cells, factors["cell"], self.shown(factors), 1)
        return cells

    def render(self, factors: Factors) -> Tensor:
        cells = self.cells(factors).reshape(-1, *self.grid)
        return render_cells(self.glyphs, cells, self.config.noise, factors["noise_key"])

    def content(self, factors: Factors) -> Tensor:
        return torch.from_numpy(self.cells(factors))

    def objects(self, factors: Factors) -> Tensor:
        """Objects by their number in `cell`, from 1."""
        shown = np.zeros((len(factors["cell"]), self.grid[0] * self.grid[1]), np.int64)
        np.put_along_axis(shown, factors["cell"], 1 + np.arange(factors["cell"].shape[1])[None], 1)
        return torch.from_numpy(shown)

    def change_factor(self, factors: Factors, name: str, values: NDArray[np.int64]) -> Factors:
        changed = super().change_factor(factors, name, values)
        if name in ("shape", "cell") and (np.diff(np.sort(changed[name], 1), axis=1) == 0).any():
            raise BadInput(
                f"no {name} comes twice in a picture of {self.name}: the answer would not be what is shown"
            )
        places = changed["cell"].reshape(len(changed["cell"]), len(self.regions), self.n_each)
        if not all(
            np.isin(places[:, number], region).all() for number, region in enumerate(self.regions)
        ):
            raise BadInput(
                "a pair of 'match' stays in its part of the picture: the upper half, the lower left, the lower right"
            )
        return changed


def build_relations(config: RelationsConfig) -> Task:
    """Different or same (0, 1); which candidate, left or right (0, 1); the cell of the odd one."""
    world = RelationsWorld(config)

    def target(factors: Factors) -> NDArray[np.int64]:
        if config.ask == "same":
            return factors["relation"]
        if config.ask == "match":
            return factors["relation"] ^ factors["left"]
        return np.take_along_axis(factors["cell"], factors["odd"][:, None], 1)[:, 0]

    def probe_factors(factors: Factors) -> dict[str, NDArray[np.int64]]:
        asked = {name: factors[name] for name in world.asked if name != "odd"}
        return asked | {"answer": target(factors)} | {"shape": factors["shape"][:, 0]}

    def baselines(batch: Batch) -> dict[str, float]:
        found = score_class_baselines(batch.target)
        if config.ask == "odd":  # one object is as good as another
            found |= {
                "accuracy.any_object": 1 / config.n_objects,
                "loss.any_object": math.log(config.n_objects),
            }
        return found | (
            score_candidates_alone(batch, config.alike) if config.ask == "match" else {}
        )

    return Task(
        config=config,
        world=world,
        n_classes=config.rows * config.columns if config.ask == "odd" else 2,
        class_names={"same": ("different", "same"), "match": ("left", "right")}.get(config.ask),
        ask=ask_target(target),
        probe_factors=probe_factors,
        baselines=baselines,
        counterfactuals={name: flip_answer(world, name, target) for name in world.asked},
    )


def score_candidates_alone(batch: Batch, alike: float) -> dict[str, float]:
    """Accuracy and loss of the predictor that sees which candidate is alike, but not the sample; at even odds it says left."""
    left, answer = batch.factors["left"] == 1, batch.target
    matches_left = torch.where(
        left, alike, 1 - alike
    ).double()  # chance that the sample is as the left candidate
    given = torch.where(answer == 0, matches_left, 1 - matches_left)
    right = ((matches_left >= 0.5) == (answer == 0)).double().mean()
    return {
        "accuracy.candidates_alone": right.item(),
        "loss.candidates_alone": -given.log().mean().item(),
    }
