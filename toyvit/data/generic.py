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
from toyvit.data.addition import addition
from toyvit.data.clevr import sort_of_clevr
from toyvit.data.collected import collected, naming, own
from toyvit.data.counting import counting
from toyvit.data.draws import sample_keys, subsets
from toyvit.data.fewshot import fewshot
from toyvit.data.glyphs import induction
from toyvit.data.markov import markov
from toyvit.data.objects import objects
from toyvit.data.pointers import pointers
from toyvit.data.relations import relations
from toyvit.data.repeats import repeats
from toyvit.data.sprites import dsprites
from toyvit.data.task import Task, number_baselines, standardised
from toyvit.data.world import Factors, World
from toyvit.errors import BadInput, choose, nearest


def _classes(name: str) -> Task:
    return naming(ClassifyConfig(world=name), collected(name), ["class"])


# Every data set by its name: its world and what it is asked by default, and one line about it.
WORLDS: dict[str, tuple[Callable[[], Task], str]] = {
    "digits": (partial(_classes, "digits"), "scikit-learn's 1,797 handwritten digits, 8 x 8; nothing to download"),
    "mnist": (partial(_classes, "mnist"), "70,000 handwritten digits, 28 x 28"),
    "dsprites": (lambda: dsprites(DspritesConfig()), "64 x 64 sprites with five factors, and pairs of them"),
    "glyphs": (lambda: induction(InductionConfig()), "item-label pairs and a query on a grid of glyphs"),
    "markov": (lambda: markov(MarkovConfig()), "textures drawn from a Markov chain that is fresh for each picture"),
    "repeats": (lambda: repeats(RepeatsConfig()), "a sequence of glyphs over and over, with a varying period"),
    "addition": (lambda: addition(AdditionConfig()), "two operands, as glyphs or as the hands of a clock"),
    "fewshot": (lambda: fewshot(FewshotConfig()), "exemplar-label pairs and a query: answered from the context or the weights"),
    "omniglot": (
        lambda: fewshot(FewshotConfig(source="omniglot", n_pairs=4)),
        "the same with handwritten characters: --task.source omniglot",
    ),
    "relations": (
        lambda: relations(RelationsConfig()),
        "glyphs in some cells: the same? the odd one out? alike as the sample is?",
    ),
    "pointers": (lambda: pointers(PointersConfig()), "one cell says which cell holds the answer; one hop or two"),
    "sort-of-clevr": (lambda: sort_of_clevr(SortOfClevrConfig()), "six coloured squares and circles, and a question about one"),
    "objects": (lambda: objects(ObjectsConfig()), "one to three shapes, glyphs or digits at any place, with their masks"),
    "counting": (lambda: counting(CountingConfig()), "discs on the left and on the right"),
}


def set_of(config: TaskConfig) -> str:
    """The data set whose pictures a task shows, by its name in `WORLDS`."""
    if isinstance(config, (ClassifyConfig, RegressConfig, ReconstructConfig)):
        return config.world or "digits"
    if isinstance(config, FewshotConfig) and config.source == "omniglot":
        return "omniglot"
    return "glyphs" if isinstance(config, InductionConfig) else config.name


def world_of(name: str) -> tuple[World, list[str]]:
    """A world with its default options, and its factors of which a picture has one value."""
    made = WORLDS[choose(name, WORLDS, "task.world")][0]()
    some = made.world.sample(0, "train", np.arange(1))
    return made.world, [factor for factor in made.scalars(some) if factor in made.world.factors and some[factor].ndim == 1]


def _choose_factor(name: str, of: str, known: list[str]) -> str:
    if not known:
        raise BadInput(f"{of} has no factor that probes read and of which a picture has one value: there is nothing to name")
    if name not in known:
        raise BadInput(
            f"task.factor {name!r} is no factor of {of} of which a picture has one value: allowed are "
            f"{', '.join(known)}{nearest(name, known)}"
        )
    return name


