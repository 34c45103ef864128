"""Superposition: do the directions of labels and factors have dimensions to themselves?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from toyvit.analyses.analysis import GROUPS, Analysis, Measures, Quantity, Tagged, share
from toyvit.analyses.probes import PENALTY
from toyvit.analyses.tokens import stack_groups
from toyvit.data.task import Batch
from toyvit.instruments.lenses import RESIDUALS
from toyvit.model import ViT
from toyvit.stats import (
    encode_one_hot,
    feature_dimensionality,
    fit_ridge,
    standardize,
)
from toyvit.surroundings import pin_torch

DRAWS = 100  # the mean of one is within 2 % or so
RANDOM = (
    "what as many random directions give, centred as the measured ones are, measured beside each"
)


@lru_cache(64)
def draw_dimensionality(sizes: tuple[int, ...], d_model: int) -> tuple[float, ...]:
    """The mean D of random directions among each other, for groups of these sizes.

    Each group is centred: its directions sum to 0, as those of labels and of a factor's values do.
    So n of them by themselves have (n - 1) / n and not 1, two are opposite, one is 0. Directions of
    several groups are all of one length. Without the centring k directions have about
    1 / (1 + (k - 1) / d), see `toyvit.stats.random_dimensionality`.

    >>> round(draw_dimensionality((2,), 64)[0], 3), draw_dimensionality((1,), 64)
    (0.5, (0.0,))
    """
    generator = torch.Generator().manual_seed(0)
    groups = []
    for size in sizes:
        drawn = torch.randn(DRAWS, size, d_model, generator=generator, dtype=torch.double)
        groups.append(drawn - drawn.mean(1, keepdim=True))
    directions = torch.cat(groups, 1)
    if len(sizes) > 1:
        directions = directions / directions.norm(dim=2, keepdim=True).clamp(min=1e-12)
    shares = feature_dimensionality(directions).mean(0)
    return tuple(part.mean().item() for part in shares.split(sizes))


@pin_torch()
def measure_label_superposition(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `label_superposition`: the share of a dimension of each row of the head.

    `dimensionality` (label), 0 to 1. Rows are centred over labels, since softmax ignores what they
    share; so C labels by themselves are a simplex in C - 1 dimensions, D = (C - 1) / C. Beside it
    stands the mean of as many random rows, centred too: `dimensionality_random`.
    """
    rows = model.head.weight.detach().double()
    return {
        "dimensionality": feature_dimensionality(rows - rows.mean(0)).float(),
        "dimensionality_random": torch.tensor(draw_dimensionality((len(rows),), rows.shape[1])[0]),
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
    version=2,
)


def fit_probe_directions(
    features: Float[Tensor, "*probe image model"], factors: Mapping[str, Int[Tensor, " image"]]
) -> dict[str, Float[Tensor, "*probe level model"]]:
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

    weights = fit_ridge(x, y - y.mean(0), PENALTY).mT
    lengths = weights.norm(dim=-1, keepdim=True)
    units = torch.where(lengths > 1e-12, weights / lengths.clamp(min=1e-12), 0.0)
    return dict(zip(factors, units.split([code.shape[1] for code in codes], -2), strict=True))


def _encode_levels(labels: Int[Tensor, " image"]) -> Float[Tensor, "image level"]:
    """A column for each value that some picture has."""
    levels, places = labels.unique(return_inverse=True)
    return encode_one_hot(places, len(levels))


@pin_torch()
def measure_factor_superposition(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `factor_superposition`: mean D of the directions of each factor's values.

    `dimensionality` (layer), 0 to 1, among the directions of all factors' values, by token group as
    probes are: layer l is the residual stream entering block l, layer L what leaves the last.
    Beside it stands, by factor, what random directions would have that are as many for each factor
    and sum to 0 as they do: `dimensionality_random`. Fitted on the whole batch: with more
    coordinates than pictures the directions say more about the pictures than about the model.
    """
    assert batch.groups is not None
    groups = share(trace, stack_groups, model)
    measures: Measures = {}
    for group, features in groups.items():
        directions = fit_probe_directions(features, batch.groups)
        shares = feature_dimensionality(torch.cat(list(directions.values()), 1)).float()
        parts = shares.split([part.shape[1] for part in directions.values()], 1)
        for factor, part in zip(directions, parts, strict=True):
            measures[Tagged("dimensionality", factor=factor, group=group)] = part.mean(1)

    sizes = tuple(part.shape[1] for part in directions.values())
    random = draw_dimensionality(sizes, model.config.d_model)
    for factor, value in zip(directions, random, strict=True):
        measures[Tagged("dimensionality_random", factor=factor)] = torch.tensor(value)
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
    cost=5,
    source="Elhage 2022, feature dimensionality; of probe directions it is this lab's use",
    truth="factors planted in coordinates of their own: (n - 1) / n for n values",
    null=RANDOM,
    version=2,
)
