"""Neurons as memories: does what fires a neuron agree with the class that it promotes?"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from toyvit.data.task import Batch
from toyvit.instruments.key_value import average_by_class, read_values, select_readout
from toyvit.model import ViT

TOP = 16  # pictures that fire a neuron most


def correlate_classes(
    fires: Float[Tensor, "label neuron"], promoted: Float[Tensor, "neuron label"]
) -> Float[Tensor, " neuron"]:
    """Correlation over classes of a neuron's mean activation and the logits of its value; NaN for one that never changes."""
    there = ~fires.isnan().any(1)
    one, other = fires[there].T.double(), promoted[:, there].double()
    one, other = one - one.mean(1, keepdim=True), other - other.mean(1, keepdim=True)
    size = one.norm(dim=1) * other.norm(dim=1)
    return torch.where(
        size > 1e-12, (one * other).sum(1) / size.clamp(min=1e-12), torch.nan
    ).float()


def score_agreement(
    activations: Float[Tensor, "image neuron"],
    target: Int[Tensor, " image"],
    promoted: Int[Tensor, " neuron"],
) -> Float[Tensor, " neuron"]:
    """Share of the 16 pictures that fire a neuron most (all, where there are fewer) whose class is the one it promotes most."""
    top = activations.topk(min(TOP, len(activations)), 0).indices
    return (target[top] == promoted).float().mean(0)


def measure_memories(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `measure_memories`, for models with an MLP, at the tokens that the head reads.

    `promoted`: the class whose logit a neuron's value raises most. `score_agreement`: share of the pictures that fire it most that
    are of this class, 0 to 1; beside its layer's mean stands `agreement_chance`, the share of all pictures that are.
    `correlate_classes`: of mean activation and promoted logit over classes, -1 to 1.
    """
    assert batch.classes is not None
    out: dict[str, list[Tensor]] = {}
    for layer in range(model.config.n_layers):
        activations = select_readout(trace[f"blocks.{layer}.mlp.post"], model)
        logits = read_values(model, layer)
        promoted = logits.argmax(-1)
        share = torch.bincount(batch.classes, minlength=logits.shape[1]) / len(batch.classes)
        agrees = score_agreement(activations, batch.classes, promoted)
        follows = correlate_classes(
            average_by_class(activations, batch.classes, logits.shape[1]), logits
        )
        found = {
            "promoted": promoted,
            "agreement": agrees,
            "agreement_mean": agrees.mean(),
            "agreement_chance": share[promoted].mean(),
            "correlation": follows,
            "correlation_mean": follows.nanmean(),
        }
        for name, value in found.items():
            out.setdefault(name, []).append(value)
    return {name: torch.stack(several) for name, several in out.items()}
