"""Linear probes: how much of each factor a linear read-out finds, by layer and token group.

Closed-form ridge on one-hot targets, a fixed penalty, the first half of the batch to fit and the second to score, the
same for every checkpoint; one solve serves all factors. Baselines: the same probe on raw pixels, on labels shuffled
among images, and (step 0 of any run) on the untrained network.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from toyvit.data.task import Batch
from toyvit.model import ViT
from toyvit.stats import encode_one_hot, predict_ridge

PENALTY = 0.1


def fit_probe(
    features: Float[Tensor, "image feature"], factors: Mapping[str, Int[Tensor, " image"]]
) -> dict[str, float]:
    """Accuracy, 0 to 1, of a linear classifier of each factor on the half of the images it was not fitted on.

    A planted linear feature scores 1, labels with nothing to do with the features score chance.
    """
    half = len(features) // 2
    fit, test = slice(0, half), slice(half, None)
    codes = {
        name: encode_one_hot(labels, int(labels.max()) + 1) for name, labels in factors.items()
    }
    predictions = predict_ridge(
        features.double(), torch.cat(list(codes.values()), 1), fit, test, PENALTY
    )
    parts = predictions.split([code.shape[1] for code in codes.values()], 1)
    return {
        name: (part.argmax(1) == factors[name][test]).float().mean().item()
        for name, part in zip(codes, parts, strict=True)
    }


def split_groups(
    residual: Float[Tensor, "image token model"], model: ViT
) -> dict[str, Float[Tensor, "image model"]]:
    """Token groups that probes read: CLS and the mean register where there are any, the mean patch, the last patch."""
    config = model.config
    n, cls = config.n_prefix, int(config.cls_token)
    out = {"cls": residual[:, 0]} if config.cls_token else {}
    if config.n_registers:
        out["registers"] = residual[:, cls:n].mean(1)
    return out | {"patches": residual[:, n:].mean(1), "last": residual[:, -1]}


def measure_probes(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `probes`. Layer l is the residual stream entering block l; layer L is what leaves the last block."""
    n_layers = model.config.n_layers
    residuals = [trace[f"blocks.{layer}.resid_pre"] for layer in range(n_layers)] + [
        trace[f"blocks.{n_layers - 1}.resid_post"]
    ]
    shuffle = torch.randperm(len(batch.target), generator=torch.Generator().manual_seed(0))
    nulls = {f"{name} shuffled": labels[shuffle] for name, labels in batch.factors.items()}
    scores: dict[str, list[float]] = {}
    for residual in residuals:
        for group, features in split_groups(residual, model).items():
            for name, score in fit_probe(features, {**batch.factors, **nulls}).items():
                quantity = "accuracy_shuffled" if name.endswith(" shuffled") else "accuracy"
                factor = name.removesuffix(" shuffled")
                scores.setdefault(f"{quantity}[factor={factor},group={group}]", []).append(score)
    pixels = fit_probe(batch.images.flatten(1), batch.factors)
    return {name: torch.tensor(values) for name, values in scores.items()} | {
        f"accuracy_pixels[factor={name}]": torch.tensor(score) for name, score in pixels.items()
    }
