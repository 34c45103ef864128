"""The shape of what a layer holds: how many directions it uses, and how alike layers are.

Layer l is the residual stream entering block l; layer L is what leaves the last block. CLS and
patches are kept apart: a sample is CLS of one image, or one patch of one image (its position is
then part of what varies).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from toyvit.analyses.analysis import Analysis, Measures, Quantity, Tagged, stack_layers
from toyvit.analyses.tokens import split_tokens
from toyvit.config import ModelConfig
from toyvit.data.task import Batch
from toyvit.instruments.lenses import RESIDUALS, stack_residuals
from toyvit.model import ViT
from toyvit.stats import (
    centre_gram,
    cka,
    covariance_eigenvalues,
    effective_rank,
    participation_ratio,
    power_law,
)
from toyvit.surroundings import pin_torch

NOTHING = 1e-8  # share of the largest variance under which a direction is rounding
REQ = (11, 50)  # the ranks that alpha-ReQ is fitted on


def alpha_req(variances: Float[Tensor, " feature"]) -> Float[Tensor, ""]:
    """alpha-ReQ of at least 50 variances, falling: `power_law` over j = 11 to 50, weights 1 / j.

    >>> alpha_req(torch.arange(1, 65) ** -1.0).round(decimals=6)
    tensor(1., dtype=torch.float64)
    """
    first, last = REQ
    return power_law(variances, first, last, 1 / torch.arange(first, last + 1).double())


def select_groups(
    residual: Float[Tensor, "image token model"], config: ModelConfig
) -> dict[str, Float[Tensor, "image part model"]]:
    """CLS, where there is one, and the patches."""
    groups = split_tokens(residual, config)
    return {name: tokens for name, tokens in groups.items() if name != "registers"}


def describe_shape(samples: Float[Tensor, "sample feature"]) -> dict[str, Float[Tensor, ""]]:
    """What the eigenvalues v_1 >= v_2 >= ... of the samples' covariance say.

    effective_rank       Roy & Vetterli 2007, 1 to d
    participation_ratio  1 to d
    alpha                v_j ~ j^-alpha by least squares of the logarithms, j from 1 to alpha_last,
                         all variances above rounding: this lab's fit. White noise does not read 0:
                         0.26 at 1,000 samples of 64 features, 0.08 at 10,000
    alpha_req            alpha-ReQ as in its source (Agrawal 2022, after Stringer 2019): j from 11
                         to 50, weights 1 / j. NaN where fewer than 50 variances are above rounding,
                         since the fit would then be of rounding: always below 50 features
    samples_per_feature  N / d, to judge both by

    The first three are NaN where nothing varies.

    >>> square = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> describe_shape(square)["participation_ratio"].item()
    2.0
    """
    variances = covariance_eigenvalues(samples)
    nothing = variances[0] <= NOTHING * samples.double().square().mean()
    variances = torch.where(nothing, torch.zeros_like(variances), variances)
    last = int((variances > NOTHING * variances[0]).sum())

    return {
        "effective_rank": effective_rank(variances),
        "participation_ratio": participation_ratio(variances),
        "alpha": power_law(variances, 1, last),
        "alpha_req": alpha_req(variances) if last >= REQ[1] else torch.tensor(torch.nan).double(),
        "alpha_last": torch.tensor(float(last)),
        "samples_per_feature": torch.tensor(len(samples) / samples.shape[1]),
    }


def centre_samples(tokens: Float[Tensor, "image token model"]) -> Float[Tensor, "image feature"]:
    """An image's tokens as one sample, minus the mean over images; exactly 0 where all is rounding.

    >>> centre_samples(torch.tensor([[[1.0]], [[3.0]]]))
    tensor([[-1.],
            [ 1.]], dtype=torch.float64)
    """
    samples = tokens.flatten(1).double()
    centred = samples - samples.mean(0)
    return centred * (centred.square().mean() > NOTHING * samples.square().mean())


@pin_torch()
def measure_geometry(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `geometry`: `describe_shape` of every layer, and the CKA of every two layers.

    Tagged by group. For CKA (unbiased) a sample is an image, its features all its patches, or CLS;
    `cka` takes (layer, to_layer). 1 with itself, 0 for independent ones.
    """
    residuals = stack_residuals(model, trace)
    layers = [select_groups(residual, model.config) for residual in residuals]
    measures: Measures = {}
    for group in layers[0]:
        shapes: list[Measures] = []
        grams = []
        for layer in layers:
            samples = rearrange(layer[group], "image token model -> (image token) model")
            shape = describe_shape(samples)
            shapes.append({Tagged(name, group=group): value for name, value in shape.items()})
            grams.append(centre_gram(centre_samples(layer[group])))

        measures |= stack_layers(shapes)
        measures[Tagged("cka", group=group)] = cka(torch.stack(grams))
    return measures


GEOMETRY = Analysis(
    name="geometry",
    computes="directions that a layer uses, and how alike layers are",
    measure=measure_geometry,
    quantities={
        "effective_rank": Quantity("layer", unit="directions", least=1, may_be_nan=True),
        "participation_ratio": Quantity("layer", unit="directions", least=1, may_be_nan=True),
        "alpha": Quantity("layer", may_be_nan=True),
        "alpha_req": Quantity("layer", may_be_nan=True),
        "alpha_last": Quantity("layer", least=0),
        "samples_per_feature": Quantity("layer", least=0),
        "cka": Quantity("layer to_layer", least=-1, most=1, may_be_nan=True),
    },
    sites=RESIDUALS,
    slow=True,
    cost=70,
    source="Roy & Vetterli 2007 (effective rank), Agrawal 2022 (alpha-ReQ), "
    "Song 2012 and Raghu 2021 (unbiased CKA)",
    truth="n equal directions: rank n; exact power laws; a layer and its rotation: CKA 1",
    null="white noise (features that have nothing to do with each other): alpha 0.26 at 1,000 "
    "samples of 64 features, CKA 0",
    version=2,
)
