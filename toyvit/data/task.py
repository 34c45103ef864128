"""The contract of a task: a question about a world's factors, its naive answers, and what is known of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from toyvit.config import TaskConfig
from toyvit.data.world import Factors, World

MOST_GROUPS = 16

# (factors, rendered pictures) -> (pictures that the model sees, what it should answer)
Ask = Callable[[Factors, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Retrieval:
    """Where an item-label picture keeps its parts, as patch numbers."""

    query: Int[Tensor, " image"]  # the cell that asks
    target: Int[Tensor, " image"]  # the label that answers
    candidates: Int[Tensor, "image slot"]  # all labels


@dataclass(frozen=True)
class Counterfactual:
    """The pictures of a batch drawn again with something changed so that the answer, one class a picture, is another."""

    images: Float[Tensor, "image channel height width"]
    target: Int[Tensor, " image"]


@dataclass(frozen=True)
class OperandTable:
    """Every pair of operands of a sum modulo p, pair a p + b, whatever the batch: what measures of all pairs look at."""

    images: Float[Tensor, "pair channel height width"]
    target: Int[Tensor, " pair"]
    trained: Bool[Tensor, " pair"]  # whether training has it


@dataclass(frozen=True)
class Batch:
    """Pictures and what is known about them.

    A target is a class for each picture, a class for each patch (-1: not asked), or numbers (NaN: not asked). `factors` are
    the scalar factors that probes read; `strategies` are what predictors that know the world would answer, as probabilities.
    """

    images: Float[Tensor, "image channel height width"]
    target: Tensor
    factors: dict[str, Tensor] = field(default_factory=dict)
    content: Int[Tensor, "image patch"] | None = None
    objects: Int[Tensor, "image patch"] | None = None  # which object each patch shows, 0 for none
    retrieval: Retrieval | None = None
    strategies: dict[str, Float[Tensor, "image *patch label"]] | None = None
    counterfactuals: dict[str, Counterfactual] | None = None  # by what is changed
    operand_table: OperandTable | None = None

    @property
    def classes(self) -> Int[Tensor, " image"] | None:
        """The target where it is one class a picture."""
        return (
            self.target if self.target.ndim == 1 and not self.target.is_floating_point() else None
        )

    @property
    def changeable(self) -> list[str]:
        """The counterfactuals in which some answer is another."""
        return [
            name
            for name, other in (self.counterfactuals or {}).items()
            if (other.target != self.target).any()
        ]

    @property
    def groups(self) -> dict[str, Int[Tensor, " image"]] | None:
        """The factors with few values, 0 to 15: they put pictures into groups."""
        return {
            name: values for name, values in self.factors.items() if values.max() < MOST_GROUPS
        } or None


@dataclass(frozen=True, kw_only=True)
class Task:
    """A world, a question, and its naive answers; see `TASKS`."""

    config: TaskConfig
    world: World
    n_classes: int  # classes, or numbers, in one answer
    ask: Ask
    probe_factors: Callable[[Factors], dict[str, NDArray[np.int64]]]
    baselines: Callable[
        [Batch], dict[str, float]
    ]  # `accuracy.NAME` and `loss.NAME` of predictors that know less
    output_kind: str = "image"  # one answer an image, or a patch, or its `pixels`
    retrieval: Callable[[Factors], Retrieval | None] | None = None
    strategies: Callable[[Factors], dict[str, Tensor]] | None = None
    class_names: tuple[str, ...] | None = None  # of the classes; their numbers where there are none
    class_images: Callable[[], Tensor] | None = (
        None  # pictures of the classes (label height width), where they have some
    )
    # What can be changed, by name, so that the answer is another wherever it can be: counterfactuals.
    counterfactuals: Mapping[str, Callable[[Factors], Factors]] = field(default_factory=dict)
    operand_table: Callable[[], OperandTable] | None = None

    def draw_batch(self, seed: int, split: str, indices: NDArray[np.int64] | range) -> Batch:
        """Pictures with all that is known about them."""
        return self.batch_from_factors(
            self.world.sample(seed, split, np.asarray(indices, np.int64))
        )

    def batch_from_factors(self, factors: Factors) -> Batch:
        """The batch that these factors make."""
        images, target = self.render_with_targets(factors)
        return Batch(
            images=images,
            target=target,
            factors={
                name: torch.from_numpy(values)
                for name, values in self.probe_factors(factors).items()
            },
            content=self.world.content(factors),
            objects=self.world.objects(factors),
            retrieval=self.retrieval(factors) if self.retrieval else None,
            strategies=self.strategies(factors) if self.strategies else None,
            counterfactuals={
                name: Counterfactual(*self.render_with_targets(other(factors)))
                for name, other in self.counterfactuals.items()
            }
            or None,
            operand_table=self.operand_table() if self.operand_table else None,
        )

    def render_with_targets(self, factors: Factors) -> tuple[Tensor, Tensor]:
        """Pictures and targets."""
        return self.ask(factors, self.world.render(factors))

    def training_batch(
        self, seed: int, split: str, indices: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor]:
        """Pictures and targets only: what a training step needs."""
        return self.render_with_targets(self.world.sample(seed, split, indices))

    def eval_batch(self, split: str, n: int, seed: int) -> Batch:
        """The first n samples of a split, or all where there are fewer."""
        size = self.world.sizes[self.world.check_split(split)]
        return self.draw_batch(seed, split, range(n if size is None else min(n, size)))


def ask_target(target: Callable[[Factors], NDArray[np.int64]]) -> Ask:
    """The question whose answer is a function of the factors."""
    return lambda factors, images: (images, torch.from_numpy(target(factors)))


def flip_answer(
    world: World, factor: str, target: Callable[[Factors], NDArray[np.int64]]
) -> Callable[[Factors], Factors]:
    """The first other value of a factor, counting up from its own and round, with another answer; its own where none has."""

    def other(factors: Factors) -> Factors:
        own, answer, n = factors[factor], target(factors), world.factors[factor]
        found = own.copy()
        for step in range(1, n):
            value = (own + step) % n
            better = (found == own) & (
                target(world.change_factor(factors, factor, value)) != answer
            )
            found = np.where(better, value, found)
        return world.change_factor(factors, factor, found)

    return other


def standardize_levels(values: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """Whole numbers 0 to n - 1, all equally likely, scaled to mean 0 and variance 1."""
    return (values - (n - 1) / 2) / np.sqrt((n * n - 1) / 12)


def loss(logits: Float[Tensor, "image *patch label"], target: Tensor) -> Float[Tensor, ""]:
    """Classes: cross-entropy in nats, mean over what is asked; ln(classes) at chance. Numbers: mean squared error."""
    if target.is_floating_point():
        asked = (
            ~target.isnan()
        )  # chosen by `where`, not by an index, so that the loss can be mapped over weights
        return torch.where(asked, logits - target, 0).square().sum() / asked.sum()
    return F.cross_entropy(logits.flatten(0, -2), target.flatten(), ignore_index=-1)


def accuracy(logits: Float[Tensor, "image *patch label"], target: Tensor) -> Float[Tensor, ""]:
    """Classes: share of what is asked whose largest logit is the target's, 0 to 1. Numbers: R^2, at most 1."""
    if target.is_floating_point():
        asked = ~target.isnan()
        return 1 - (logits - target)[asked].square().mean() / target[asked].var(correction=0)
    asked = target >= 0
    return (logits.argmax(-1) == target)[asked].float().mean()


def score_class_baselines(target: Tensor) -> dict[str, float]:
    """The most frequent class, and the distribution of classes, as answers to every question."""
    share = torch.bincount(target[target >= 0]).double() / (target >= 0).sum()
    return {
        "accuracy.majority": share.max().item(),
        "loss.label_prior": -torch.xlogy(share, share).sum().item(),
    }


def score_number_baselines(target: Tensor) -> dict[str, float]:
    """The mean of each number over the pictures, as the answer to every question: its mean squared error and its R^2."""
    means = target.double().nanmean(0).expand(target.shape)
    return {
        "accuracy.mean": accuracy(means, target.double()).item(),
        "loss.mean": loss(means, target.double()).item(),
    }
