"""Linear probes: how much of each factor a linear read-out finds, by layer and token group.

Closed-form ridge on one-hot targets, a fixed penalty, the first half of the batch to fit and the
second to score, the same for every checkpoint; one solve serves all factors. Baselines: the same
probe on raw pixels, on labels shuffled among images, and (step 0 of any run) on the untrained
network.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from toyvit.analyses.analysis import Analysis, Measures, Quantity, Tagged, share
from toyvit.analyses.tokens import stack_groups
from toyvit.data.task import Batch
from toyvit.instruments.lenses import RESIDUALS
from toyvit.model import ViT
from toyvit.stats import encode_one_hot, predict_ridge
from toyvit.surroundings import pin_torch

PENALTY = 0.1
Name = TypeVar("Name", bound=Hashable)


def fit_probes(
    features: Float[Tensor, "probe image feature"], factors: Mapping[Name, Int[Tensor, " image"]]
) -> dict[Name, Float[Tensor, " probe"]]:
    """Accuracy, 0 to 1, of linear classifiers of each factor on the half that they have not seen.

    Fitted on the first half of the images. A planted linear feature scores 1, labels with nothing
    to do with the features score chance.

    >>> labels = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1])
    >>> fit_probes(labels[None, :, None].float(), {"planted": labels})
    {'planted': tensor([1.])}
    """
    half = features.shape[1] // 2
    fit = slice(0, half)
    test = slice(half, None)
    codes = [encode_one_hot(labels, int(labels.max()) + 1) for labels in factors.values()]
    predictions = predict_ridge(features.double(), torch.cat(codes, 1), fit, test, PENALTY)

    parts = predictions.split([code.shape[1] for code in codes], -1)
    return {
        name: (part.argmax(-1) == labels[test]).float().mean(-1)
        for part, (name, labels) in zip(parts, factors.items(), strict=True)
    }


@pin_torch()
def measure_probes(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `probes`: `accuracy`, 0 to 1, of each factor and token group (layer).

    Layer l is the residual stream entering block l; layer L is what leaves the last block. Beside
    it the nulls: `accuracy_shuffled`, of labels shuffled among images, and `accuracy_pixels`.
    """
    groups = share(trace, stack_groups, model)
    scores = fit_probes(torch.cat(list(groups.values())), shuffle_labels(batch))
    measures: Measures = {}
    for (quantity, factor), of_all in scores.items():
        by_group = of_all.unflatten(0, (len(groups), -1))
        for group, score in zip(groups, by_group, strict=True):
            measures[Tagged(quantity, factor=factor, group=group)] = score
    return measures | batch.compute_once(probe_pixels)


def shuffle_labels(batch: Batch) -> dict[tuple[str, str], Int[Tensor, " image"]]:
    """The labels of each factor, and those labels dealt to other images."""
    order = torch.randperm(len(batch.target), generator=torch.Generator().manual_seed(0))
    labels = {("accuracy", name): values for name, values in batch.factors.items()}
    for name, values in batch.factors.items():
        labels["accuracy_shuffled", name] = values[order]
    return labels


def probe_pixels(batch: Batch) -> Measures:
    """What probes of the pictures themselves score."""
    scores = fit_probes(batch.images.flatten(1)[None], batch.factors)
    return {Tagged("accuracy_pixels", factor=name): score[0] for name, score in scores.items()}


PROBES = Analysis(
    name="probes",
    computes="how well a linear read-out finds each factor, layer by layer",
    measure=measure_probes,
    quantities={
        "accuracy": Quantity("layer", least=0, most=1),
        "accuracy_shuffled": Quantity("layer", least=0, most=1),
        "accuracy_pixels": Quantity(least=0, most=1),
    },
    sites=RESIDUALS,
    cost=8,
    source="Alain & Bengio 2016",
    truth="a planted linear feature: 1",
    null="what a probe of the same kind finds with shuffled labels (chance), in raw pixels, and "
    "in the untrained network (step 0)",
)
