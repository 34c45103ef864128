"""Tasks: a question about a world's factors, with its target, loss, metric and the naive answers its plots must show."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from toyvit.config import ClassifyConfig, InductionConfig, ModelConfig, Run, TaskConfig
from toyvit.data.collected import COLLECTED, collected
from toyvit.data.glyphs import PairsWorld
from toyvit.data.world import Factors, World
from toyvit.errors import BadInput, choose


@dataclass(frozen=True)
class Pairs:
    """Where an item-label picture keeps its parts, as patch numbers."""

    query: Int[Tensor, " image"]  # the cell that asks
    match: Int[Tensor, " image"]  # the label that answers
    labels: Int[Tensor, "image slot"]  # all labels


@dataclass(frozen=True)
class Batch:
    """Pictures and what is known about them. `factors` are the scalar factors that probes read."""

    images: Float[Tensor, "image channel height width"]
    target: Int[Tensor, " image"]
    factors: dict[str, Tensor] = field(default_factory=dict)
    content: Int[Tensor, "image patch"] | None = None
    pairs: Pairs | None = None


@dataclass(frozen=True)
class Task:
    """A world, a question, and its naive answers. Made by `task(config)`; see `TASKS`."""

    config: TaskConfig
    world: World
    n_classes: int
    target: Callable[[Factors], NDArray[np.int64]]
    scalars: Callable[[Factors], dict[str, NDArray[np.int64]]]
    baselines: Callable[[Batch], dict[str, float]]  # `accuracy.NAME` and `loss.NAME` (nats) of predictors that know less
    pairs: Callable[[Factors], Pairs] | None = None

    def batch(self, seed: int, split: str, indices: NDArray[np.int64] | range) -> Batch:
        """Pictures with all that is known about them."""
        factors = self.world.sample(seed, split, np.asarray(indices, np.int64))
        return self.describe(factors)

    def describe(self, factors: Factors) -> Batch:
        """The batch that these factors make."""
        return Batch(
            images=self.world.render(factors),
            target=torch.from_numpy(self.target(factors)),
            factors={name: torch.from_numpy(values) for name, values in self.scalars(factors).items()},
            content=self.world.content(factors),
            pairs=self.pairs(factors) if self.pairs else None,
        )

    def examples(self, seed: int, split: str, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Pictures and targets only: what a training step needs."""
        factors = self.world.sample(seed, split, indices)
        return self.world.render(factors), torch.from_numpy(self.target(factors))

    def frozen(self, seed: int, split: str, n: int) -> Batch:
        """The first n samples of a split, or all where there are fewer."""
        size = self.world.sizes[self.world.split(split)]
        return self.batch(seed, split, range(n if size is None else min(n, size)))


def loss(logits: Float[Tensor, "image label"], target: Int[Tensor, " image"]) -> Float[Tensor, ""]:
    """Cross-entropy in nats, mean over images; ln(classes) at chance."""
    return F.cross_entropy(logits, target)


def accuracy(logits: Float[Tensor, "image label"], target: Int[Tensor, " image"]) -> Float[Tensor, ""]:
    """Share of images whose largest logit is the target's, 0 to 1."""
    return (logits.argmax(-1) == target).float().mean()


def _induction(config: InductionConfig) -> Task:
    world = PairsWorld(config)

    def target(factors: Factors) -> NDArray[np.int64]:
        return factors["label"][np.arange(len(factors["query"])), factors["query"]]

    def scalars(factors: Factors) -> dict[str, NDArray[np.int64]]:
        item = factors["item"][np.arange(len(factors["query"])), factors["query"]]
        return {"label": target(factors), "item": item, "query": factors["query"]}

    def pairs(factors: Factors) -> Pairs:
        n, cells = len(factors["query"]), world.label_cells()
        last = torch.full((n,), world.grid[0] * world.grid[1] - 1)
        return Pairs(query=last, match=cells[torch.from_numpy(factors["query"])], labels=cells.expand(n, -1))

    def baselines(batch: Batch) -> dict[str, float]:
        return {
            "accuracy.uniform": 1 / config.n_labels,
            "loss.uniform": math.log(config.n_labels),
            **bag_of_labels(batch, config.n_items),
        }

    return Task(config, world, config.n_labels, target, scalars, baselines, pairs)


def bag_of_labels(batch: Batch, n_items: int) -> dict[str, float]:
    """Accuracy and loss of the predictor that knows which labels are in the picture, but not which follows what.

    It answers each label with its share of the N label cells: accuracy E[largest count] / N, loss E[-ln share].
    """
    assert batch.content is not None and batch.pairs is not None
    labels = batch.content.gather(1, batch.pairs.labels) - n_items
    counts = F.one_hot(labels).sum(1).double()
    share = counts / counts.sum(1, keepdim=True)
    expected_loss = -(share * share.clamp(min=1e-300).log()).sum(1).mean()
    return {"accuracy.bag_of_labels": share.amax(1).mean().item(), "loss.bag_of_labels": expected_loss.item()}


def _classify(config: ClassifyConfig) -> Task:
    world = collected(choose(config.world, COLLECTED, "world of the task classify"))

    def target(factors: Factors) -> NDArray[np.int64]:
        return factors["class"]

    def baselines(batch: Batch) -> dict[str, float]:
        share = torch.bincount(batch.target).double() / len(batch.target)
        entropy = -(share * share.clamp(min=1e-300).log()).sum().item()
        return {"accuracy.majority": share.max().item(), "loss.label_prior": entropy}

    return Task(config, world, world.factors["class"], target, lambda factors: {"class": factors["class"]}, baselines)


TASKS: dict[str, Callable[[Any], Task]] = {"induction": _induction, "classify": _classify}


# A data set's name -> the task that its preview shows.
PREVIEWS: dict[str, TaskConfig] = {"glyphs": InductionConfig(), **{name: ClassifyConfig(world=name) for name in COLLECTED}}


def task(config: TaskConfig) -> Task:
    """The task that a config describes."""
    return TASKS[config.name](config)


def resolve(run: Run) -> Run:
    """The run with what its task decides about the model filled in: picture, patches where cells fix them, classes."""
    from toyvit.model import choices

    made = task(run.task)
    decided: dict[str, Any] = {
        "image_size": made.world.image_size,
        "n_channels": made.world.n_channels,
        "n_classes": made.n_classes,
    }
    if made.world.patch_size is not None:
        decided["patch_size"] = made.world.patch_size
    for name, value in decided.items():
        given = getattr(run.model, name)
        if given is not None and given != value:
            raise BadInput(f"model.{name} is {given}, but the task {run.task.name} has {value}: leave it out")
    model: ModelConfig = replace(run.model, **decided)
    choices.check(model)
    model.stated("patch_size")
    if model.readout in ("every", "pixels"):
        raise BadInput(
            f"readout {model.readout!r} gives one answer a patch, {run.task.name} wants one a picture: cls, mean or last"
        )
    return replace(run, model=model)
