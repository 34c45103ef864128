"""Questions that any world can be asked: name a factor, say it as a number, restore hidden patches."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from toyvit.config import (
    AdditionConfig,
    ClassifyConfig,
    CountingConfig,
    DspritesConfig,
    FewshotConfig,
    InductionConfig,
    MarkovConfig,
    ObjectsConfig,
    PointersConfig,
    ReconstructConfig,
    RegressConfig,
    RelationsConfig,
    RepeatsConfig,
    SortOfClevrConfig,
    TaskConfig,
)
from toyvit.data.collected import build_naming, load_collected, load_own
from toyvit.data.random import draw_subsets, make_sample_keys
from toyvit.data.task import Task, score_number_baselines, standardize_levels
from toyvit.data.world import Factors, World
from toyvit.data.worlds.addition.world import build_addition
from toyvit.data.worlds.counting.world import build_counting
from toyvit.data.worlds.dsprites.world import build_dsprites
from toyvit.data.worlds.fewshot.world import build_fewshot
from toyvit.data.worlds.glyphs.world import build_induction
from toyvit.data.worlds.markov.world import build_markov
from toyvit.data.worlds.objects.world import build_objects
from toyvit.data.worlds.pointers.world import build_pointers
from toyvit.data.worlds.relations.world import build_relations
from toyvit.data.worlds.repeats.world import build_repeats
from toyvit.data.worlds.sort_of_clevr.world import build_sort_of_clevr
from toyvit.errors import BadInput, choose, suggest_nearest


def _classes(name: str) -> Task:
    return build_naming(ClassifyConfig(world=name), load_collected(name), ["class"])


# Every data set by its name: its world and what it is asked by default, and one line about it.
WORLDS: dict[str, tuple[Callable[[], Task], str]] = {
    "digits": (
        partial(_classes, "digits"),
        "scikit-learn's 1,797 handwritten digits, 8 x 8; nothing to download",
    ),
    "mnist": (partial(_classes, "mnist"), "70,000 handwritten digits, 28 x 28"),
    "dsprites": (
        lambda: build_dsprites(DspritesConfig()),
        "64 x 64 sprites with five factors, and pairs of them",
    ),
    "glyphs": (
        lambda: build_induction(InductionConfig()),
        "item-label pairs and a query on a grid of glyphs",
    ),
    "markov": (
        lambda: build_markov(MarkovConfig()),
        "textures drawn from a Markov chain that is fresh for each picture",
    ),
    "repeats": (
        lambda: build_repeats(RepeatsConfig()),
        "a sequence of glyphs over and over, with a varying period",
    ),
    "addition": (
        lambda: build_addition(AdditionConfig()),
        "two operands, as glyphs or as the hands of a clock",
    ),
    "fewshot": (
        lambda: build_fewshot(FewshotConfig()),
        "exemplar-label pairs and a query: answered from the context or the weights",
    ),
    "omniglot": (
        lambda: build_fewshot(FewshotConfig(source="omniglot", n_pairs=4)),
        "the same with handwritten characters: --task.source omniglot",
    ),
    "relations": (
        lambda: build_relations(RelationsConfig()),
        "glyphs in some cells: the same? the odd one out? alike as the sample is?",
    ),
    "pointers": (
        lambda: build_pointers(PointersConfig()),
        "one cell says which cell holds the answer; one hop or two",
    ),
    "sort-of-clevr": (
        lambda: build_sort_of_clevr(SortOfClevrConfig()),
        "six coloured squares and circles, and a question about one",
    ),
    "objects": (
        lambda: build_objects(ObjectsConfig()),
        "one to three shapes, glyphs or digits at any place, with their masks",
    ),
    "counting": (lambda: build_counting(CountingConfig()), "discs on the left and on the right"),
}


def name_data_set(config: TaskConfig) -> str:
    """The data set whose pictures a task shows, by its name in `WORLDS`."""
    if isinstance(config, (ClassifyConfig, RegressConfig, ReconstructConfig)):
        return config.world or "digits"
    if isinstance(config, FewshotConfig) and config.source == "omniglot":
        return "omniglot"
    return "glyphs" if isinstance(config, InductionConfig) else config.name


def build_world(name: str) -> tuple[World, list[str]]:
    """A world with its default options, and its factors of which a picture has one value."""
    made = WORLDS[choose(name, WORLDS, "task.world")][0]()
    some = made.world.sample(0, "train", np.arange(1))
    return made.world, [
        factor
        for factor in made.probe_factors(some)
        if factor in made.world.factors and some[factor].ndim == 1
    ]


def _choose_factor(name: str, of: str, known: list[str]) -> str:
    if not known:
        raise BadInput(
            f"{of} has no factor that probes read and of which a picture has one value: there is nothing to name"
        )
    if name not in known:
        raise BadInput(
            f"task.factor {name!r} is no factor of {of} of which a picture has one value: allowed are "
            f"{', '.join(known)}{suggest_nearest(name, known)}"
        )
    return name


def build_classify(config: ClassifyConfig) -> Task:
    """Which value does the factor have?"""
    if config.npz and config.world:
        raise BadInput(
            f"task.world {config.world!r} and task.npz {config.npz!r} are both given: leave one out"
        )
    if config.npz:
        world: World = load_own(config.npz)
        known = list(world.factors)
    else:
        world, known = build_world(config.world or "digits")
    _choose_factor(config.factor, config.npz or config.world or "digits", known)
    return build_naming(config, world, known)


def build_regress(config: RegressConfig) -> Task:
    """What is the factor's value, as a number?"""
    world, known = build_world(config.world)
    n_values = world.factors[_choose_factor(config.factor, config.world, known)]

    def ask(factors: Factors, images: Tensor) -> tuple[Tensor, Tensor]:
        return images, torch.from_numpy(
            standardize_levels(factors[config.factor], n_values).astype(np.float32)
        )[:, None]

    return Task(
        config=config,
        world=world,
        n_classes=1,
        ask=ask,
        probe_factors=lambda factors: {name: factors[name] for name in known},
        baselines=lambda batch: score_number_baselines(batch.target),
    )


