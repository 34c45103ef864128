"""Superposition: do the directions of labels and factors have dimensions to themselves?"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from toyvit.analyses.analysis import GROUPS, Analysis, Measures, Quantity, Tagged
from toyvit.analyses.probes import PENALTY, average_groups
from toyvit.data.task import Batch
from toyvit.instruments.lenses import RESIDUALS, stack_residuals
from toyvit.model import ViT
from toyvit.stats import (
    encode_one_hot,
    feature_dimensionality,
    fit_ridge,
    random_dimensionality,
    standardize,
)

RANDOM = "random directions: 1 / (1 + (k - 1) / d)"


def measure_label_superposition(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `label_superposition`: the share of a dimension of each row of the head.

    `dimensionality` (label), 0 to 1. Rows are centred over labels, since softmax ignores what they
    share; so C labels by themselves are a simplex in C - 1 dimensions, D = (C - 1) / C. Beside it
    stands what as many random directions would have.
    """
    rows = model.head.weight.detach().double()
    return {
        "dimensionality": feature_dimensionality(rows - rows.mean(0)).float(),
        "dimensionality_random": torch.tensor(random_dimensionality(*rows.shape)),
    }


LABEL_SUPERPOSITION = Analysis(
    name="label_superposition",
    computes="share of a dimension that each label has to itself",
    measure=measure_label_superposition,
    quantities={
        "dimensionality": Quantity("label", least=0, most=1),
        "dimensionality_random": Quantity(least=0, most=1),
    },
    cost=0.1,
    source="Elhage 2022, feature dimensionality; of the head's rows it is this lab's use",
    truth="antipodal pair 1/2, triangle 2/3, square 1/2, pentagon 2/5",
    null=RANDOM,
)


def fit_probe_directions(
    features: Float[Tensor, "image model"], factors: Mapping[str, Int[Tensor, " image"]]
) -> dict[str, Float[Tensor, "level model"]]:
    """Unit directions along which a ridge probe reads each value of each factor.

    A value that no picture has is left out. Features are standardised: directions are in units of
    each coordinate's spread. What reads one value of n is minus what reads the others, so that n
    values by themselves are a simplex too. A factor of one value has a direction of length 0.

    >>> features = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> fit_probe_directions(features, {"sign": torch.tensor([0, 1])})["sign"]
    tensor([[ 1.,  0.],
            [-1.,  0.]], dtype=torch.float64)
    """
    x = standardize(features.double(), slice(None))
    codes = [_encode_levels(labels) for labels in factors.values()]
    y = torch.cat(codes, 1)

    weights = fit_ridge(x, y - y.mean(0), PENALTY).T
    lengths = weights.norm(dim=1, keepdim=True)
    units = torch.where(lengths > 1e-12, weights / lengths.clamp(min=1e-12), 0.0)
    return dict(zip(factors, units.split([code.shape[1] for code in codes]), strict=True))


def _encode_levels(labels: Int[Tensor, " image"]) -> Float[Tensor, "image level"]:
    """A column for each value that some picture has."""
    levels, places = labels.unique(return_inverse=True)
    return encode_one_hot(places, len(levels))


def measure_factor_superposition(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `factor_superposition`: mean D of the directions of each factor's values.

    `dimensionality` (layer), 0 to 1, among the directions of all factors' values, by token group as
    probes are: layer l is the residual stream entering block l, layer L what leaves the last.
    Beside it stands what as many random directions would have. Fitted on the whole batch: with more
    coordinates than pictures the directions say more about the pictures than about the model.
    """
    assert batch.groups is not None
    scores: dict[Tagged, list[float]] = {}
    for residual in stack_residuals(model, trace):
        for group, features in average_groups(residual, model.config).items():
            directions = fit_probe_directions(features, batch.groups)
            shares = feature_dimensionality(torch.cat(list(directions.values())))
            parts = shares.split([len(part) for part in directions.values()])
            for factor, part in zip(directions, parts, strict=True):
                key = Tagged("dimensionality", factor=factor, group=group)
                scores.setdefault(key, []).append(part.mean().item())

    measures: Measures = {key: torch.tensor(values) for key, values in scores.items()}
    random = random_dimensionality(len(shares), model.config.d_model)
    measures["dimensionality_random"] = torch.tensor(random)
    return measures


FACTOR_SUPERPOSITION = Analysis(
    name="factor_superposition",
    computes="share of a dimension that each factor's probe directions have to themselves",
    measure=measure_factor_superposition,
    quantities={
        "dimensionality": Quantity("layer", least=0, most=1),
        "dimensionality_random": Quantity(least=0, most=1),
    },
    sites=RESIDUALS,
    needs=(GROUPS,),
    cost=7,
    source="Elhage 2022, feature dimensionality; of probe directions it is this lab's use",
    truth="factors planted in coordinates of their own: (n - 1) / n for n values",
    null=RANDOM,
)
