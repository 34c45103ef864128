"""Plain sizes: of the weights, module by module, and of the residual stream, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from toyvit.analyses.analysis import Analysis, Measures, Quantity, Tagged
from toyvit.data.task import Batch
from toyvit.instruments.lenses import RESIDUALS, list_residuals
from toyvit.model import ViT
from toyvit.surroundings import pin_torch


def compute_weight_norms(model: ViT) -> dict[str, Float[Tensor, ""]]:
    """Euclidean norm of each parameter, by name.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(2, 2), patch_size=1, n_channels=1, n_classes=2)
    >>> compute_weight_norms(ViT(config))["ln_final.gain"] ** 2  # as many ones as the width
    tensor(64.)
    """
    return {
        name: weight.detach().norm() for name, weight in model.named_parameters() if weight.numel()
    }


@pin_torch()
def measure_norms(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `norms`: of every parameter, of all together, and of the residual stream.

    `residual` by layer, a mean over images and tokens of the patches and of CLS with the registers
    (`prefix`). Layer l is the stream entering block l; layer L is what leaves the last block.
    """
    n = model.config.n_prefix
    of_weights = compute_weight_norms(model)
    residuals = list_residuals(model, trace)
    sizes = torch.stack([residual.norm(dim=-1).mean(0) for residual in residuals])  # layer, token

    measures: Measures = {Tagged("weight", module=name): norm for name, norm in of_weights.items()}
    measures["weight_total"] = torch.stack(list(of_weights.values())).norm()
    measures[Tagged("residual", group="patches")] = sizes[:, n:].mean(1)
    if n:
        measures[Tagged("residual", group="prefix")] = sizes[:, :n].mean(1)
    return measures


NORMS = Analysis(
    name="norms",
    computes="sizes of the weights and of the residual stream",
    measure=measure_norms,
    quantities={
        "weight": Quantity(least=0),
        "weight_total": Quantity(least=0),
        "residual": Quantity("layer", least=0),
    },
    sites=RESIDUALS,
    cost=1,
    source="Euclidean norms",
    truth="scaling a weight scales its norm",
    null="the sizes at step 0, before training",
)