class Masked(World):
    """Another world's pictures, and with each of them the patches that are hidden: the factor `hidden`, patch numbers."""

    def __init__(self, shown: World, config: ReconstructConfig) -> None:
        self.shown, self.name = shown, shown.name  # type: ignore[misc]
        self.image_size, self.n_channels, self.sizes = (
            shown.image_size,
            shown.n_channels,
            shown.sizes,
        )
        self.patch_size = size = shown.patch_size or config.patch_size
        rows, columns = (pixels // size for pixels in self.image_size)
        if (rows * size, columns * size) != tuple(self.image_size):
            sides = " x ".join(map(str, self.image_size))
            raise BadInput(
                f"task.patch_size cannot be {size}: patches of {size} x {size} do not tile a picture of {sides}"
            )
        self.n_patches = rows * columns
        self.n_hidden = round(config.hidden * self.n_patches)
        if not 1 <= self.n_hidden < self.n_patches:
            allowed = f"allowed are 1 to {self.n_patches - 1}"
            raise BadInput(
                f"task.hidden {config.hidden} of {self.n_patches} patches hides {self.n_hidden}: {allowed}"
            )
        self.factors = {**shown.factors, "hidden": self.n_patches}

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        endless = split == "train" or self.sizes[self.check_split(split)] is None
        keys = make_sample_keys(seed if endless else 0, f"hidden {split}", indices)
        return {
            **self.shown.sample(seed, split, indices),
            "hidden": draw_subsets(keys, "hidden", self.n_hidden, self.n_patches),
        }

    def render(self, factors: Factors) -> Tensor:
        return self.shown.render(factors)

    def change_factor(self, factors: Factors, name: str, values: NDArray[np.int64]) -> Factors:
        return (
            super().change_factor(factors, name, values)
            if name == "hidden"
            else self.shown.change_factor(factors, name, values)
        )


def build_reconstruct(config: ReconstructConfig) -> Task:
    """What did the hidden patches show? They are grey (0); the target is their pixels, and NaN in the patches that are seen."""
    shown, known = build_world(config.world)
    world = Masked(shown, config)
    size = world.patch_size
    assert size is not None
    shape = {"row": world.image_size[0] // size, "height": size, "width": size}

    def ask(factors: Factors, images: Tensor) -> tuple[Tensor, Tensor]:
        patches = rearrange(
            images, f"image channel {_CUT} -> image (row column) (channel height width)", **shape
        )
        hidden = torch.zeros(patches.shape[:2], dtype=torch.bool).scatter_(
            1, torch.from_numpy(factors["hidden"]), True
        )[..., None]
        seen = rearrange(
            patches.masked_fill(hidden, 0),
            f"image (row column) (channel height width) -> image channel {_CUT}",
            **shape,
        )
        return seen, patches.masked_fill(~hidden, torch.nan)

    return Task(
        config=config,
        world=world,
        n_classes=world.n_channels * size * size,
        ask=ask,
        probe_factors=lambda factors: {name: factors[name] for name in known},
        baselines=lambda batch: score_number_baselines(batch.target),
        output_kind="pixels",
    )


_CUT = "(row height) (column width)"
