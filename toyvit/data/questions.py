"""Questions that any world can be asked: name a factor, give it as a number, restore patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from toyvit.data import worlds
from toyvit.data.own_loading import load_own
from toyvit.data.own_notices import list_notices
from toyvit.data.own_pictures import OwnPictures
from toyvit.data.question_configs import (
    ClassifyConfig,
    LookConfig,
    ReconstructConfig,
    RegressConfig,
)
from toyvit.data.random import draw_subsets, make_sample_keys
from toyvit.data.shown_pictures import PhotographWorld, ShownWorld
from toyvit.data.task import (
    Ask,
    Task,
    ask_target,
    build_task,
    flip_answer,
    score_class_baselines,
    score_number_baselines,
    standardize_levels,
)
from toyvit.data.world import CollectedWorld, Factors, World
from toyvit.errors import BadInput, suggest_nearest

PHOTOGRAPH_SIZE = (64, 64)  # where nothing says what size they are shown in


def build_world(name: str) -> tuple[World, list[str]]:
    """A world with its default options, and its factors of which a picture has one value."""
    entry = worlds.find(name, "task.world")
    if isinstance(entry.default, ClassifyConfig):
        load = getattr(worlds.load_code(name), f"load_{name.replace('-', '_')}")
        collected: World = load()
        return collected, list(collected.factors)

    task = build_task(entry.default)
    sample = task.world.sample(0, "train", np.arange(1))
    probed = [factor for factor in task.probe_factors(sample) if factor in task.world.factors]
    return task.world, [factor for factor in probed if sample[factor].ndim == 1]


def _choose_factor(name: str, of: str, allowed: Sequence[str]) -> str:
    """The factor's name itself, else BadInput."""
    if not allowed:
        raise BadInput(
            f"{of} has no factor that probes read and of which a picture has one value: "
            "there is nothing to name"
        )
    if name not in allowed:
        raise BadInput(
            f"task.factor {name!r} is no factor of {of} of which a picture has one value: "
            f"allowed are {', '.join(allowed)}{suggest_nearest(name, allowed)}"
        )
    return name


def _load_classified(config: ClassifyConfig) -> tuple[World, list[str]]:
    """The world that is classified, the user's or one by name, and the factors that it can name."""
    own = load_own(config)
    if own is None:
        return build_world(config.data_set)
    own.check_factor(config.factor)
    return own, list(own.factors)


def build_classify(config: ClassifyConfig) -> Task:
    """Which value does the factor have?"""
    world, names = _load_classified(config)
    factor = _choose_factor(config.factor, config.own or config.data_set, names)

    def target(factors: Factors) -> NDArray[np.int64]:
        return factors[factor]

    def tell_notices() -> list[str]:
        return list_notices(world, factor) if isinstance(world, OwnPictures) else []

    return Task(
        config=config,
        world=world,
        n_classes=world.factors[factor],
        ask=ask_target(target),
        probe_factors=lambda factors: {name: factors[name] for name in names},
        baselines=lambda batch: score_class_baselines(batch.target),
        class_names=_name_classes(world, factor),
        counterfactuals=_list_changes(world, factor, target),
        list_notices=tell_notices,
    )


def build_look(config: LookConfig) -> Task:
    """Which of the model's classes is it, where that is known?"""
    world, names = _load_shown(config)
    numbers = world.match_classes(config)

    def target(factors: Factors) -> NDArray[np.int64]:
        if numbers is None:
            return np.full(len(next(iter(factors.values()))), -1)
        return numbers[factors[world.class_factor]]

    return Task(
        config=config,
        world=world,
        n_classes=config.n_answers,
        ask=ask_target(target),
        probe_factors=lambda factors: {name: factors[name] for name in names},
        baselines=lambda batch: score_class_baselines(batch.target) if batch.is_answered else {},
        class_names=config.answers or None,
        list_notices=lambda: _describe_matches(world, config, numbers),
    )


def _load_shown(config: LookConfig) -> tuple[ShownWorld, list[str]]:
    """The pictures that are shown, by themselves photographs, and the factors that are probed."""
    if not (config.own or config.world):
        photographs = PhotographWorld(config.size or PHOTOGRAPH_SIZE)
        return ShownWorld(photographs, config), photographs.probed
    world, names = _load_classified(config.shown)
    if config.is_whole and isinstance(world, OwnPictures):
        world = world.take_whole()
    return ShownWorld(world, config), names


def _describe_matches(
    world: ShownWorld, config: LookConfig, numbers: NDArray[np.int64] | None
) -> list[str]:
    """How much is known of the classes of the pictures, as the model calls them."""
    if numbers is None:
        return [f"{world.name}: none of the model's {config.n_answers} classes is known of them"]
    n = int((numbers >= 0).sum())
    how = "by name" if config.answers and world.class_names else "by number"
    return [f"{world.name}: {n} of {len(numbers)} classes are the model's, {how}"]