def classify(config: ClassifyConfig) -> Task:
    """Which value does the factor have?"""
    if config.npz and config.world:
        raise BadInput(f"task.world {config.world!r} and task.npz {config.npz!r} are both given: leave one out")
    if config.npz:
        world: World = own(config.npz)
        known = list(world.factors)
    else:
        world, known = world_of(config.world or "digits")
    _choose_factor(config.factor, config.npz or config.world or "digits", known)
    return naming(config, world, known)


def regress(config: RegressConfig) -> Task:
    """What is the factor's value, as a number?"""
    world, known = world_of(config.world)
    n_values = world.factors[_choose_factor(config.factor, config.world, known)]

    def question(factors: Factors, images: Tensor) -> tuple[Tensor, Tensor]:
        return images, torch.from_numpy(standardised(factors[config.factor], n_values).astype(np.float32))[:, None]

    return Task(
        config=config,
        world=world,
        n_classes=1,
        question=question,
        scalars=lambda factors: {name: factors[name] for name in known},
        baselines=lambda batch: number_baselines(batch.target),
    )


class Masked(World):
    """Another world's pictures, and with each of them the patches that are hidden: the factor `hidden`, patch numbers."""

    def __init__(self, shown: World, config: ReconstructConfig) -> None:
        self.shown, self.name = shown, shown.name  # type: ignore[misc]
        self.image_size, self.n_channels, self.sizes = shown.image_size, shown.n_channels, shown.sizes
        self.patch_size = size = shown.patch_size or config.patch_size
        rows, columns = (pixels // size for pixels in self.image_size)
        if (rows * size, columns * size) != tuple(self.image_size):
            sides = " x ".join(map(str, self.image_size))
            raise BadInput(f"task.patch_size cannot be {size}: patches of {size} x {size} do not tile a picture of {sides}")
        self.n_patches = rows * columns
        self.n_hidden = round(config.hidden * self.n_patches)
        if not 1 <= self.n_hidden < self.n_patches:
            allowed = f"allowed are 1 to {self.n_patches - 1}"
            raise BadInput(f"task.hidden {config.hidden} of {self.n_patches} patches hides {self.n_hidden}: {allowed}")
        self.factors = {**shown.factors, "hidden": self.n_patches}

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        endless = split == "train" or self.sizes[self.split(split)] is None
        keys = sample_keys(seed if endless else 0, f"hidden {split}", indices)
        return {**self.shown.sample(seed, split, indices), "hidden": subsets(keys, "hidden", self.n_hidden, self.n_patches)}

    def render(self, factors: Factors) -> Tensor:
        return self.shown.render(factors)

    def change(self, factors: Factors, name: str, values: NDArray[np.int64]) -> Factors:
        return super().change(factors, name, values) if name == "hidden" else self.shown.change(factors, name, values)


def reconstruct(config: ReconstructConfig) -> Task:
    """What did the hidden patches show? They are grey (0); the target is their pixels, and NaN in the patches that are seen."""
    shown, known = world_of(config.world)
    world = Masked(shown, config)
    size = world.patch_size
    assert size is not None
    shape = {"row": world.image_size[0] // size, "height": size, "width": size}

    def question(factors: Factors, images: Tensor) -> tuple[Tensor, Tensor]:
        patches = rearrange(images, f"image channel {_CUT} -> image (row column) (channel height width)", **shape)
        hidden = torch.zeros(patches.shape[:2], dtype=torch.bool).scatter_(1, torch.from_numpy(factors["hidden"]), True)[
            ..., None
        ]
        seen = rearrange(
            patches.masked_fill(hidden, 0), f"image (row column) (channel height width) -> image channel {_CUT}", **shape
        )
        return seen, patches.masked_fill(~hidden, torch.nan)

    return Task(
        config=config,
        world=world,
        n_classes=world.n_channels * size * size,
        question=question,
        scalars=lambda factors: {name: factors[name] for name in known},
        baselines=lambda batch: number_baselines(batch.target),
        answers="pixels",
    )


_CUT = "(row height) (column width)"
