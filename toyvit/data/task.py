"""The contract of a task: a question about a world's factors, and what is known of a batch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from toyvit.config import ModelConfig, RunConfig, TaskConfig
from toyvit.config.curriculum import settle_curriculum
from toyvit.config.tasks import MissingTaskConfig
from toyvit.data import worlds
from toyvit.data.memo import Answer, Memo
from toyvit.data.world import Factors, World
from toyvit.errors import BadField, BadInput
from toyvit.model import options
from toyvit.surroundings import pin_torch

MOST_GROUPS = 16

# (factors, rendered pictures) -> (pictures that the model sees, what it should answer)
Ask = Callable[[Factors, Tensor], tuple[Tensor, Tensor]]
# What each read-out of a model gives an answer for, and what a task may ask for.
GIVES = dict.fromkeys(("cls", "mean", "pooled", "last"), "image")
GIVES |= {"every": "patch", "pixels": "pixels"}


@dataclass(frozen=True)
class Retrieval:
    """Where an item-label picture keeps its parts, as patch numbers."""

    query: Int[Tensor, " image"]  # the cell that asks
    target: Int[Tensor, " image"]  # the label that answers
    candidates: Int[Tensor, "image slot"]  # all labels


@dataclass(frozen=True)
class Counterfactual:
    """The pictures of a batch drawn again with something changed so that the answer is another.

    The answer is one class a picture.
    """

    images: Float[Tensor, "image channel height width"]
    target: Int[Tensor, " image"]


@dataclass(frozen=True)
class OperandTable:
    """Every pair of operands of a sum modulo p, pair a p + b, whatever the batch.

    It is what measures of all pairs look at.
    """

    images: Float[Tensor, "pair channel height width"]
    target: Int[Tensor, " pair"]
    trained: Bool[Tensor, " pair"]  # whether training has it


@dataclass(frozen=True)
class Batch:
    """Pictures and what is known about them.

    A target is a class for each picture (-1: not known), a class for each patch (-1: not asked), or
    numbers (NaN: not asked). `factors` are the scalar factors that probes read; `strategies` are
    what predictors that know the world would answer, as probabilities.
    """

    images: Float[Tensor, "image channel height width"]
    target: Tensor
    factors: dict[str, Tensor] = field(default_factory=dict)
    content: Int[Tensor, "image patch"] | None = None
    objects: Int[Tensor, "image patch"] | None = None  # which object each patch shows, 0 for none
    retrieval: Retrieval | None = None
    strategies: dict[str, Float[Tensor, "image *patch label"]] | None = None
    # What an observer of the patches so far would believe of the state of a hidden process.
    beliefs: Float[Tensor, "image patch state"] | None = None
    counterfactuals: dict[str, Counterfactual] | None = None  # by what is changed
    operand_table: OperandTable | None = None
    _memo: Memo = field(default_factory=Memo, init=False, repr=False, compare=False)

    def compute_once(self, compute: Callable[..., Answer], *options: Hashable) -> Answer:
        """`compute(batch, *options)`, the same answer again when it is asked for again.

        For what depends on the pictures and not on the model's weights: what is known of a batch is
        not to be changed in place.

        >>> batch = Batch(torch.ones(2, 1, 4, 4), target=torch.zeros(2))
        >>> batch.compute_once(lambda batch: batch.images.mean())
        tensor(1.)
        """
        return self._memo.answer(compute, self, *options, options=options)

    @property
    def classes(self) -> Int[Tensor, " image"] | None:
        """The target where it is one class a picture, known of all."""
        is_class = self.target.ndim == 1 and not self.target.is_floating_point()
        return self.target if is_class and (self.target >= 0).all() else None

    @property
    def is_answered(self) -> bool:
        """Whether the answer to any of its questions is known."""
        is_number = self.target.is_floating_point()
        return bool((~self.target.isnan() if is_number else self.target >= 0).any())

    @property
    def changeable(self) -> list[str]:
        """The counterfactuals in which some answer is another."""
        others = self.counterfactuals or {}
        return [name for name, other in others.items() if (other.target != self.target).any()]

    @property
    def groups(self) -> dict[str, Int[Tensor, " image"]] | None:
        """The factors with few values, 0 to 15: they put pictures into groups."""
        few = {name: values for name, values in self.factors.items() if values.max() < MOST_GROUPS}
        return few or None


@dataclass(frozen=True, kw_only=True)
class Task:
    """A world, a question about its pictures, and what baselines answer."""

    config: TaskConfig
    world: World
    n_classes: int  # classes, or numbers, in one answer
    ask: Ask
    probe_factors: Callable[[Factors], dict[str, NDArray[np.int64]]]
    # `accuracy.NAME` and `loss.NAME` of predictors that know less.
    baselines: Callable[[Batch], dict[str, float]]
    output_kind: str = "image"  # one answer an `image`, or a `patch`, or its `pixels`
    retrieval: Callable[[Factors], Retrieval | None] | None = None
    strategies: Callable[[Factors], dict[str, Tensor]] | None = None
    beliefs: Callable[[Factors], Tensor] | None = None
    class_names: tuple[str, ...] | None = None  # of the classes; their numbers where there are none
    # Pictures of the classes (label height width), where they have some.
    class_images: Callable[[], Tensor] | None = None
    # What can be changed, by name, so that the answer is another wherever it can be.
    counterfactuals: Mapping[str, Callable[[Factors], Factors]] = field(default_factory=dict)
    operand_table: Callable[[], OperandTable] | None = None
    # What is odd about its data and does not keep it from being learned, a line each.
    list_notices: Callable[[], list[str]] = list

    @pin_torch()
    def draw_batch(self, seed: int, split: str, indices: ArrayLike) -> Batch:
        """Pictures with all that is known about them."""
        factors = self.world.sample(seed, split, np.asarray(indices, np.int64))
        return self.batch_from_factors(factors)

    def batch_from_factors(self, factors: Factors) -> Batch:
        """The batch that these factors make."""
        images, target = self.render_with_targets(factors)
        probed = self.probe_factors(factors)
        others = {
            name: Counterfactual(*self.render_with_targets(change(factors)))
            for name, change in self.counterfactuals.items()
        }

        return Batch(
            images=images,
            target=target,
            factors={name: torch.from_numpy(values) for name, values in probed.items()},
            content=self.world.content(factors),
            objects=self.world.objects(factors),
            retrieval=self.retrieval(factors) if self.retrieval else None,
            strategies=self.strategies(factors) if self.strategies else None,
            beliefs=self.beliefs(factors) if self.beliefs else None,
            counterfactuals=others or None,
            operand_table=self.operand_table() if self.operand_table else None,
        )

    def render_with_targets(self, factors: Factors) -> tuple[Tensor, Tensor]:
        """Pictures and targets."""
        return self.ask(factors, self.world.render(factors))

    @pin_torch()
    def training_batch(
        self, seed: int, split: str, indices: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor]:
        """Pictures and targets only: what a training step needs."""
        return self.render_with_targets(self.world.sample(seed, split, indices))

    def eval_batch(self, split: str, n: int, seed: int) -> Batch:
        """The first n samples of a split, or all where there are fewer."""
        size = self.world.sizes[self.world.check_split(split)]
        return self.draw_batch(seed, split, range(n if size is None else min(n, size)))


def build_task(config: TaskConfig) -> Task:
    """The task that a config describes."""
    if isinstance(config, MissingTaskConfig):
        raise config.explain()
    task: Task = worlds.load_builder(config.name)(config)
    return task


def resolve_config(run: RunConfig) -> RunConfig:
    """The run with what its task decides about the model filled in.

    That is the picture's size, channels, patches where cells fix them, and classes. BadInput where
    the model says otherwise, or cannot answer what the task asks, and where the task cannot change
    as the curriculum says.
    """
    run = replace(run, task=run.task.take_patch_size(run.model.patch_size))
    task = build_task(run.task)
    decided = _list_decided(task)
    _check_undecided(run, decided)

    try:
        model: ModelConfig = replace(run.model, **decided)
    except BadField as error:
        raise BadInput(f"model.{error.field} {error.problem}") from None
    options.check_options(model)
    if model.patch_size is None:
        raise BadInput(f"model.patch_size is not given, and {run.task.name} does not fix it")
    _check_readout(task, model.readout)
    train = replace(run.train, curriculum=settle_curriculum(run, _describe_kind))
    return replace(run, model=model, task=run.task.bind_files(), train=train)


def _list_decided(task: Task) -> dict[str, Any]:
    """The fields of the model that a task decides."""
    decided: dict[str, Any] = {"n_channels": task.world.n_channels, "n_classes": task.n_classes}
    decided["image_size"] = task.world.image_size
    if task.world.patch_size is not None:
        decided["patch_size"] = task.world.patch_size
    return decided


def _check_undecided(run: RunConfig, decided: Mapping[str, object]) -> None:
    """BadInput where the model says other than what its task decides."""
    for name, value in decided.items():
        given = getattr(run.model, name)
        if given is not None and given != value:
            raise BadInput(
                f"model.{name} is {given}, but the task {run.task.name} has {value}: "
                f"say --model.{name} none"
            )


def _check_readout(task: Task, readout: str) -> None:
    """BadInput where a read-out does not give the kind of answer that the task asks for."""
    if GIVES[readout] != task.output_kind:
        allowed = [name for name, gives in GIVES.items() if gives == task.output_kind]
        raise BadInput(
            f"model.readout {readout!r} gives one answer for each {GIVES[readout]}, "
            f"the task {task.config.name} asks for one for each {task.output_kind}: "
            f"allowed are {', '.join(allowed)}"
        )


def _describe_kind(config: TaskConfig) -> dict[str, object]:
    """What no curriculum may change."""
    task = build_task(config)
    return _list_decided(task) | {"answers": task.output_kind, "splits": list(task.world.sizes)}


def ask_target(target: Callable[[Factors], NDArray[np.int64]]) -> Ask:
    """The question whose answer is a function of the factors."""
    return lambda factors, images: (images, torch.from_numpy(target(factors)))


def flip_answer(
    world: World, factor: str, target: Callable[[Factors], NDArray[np.int64]]
) -> Callable[[Factors], Factors]:
    """A change of one factor to the first other value that has another answer.

    Counting up from its own value and round; its own where no value has another answer.
    """

    def change(factors: Factors) -> Factors:
        own = factors[factor]
        answer = target(factors)
        n_values = world.factors[factor]
        values = own.copy()
        for step in range(1, n_values):
            value = (own + step) % n_values
            flipped = target(world.change_factor(factors, factor, value)) != answer
            values = np.where((values == own) & flipped, value, values)
        return world.change_factor(factors, factor, values)

    return change


def standardize_levels(values: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """Whole numbers 0 to n - 1, all equally likely, scaled to mean 0 and variance 1."""
    return (values - (n - 1) / 2) / np.sqrt((n * n - 1) / 12)


def loss(logits: Float[Tensor, "image *patch label"], target: Tensor) -> Float[Tensor, ""]:
    """Classes: cross-entropy in nats, mean over what is asked; ln(classes) at chance.

    Numbers: mean squared error.
    """
    if target.is_floating_point():
        # Chosen by `where`, not by an index, so that the loss can be mapped over weights.
        asked = ~target.isnan()
        return torch.where(asked, logits - target, 0).square().sum() / asked.sum()
    return F.cross_entropy(logits.flatten(0, -2), target.flatten(), ignore_index=-1)


def accuracy(logits: Float[Tensor, "image *patch label"], target: Tensor) -> Float[Tensor, ""]:
    """Classes: share of what is asked whose largest logit is the target's, 0 to 1.

    Numbers: R^2, at most 1.
    """
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
    """The mean of each number over the pictures, as the answer to every question: R^2 and loss."""
    means = target.double().nanmean(0).expand(target.shape)
    return {
        "accuracy.mean": accuracy(means, target.double()).item(),
        "loss.mean": loss(means, target.double()).item(),
    }
