"""What the model gets right, beside predictors that know less."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from toyvit.analyses.analysis import (
    ANSWERS,
    CLASSES,
    GROUPS,
    Analysis,
    Axis,
    Measures,
    Need,
    Quantity,
    Tagged,
)
from toyvit.clamps.patterns import ClampedViT
from toyvit.config import ModelConfig
from toyvit.data.task import MOST_GROUPS, Batch, accuracy, loss
from toyvit.model import ViT
from toyvit.model.options import allowed_keys
from toyvit.surroundings import pin_torch

NATS = "nats; squares where numbers are asked"


@pin_torch()
def measure_performance(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `performance`: `loss` in nats and `accuracy`, 0 to 1.

    Where numbers are asked: the mean squared error, and R^2, which may be below 0.
    """
    logits = trace["logits"]
    return {"loss": loss(logits, batch.target), "accuracy": accuracy(logits, batch.target)}


PERFORMANCE = Analysis(
    name="performance",
    computes="loss and accuracy of the answers",
    measure=measure_performance,
    quantities={"loss": Quantity(unit=NATS, least=0), "accuracy": Quantity(most=1)},
    sites=("logits",),
    needs=(ANSWERS,),
    cost=0.1,
    source="cross-entropy and accuracy; baselines stand beside them",
    truth="logits that answer right: accuracy 1; uniform logits: loss ln(classes)",
    null="no better than the baselines, predictors that know less: the commonest answer, a "
    "probe of raw pixels and the like",
)


def average_by_value(
    scores: Float[Tensor, " image"], values: Int[Tensor, " image"]
) -> Float[Tensor, " level"]:
    """The mean score of the pictures with each value of a factor; NaN for a value of no picture.

    >>> average_by_value(torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0, 0, 2]))
    tensor([0.5000,    nan, 1.0000], dtype=torch.float64)
    """
    return torch.bincount(values, scores.double()) / torch.bincount(values)


