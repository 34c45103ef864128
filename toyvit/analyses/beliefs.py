"""Whether a layer holds what an observer would believe of a hidden state, as a linear image of it.

After Shai 2024, section 3: one affine map from the residual stream at every patch to the exact
beliefs there.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from toyvit.analyses.analysis import Analysis, Measures, Need, Quantity
from toyvit.analyses.tokens import split_tokens
from toyvit.data.task import Batch
from toyvit.instruments.lenses import RESIDUALS, list_residuals
from toyvit.model import ViT
from toyvit.stats import encode_one_hot, predict_ridge
from toyvit.surroundings import pin_torch

PENALTY = 1e-6  # a map, not a guess: thousands of patches for tens of features


def score_map(
    features: Float[Tensor, "image patch feature"], beliefs: Float[Tensor, "image patch state"]
) -> Float[Tensor, ""]:
    """R^2, at most 1, of the best affine map from features to beliefs, on fresh pictures.

    Fitted on the first half of the pictures; every patch is a sample, all states count together.

    >>> beliefs = torch.rand(40, 3, 2)
    >>> score_map(torch.cat([beliefs, torch.rand(40, 3, 1)], -1), beliefs).round(decimals=3)
    tensor(1.)
    """
    n_fitted = len(features) // 2 * features.shape[1]
    x = features.flatten(0, 1).double()
    y = beliefs.flatten(0, 1).double()
    told = predict_ridge(x, y, slice(0, n_fitted), slice(n_fitted, None), PENALTY)
    rest = (y[n_fitted:] - told).square().sum()
    return (1 - rest / (y[n_fitted:] - y[:n_fitted].mean(0)).square().sum()).float()


@pin_torch()
def measure_beliefs(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `beliefs`: `r2`, at most 1, of the map from each layer (layer).

    Layer l is the residual stream entering block l; layer L is what leaves the last block.
    `r2_together`: of the map from all layers at once.
    """
    assert batch.beliefs is not None
    streams = list_residuals(model, trace)
    layers = [split_tokens(stream, model.config)["patches"] for stream in streams]
    return {
        "r2": torch.stack([score_map(layer, batch.beliefs) for layer in layers]),
        "r2_together": score_map(torch.cat(layers, -1), batch.beliefs),
        **batch.compute_once(score_shortcuts),
    }


def score_shortcuts(batch: Batch) -> Measures:
    """The nulls: what can be told without keeping a belief.

    `r2_patch` from what the patch shows and where it is; `r2_answer` from the best prediction of
    the next patch (1 where beliefs are no more than that); `r2_shuffled` from the beliefs of
    another picture at the same patch.
    """
    assert batch.beliefs is not None
    assert batch.content is not None
    assert batch.strategies is not None
    beliefs = batch.beliefs
    n_images, n_patches, _ = beliefs.shape
    n_shown = int(batch.content.max()) + 1
    place = torch.arange(n_patches).repeat(n_images)
    both = encode_one_hot(place * n_shown + batch.content.flatten(), n_patches * n_shown)

    order = torch.randperm(n_images, generator=torch.Generator().manual_seed(0))
    asked = slice(0, n_patches - 1)
    answers = batch.strategies["bayes"][:, asked]
    return {
        "r2_patch": score_map(both.unflatten(0, (n_images, n_patches)), beliefs),
        "r2_answer": score_map(answers, beliefs[:, asked]),
        "r2_shuffled": score_map(beliefs[order], beliefs),
    }


R2 = Quantity(most=1)
BELIEFS = Analysis(
    name="beliefs",
    computes="how well each layer holds what can be believed of a hidden state",
    measure=measure_beliefs,
    quantities={
        "r2": Quantity("layer", most=1),
        "r2_together": R2,
        "r2_patch": R2,
        "r2_answer": R2,
        "r2_shuffled": R2,
    },
    sites=RESIDUALS,
    needs=(Need("beliefs about a hidden state", lambda config, batch: batch.beliefs is not None),),
    cost=15,
    source="Shai 2024, section 3",
    truth="a layer that is an affine image of the beliefs: 1",
    null="the patch and its place alone, beliefs of another picture, and the untrained network "
    "(step 0)",
)