def _name_classes(world: World, factor: str) -> tuple[str, ...] | None:
    if isinstance(world, OwnPictures) and factor == "class":
        return world.class_names or None
    return None


def _list_changes(
    world: World, factor: str, target: Callable[[Factors], NDArray[np.int64]]
) -> dict[str, Callable[[Factors], Factors]]:
    """How a picture comes to have another value: drawn again, or the counterpart that it has."""
    if isinstance(world, OwnPictures):
        has_others = world.others is not None and factor == "class"
        return {"own": world.swap_pictures} if has_others else {}
    if isinstance(world, CollectedWorld):
        return {}
    return {factor: flip_answer(world, factor, target)}


def build_regress(config: RegressConfig) -> Task:
    """What is the factor's value, as a number?"""
    world, names = build_world(config.world)
    factor = _choose_factor(config.factor, config.world, names)
    n_values = world.factors[factor]

    def ask(factors: Factors, images: Tensor) -> tuple[Tensor, Tensor]:
        numbers = standardize_levels(factors[factor], n_values).astype(np.float32)
        return images, torch.from_numpy(numbers)[:, None]

    return Task(
        config=config,
        world=world,
        n_classes=1,
        ask=ask,
        probe_factors=lambda factors: {name: factors[name] for name in names},
        baselines=lambda batch: score_number_baselines(batch.target),
    )


class MaskedWorld(World):
    """Another world's pictures, and with each of them the patches that are hidden.

    They are the factor `hidden`: patch numbers.
    """

    patch_size: int

    def __init__(self, shown: World, config: ReconstructConfig) -> None:
        self.shown = shown
        self.name = shown.name
        self.image_size = shown.image_size
        self.n_channels = shown.n_channels
        self.sizes = shown.sizes

        self.patch_size = size = shown.patch_size or config.patch_size
        height, width = self.image_size
        if height % size or width % size:
            raise BadInput(
                f"task.patch_size cannot be {size}: patches of {size} x {size} do not tile "
                f"a picture of {height} x {width}"
            )
        self.n_patches = height // size * (width // size)
        self.n_hidden = round(config.hidden * self.n_patches)
        if not 1 <= self.n_hidden < self.n_patches:
            raise BadInput(
                f"task.hidden {config.hidden} of {self.n_patches} patches hides {self.n_hidden}: "
                f"allowed are 1 to {self.n_patches - 1}"
            )
        self.factors = {**shown.factors, "hidden": self.n_patches}

    def sample(self, seed: int, split: str, indices: NDArray[np.int64]) -> Factors:
        is_endless = split == "train" or self.sizes[self.check_split(split)] is None
        keys = make_sample_keys(seed if is_endless else 0, f"hidden {split}", indices)
        return {
            **self.shown.sample(seed, split, indices),
            "hidden": draw_subsets(keys, "hidden", self.n_hidden, self.n_patches),
        }

    def render(self, factors: Factors) -> Tensor:
        return self.shown.render(factors)

    def change_factor(self, factors: Factors, name: str, values: NDArray[np.int64]) -> Factors:
        if name == "hidden":
            return super().change_factor(factors, name, values)
        return self.shown.change_factor(factors, name, values)


def build_reconstruct(config: ReconstructConfig) -> Task:
    """What did the hidden patches show?

    They are grey (0); the target is their pixels, and NaN in the patches that are not hidden.
    """
    shown, names = build_world(config.world)
    world = MaskedWorld(shown, config)

    return Task(
        config=config,
        world=world,
        n_classes=world.n_channels * world.patch_size**2,
        ask=_hide_patches(world.image_size, world.patch_size),
        probe_factors=lambda factors: {name: factors[name] for name in names},
        baselines=lambda batch: score_number_baselines(batch.target),
        output_kind="pixels",
    )


def _hide_patches(image_size: tuple[int, int], size: int) -> Ask:
    """Pictures with their hidden patches grey, and the pixels of these (image patch pixel)."""
    whole = "image channel (row height) (column width)"
    cut = "image (row column) (channel height width)"
    lengths = {"row": image_size[0] // size, "height": size, "width": size}

    def ask(factors: Factors, images: Tensor) -> tuple[Tensor, Tensor]:
        patches = rearrange(images, f"{whole} -> {cut}", **lengths)
        hidden = torch.zeros(patches.shape[:2], dtype=torch.bool)
        hidden = hidden.scatter_(1, torch.from_numpy(factors["hidden"]), True)[..., None]
        seen_patches = patches.masked_fill(hidden, 0)
        images = rearrange(seen_patches, f"{cut} -> {whole}", **lengths)
        return images, patches.masked_fill(~hidden, torch.nan)

    return ask
