"""What the model gets right: beside predictors that know less, and without some of its heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from toyvit.analyses.analysis import (
    CLASSES,
    GROUPS,
    Analysis,
    Axis,
    Measures,
    Need,
    Quantity,
    Tagged,
)
from toyvit.config import ModelConfig
from toyvit.data.task import MOST_GROUPS, Batch, accuracy, loss
from toyvit.model import ViT
from toyvit.model.forward import ablate_heads, run_model
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
    cost=0.1,
    source="cross-entropy and accuracy; baselines stand beside them",
    truth="logits that answer right: accuracy 1; uniform logits: loss ln(classes)",
    null="the task's baselines",
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
    null="the mean over values is the score of all pictures",
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
    null="the strategies' distances from each other",
)


def score_without_heads(
    model: ViT,
    batch: Batch,
    trace: Mapping[str, Tensor],
    ablation: str,
    heads: Sequence[tuple[int, int]],
) -> tuple[Tensor, Tensor]:
    """Loss and accuracy with these (layer, head) silenced."""
    logits = ablate_heads(model, heads, trace, ablation) if heads else trace["logits"]
    return loss(logits, batch.target), accuracy(logits, batch.target)


@pin_torch()
def measure_head_ablation(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `head_ablation`: loss (nats) and accuracy (0 to 1) with heads silenced.

    By zero, or by their mean over images. One head at a time (layer head), and cumulatively over
    the last layer (count), the head that matters most (by loss) first: several induction heads
    back each other up. A head with W_O = 0 changes nothing.
    """
    n_layers = model.config.n_layers
    n_heads = model.config.n_heads
    measures: Measures = {}
    for ablation in ("zero", "mean"):
        score = partial(score_without_heads, model, batch, trace, ablation)
        single = [score([place]) for place in product(range(n_layers), range(n_heads))]
        losses, accuracies = torch.tensor(single).T.unflatten(1, (n_layers, n_heads))
        measures[Tagged("loss", ablation=ablation)] = losses
        measures[Tagged("accuracy", ablation=ablation)] = accuracies

        last = [(n_layers - 1, head) for head in losses[-1].argsort(descending=True).tolist()]
        several = [score(last[:n]) for n in range(n_heads + 1)]
        for name, values in zip(("loss", "accuracy"), torch.tensor(several).T, strict=True):
            measures[Tagged(f"cumulative_{name}", ablation=ablation)] = values
    return measures


HEAD_ABLATION = Analysis(
    name="head_ablation",
    computes="loss and accuracy without a head, and without several",
    measure=measure_head_ablation,
    quantities={
        "loss": Quantity("layer head", unit=NATS, least=0),
        "accuracy": Quantity("layer head", most=1),
        "cumulative_loss": Quantity("count", unit=NATS, least=0),
        "cumulative_accuracy": Quantity("count", most=1),
    },
    own_axes=(
        Axis(
            "count",
            "how many heads of the last layer are silenced",
            lambda config, batch: (config.n_heads + 1,),
            is_crowded=True,
        ),
    ),
    sites=("logits", "blocks.*.resid_pre", "blocks.*.attn.z"),
    cost=50,
    source="ablation by zero and by mean",
    truth="a head with W_O = 0: no change at all",
    null="the other heads of the same layer",
)


def asks_in_order(config: ModelConfig, batch: Batch) -> bool:
    """Whether there is one class a patch, and patches see only what comes before them."""
    is_class_of_patch = batch.target.ndim == 2 and not batch.target.is_floating_point()
    return is_class_of_patch and config.mask == "causal"


def swap_context(
    images: Float[Tensor, "image channel height width"], query: Int[Tensor, " image"], size: int
) -> Float[Tensor, "image channel height width"]:
    """Pictures whose query cell is their own and all other cells those of the picture before.

    `query` is the number of a cell of `size` x `size` pixels.

    >>> images = torch.tensor([[[[1.0, 1.0]]], [[[2.0, 2.0]]]])
    >>> swap_context(images, torch.tensor([0, 1]), 1).flatten(1)
    tensor([[1., 2.],
            [1., 2.]])
    """
    rows = images.shape[2] // size
    columns = images.shape[3] // size
    own = F.one_hot(query, rows * columns).bool().view(-1, 1, rows, columns)
    own = own.repeat_interleave(size, 2).repeat_interleave(size, 3)
    return torch.where(own, images, images.roll(1, 0))


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
        size = model.config.stated("patch_size")
        swapped = run_model(model, swap_context(batch.images, batch.retrieval.query, size))
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
    sites=("logits",),
    needs=(
        Need(
            "item-label pairs, or a class a patch and a causal mask",
            lambda config, batch: batch.retrieval is not None or asks_in_order(config, batch),
        ),
    ),
    cost=20,
    source="Olsson 2022 (by position, sign turned); by context is this lab's",
    truth="predictors that know the world; a model that looks only at the query: 0",
    null="a model that says the same everywhere: 0",
)
