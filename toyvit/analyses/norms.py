"""Plain sizes: of the weights, module by module, and of the residual stream, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from toyvit.data.task import Batch
from toyvit.model import ViT


def compute_weight_norms(model: ViT) -> dict[str, Tensor]:
    """Euclidean norm of each parameter, by name."""
    return {
        name: weight.detach().norm() for name, weight in model.named_parameters() if weight.numel()
    }


def measure_norms(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `measure_norms`. Layer l is the residual stream entering block l; layer L is what leaves the last block."""
    n_layers, n = model.config.n_layers, model.config.n_prefix
    residuals = [trace[f"blocks.{layer}.resid_pre"] for layer in range(n_layers)] + [
        trace[f"blocks.{n_layers - 1}.resid_post"]
    ]
    sizes = torch.stack([residual.norm(dim=-1).mean(0) for residual in residuals])  # layer, token
    out = {f"weight[module={name}]": norm for name, norm in compute_weight_norms(model).items()}
    out["weight_total"] = torch.stack(list(compute_weight_norms(model).values())).norm()
    out["residual[group=patches]"] = sizes[:, n:].mean(1)
    if n:
        out["residual[group=prefix]"] = sizes[:, :n].mean(1)
    return out