@pin_torch()
def measure_by_factor(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `by_factor`: loss (nats) and accuracy (0 to 1) at each value of each factor.

    Which pictures are learned when (the quanta of Michaud 2023 are such groups). Factors of more
    than 16 values are left out; a value that no picture has is NaN. The mean over values, weighted
    by their pictures, is the score of all.
    """
    assert batch.classes is not None and batch.groups is not None
    logits = trace["logits"]
    nats = F.cross_entropy(logits, batch.classes, reduction="none")
    right = (logits.argmax(-1) == batch.classes).float()
    measures: Measures = {}
    for factor, values in batch.groups.items():
        measures[Tagged("loss_of_value", factor=factor)] = average_by_value(nats, values)
        measures[Tagged("accuracy_of_value", factor=factor)] = average_by_value(right, values)
    return measures


BY_FACTOR = Analysis(
    name="by_factor",
    computes="loss and accuracy of the pictures with each value of a factor",
    measure=measure_by_factor,
    quantities={
        "loss_of_value": Quantity("level", unit="nats", least=0, may_be_nan=True),
        "accuracy_of_value": Quantity("level", least=0, most=1, may_be_nan=True),
    },
    own_axes=(
        Axis(
            "level",
            "a value of a factor",
            lambda config, batch: range(MOST_GROUPS + 1),
            is_crowded=True,
        ),
    ),
    sites=("logits",),
    needs=(CLASSES, GROUPS),
    cost=0.1,
    source="Michaud 2023, section 4: which groups of samples are learned when",
    truth="a model that is right for one value: 1 there, 0 elsewhere",
    null="every value near the score of all pictures, which is the mean over values",
)


def compute_divergence(
    logits: Float[Tensor, "image *patch label"], answers: Float[Tensor, "image *patch label"]
) -> Float[Tensor, ""]:
    """KL(answers, model) in nats, mean over the answers that a strategy gives (not NaN).

    `answers` are probabilities. 0 where the model says the same.

    >>> sure = torch.tensor([[1.0, 0.0]])
    >>> compute_divergence(torch.zeros(1, 2), sure) == torch.tensor(2.0).log()
    tensor(True)
    """
    given = ~answers.isnan().any(-1)
    p = answers[given]
    return (torch.xlogy(p, p) - p * logits[given].log_softmax(-1)).sum(-1).mean()


@pin_torch()
def measure_strategies(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `strategies`: `kl` from each predictor that knows the world, nats.

    After Edelman 2024, section 2.
    """
    assert batch.strategies is not None
    return {
        Tagged("kl", strategy=name): compute_divergence(trace["logits"], answers)
        for name, answers in batch.strategies.items()
    }


STRATEGIES = Analysis(
    name="strategies",
    computes="distance from the answers of predictors that know the world",
    measure=measure_strategies,
    quantities={"kl": Quantity(unit="nats", least=0)},
    sites=("logits",),
    needs=(
        Need(
            "predictors that know the world",
            lambda config, batch: batch.strategies is not None,
        ),
    ),
    cost=23,
    source="Edelman 2024",
    truth="a model that says what a strategy says: 0",
    null="as far from each strategy as the strategies are from each other",
)


def asks_in_order(config: ModelConfig, batch: Batch) -> bool:
    """Whether there is one class a patch, and patches see only what comes before them."""
    is_class_of_patch = batch.target.ndim == 2 and not batch.target.is_floating_point()
    return is_class_of_patch and config.mask == "causal"


def swap_context(
    stream: Float[Tensor, "image token model"], query: Int[Tensor, " image"], n_prefix: int
) -> Float[Tensor, "image token model"]:
    """A stream with all tokens but the query those of the picture before.

    `query` is the number of a patch.

    >>> stream = torch.tensor([[[1.0], [1.0]], [[2.0], [2.0]]])
    >>> swap_context(stream, torch.tensor([0, 1]), 0).flatten(1)
    tensor([[1., 2.],
            [1., 2.]])
    """
    images = torch.arange(len(stream))
    swapped = stream.roll(1, 0)
    swapped[images, n_prefix + query] = stream[images, n_prefix + query]
    return swapped


@torch.no_grad()
def answer_swapped(
    model: ViT, query: Int[Tensor, " image"], trace: Mapping[str, Tensor]
) -> Float[Tensor, "image label"]:
    """The answers to pictures all of whose cells but the query are those of the picture before.

    Where only the last token asks, is read and is seen by no other, all other tokens are those of
    the pass that has been: they are read from the trace.
    """
    n_prefix = model.config.n_prefix
    entering = swap_context(trace["blocks.0.resid_pre"], query, n_prefix)
    if isinstance(model, ClampedViT) or not _asks_last(model.config, query):
        return model.answer_from(entering, 0)

    asking = entering[:, -1]
    for layer, block in enumerate(model.layers):
        stream = trace[f"blocks.{layer}.resid_pre"].roll(1, 0)
        stream[:, -1] = asking
        asking = block.read(stream, -1, model.mask[..., -1, :])
    return model.unembed_tokens(asking)


def _asks_last(config: ModelConfig, query: Int[Tensor, " image"]) -> bool:
    """Whether all queries are the last token, which is read and which no other token sees."""
    is_last = bool((query == config.n_patches - 1).all())
    return is_last and config.readout == "last" and not allowed_keys(config)[:-1, -1].any()


def score_by_position(
    logits: Float[Tensor, "image patch label"], target: Int[Tensor, "image patch"]
) -> Float[Tensor, ""]:
    """Loss of the first quarter of the patches that are asked, minus that of the last, nats.

    Olsson 2022, 500th token minus 50th, with the sign turned: positive is good, 0 for answers that
    do not get better along the picture.

    >>> score_by_position(torch.zeros(1, 4, 2), torch.zeros(1, 4).long())
    tensor(0., dtype=torch.float64)
    """
    nats = F.cross_entropy(
        logits.flatten(0, 1), target.flatten(), ignore_index=-1, reduction="none"
    )
    asked = target >= 0
    by_patch = (nats.view(asked.shape).double().sum(0) / asked.sum(0))[asked.any(0)]
    quarter = max(1, len(by_patch) // 4)
    return by_patch[:quarter].mean() - by_patch[-quarter:].mean()


@pin_torch()
def measure_in_context(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `in_context`: nats by which the context lowers the loss, `score`.

    Positive is good; without use of the context 0.

    by=context    where pictures have item-label pairs: loss with all cells but the query taken from
                  another picture, minus the loss as it is (this lab's; needs no order of cells)
    by=position   where patches are answered under a causal mask: `score_by_position`
    """
    measures: Measures = {}
    if batch.retrieval is not None:
        swapped = answer_swapped(model, batch.retrieval.query, trace)
        gain = loss(swapped, batch.target) - loss(trace["logits"], batch.target)
        measures[Tagged("score", by="context")] = gain

    if asks_in_order(model.config, batch):
        score = score_by_position(trace["logits"], batch.target)
        measures[Tagged("score", by="position")] = score
    return measures


IN_CONTEXT = Analysis(
    name="in_context",
    computes="nats by which the context lowers the loss",
    measure=measure_in_context,
    quantities={"score": Quantity(unit="nats")},
    sites=("logits", "blocks.*.resid_pre"),
    needs=(
        Need(
            "item-label pairs, or a class a patch and a causal mask",
            lambda config, batch: batch.retrieval is not None or asks_in_order(config, batch),
        ),
    ),
    cost=5,
    source="Olsson 2022 (by position, sign turned); by context is this lab's",
    truth="predictors that know the world; a model that looks only at the query: 0",
    null="0, as of a model that says the same at every place",
)
