"""Superposition: do the directions of labels and of factors have dimensions to themselves, or do they share them?"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from toyvit.analyses.probes import PENALTY, split_groups
from toyvit.data.task import Batch
from toyvit.model import ViT
from toyvit.stats import (
    encode_one_hot,
    feature_dimensionality,
    fit_ridge,
    random_dimensionality,
    standardize,
)


def measure_label_superposition(
    model: ViT, batch: Batch, trace: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The analysis `label_superposition`: how much of a dimension each row of the head has to itself, 0 to 1.

    Rows are centred over labels, since softmax ignores what they share; so C labels by themselves are a simplex in C - 1
    dimensions, D = (C - 1) / C. Beside it stands what as many random directions would have.
    """
    rows = model.head.weight.detach().double()
    return {
        "dimensionality": feature_dimensionality(rows - rows.mean(0)).float(),
        "dimensionality_random": torch.tensor(random_dimensionality(*rows.shape)),
    }


def fit_probe_directions(
    features: Float[Tensor, "image model"], factors: Mapping[str, Int[Tensor, " image"]]
) -> dict[str, Float[Tensor, "level model"]]:
    """Unit directions along which a ridge probe reads each value of each factor; a value that no picture has is left out.

    Features are standardised: directions are in units of each coordinate's spread. What reads one value of n is minus what
    reads the others, so that n values by themselves are a simplex too. A factor of one value has a direction of length 0.
    """
    x = standardize(features.double(), slice(None))
    found = {name: values.unique(return_inverse=True) for name, values in factors.items()}
    codes = [encode_one_hot(places, len(values)) for values, places in found.values()]
    y = torch.cat(codes, 1)
    weights = fit_ridge(x, y - y.mean(0), PENALTY).T
    lengths = weights.norm(dim=1, keepdim=True)
    units = torch.where(lengths > 1e-12, weights / lengths.clamp(min=1e-12), 0.0)
    return dict(zip(found, units.split([code.shape[1] for code in codes]), strict=True))


def measure_factor_superposition(
    model: ViT, batch: Batch, trace: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The analysis `factor_superposition`: mean D, 0 to 1, of the directions of each factor's values among those of all.

    By layer and token group, as probes are: layer l is the residual stream entering block l, layer L what leaves the last.
    Beside it stands what as many random directions would have. Fitted on the whole batch: with more coordinates than pictures
    the directions say more about the pictures than about the model.
    """
    assert batch.groups is not None
    n_layers = model.config.n_layers
    residuals = [trace[f"blocks.{layer}.resid_pre"] for layer in range(n_layers)] + [
        trace[f"blocks.{n_layers - 1}.resid_post"]
    ]
    scores: dict[str, list[float]] = {}
    for residual in residuals:
        for group, features in split_groups(residual, model).items():
            directions = fit_probe_directions(features, batch.groups)
            every = feature_dimensionality(torch.cat(list(directions.values())))
            parts = every.split([len(one) for one in directions.values()])
            for name, part in zip(directions, parts, strict=True):
                scores.setdefault(f"dimensionality[factor={name},group={group}]", []).append(
                    part.mean().item()
                )
    random = random_dimensionality(len(every), features.shape[1])
    return {name: torch.tensor(values) for name, values in scores.items()} | {
        "dimensionality_random": torch.tensor(random)
    }
