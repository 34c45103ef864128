"""Lenses: what the model would answer from the residual stream of each layer, at every token."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from toyvit.errors import BadInput
from toyvit.model import ViT
from toyvit.model.taps import untouched
from toyvit.stats import kl_between

RESIDUALS = ("blocks.*.resid_pre", "blocks.*.resid_post")
Residuals = Float[Tensor, "layer image token model"]
Logits = Float[Tensor, "layer image token label"]


def stack_residuals(model: ViT, trace: Mapping[str, Tensor]) -> Residuals:
    """The residual stream entering each block and, last, leaving the last one."""
    n = model.config.n_layers
    return torch.stack(
        [trace[f"blocks.{layer}.resid_pre"] for layer in range(n)]
        + [trace[f"blocks.{n - 1}.resid_post"]]
    )


def apply_logit_lens(model: ViT, stream: Residuals) -> Logits:
    """The final norm and the head at every layer and token (nostalgebraist 2020).

    The last layer, at the token that is read out, is the model's answer exactly; under the mean read-out its mean over patches.
    """
    with torch.no_grad():
        return model.head(model.ln_final(stream, untouched))


@dataclass(frozen=True)
class TunedLens:
    """A translator a layer, h + h A + b before the final norm and head (Belrose 2023, section 3.1); the last layer has none."""

    matrix: Float[Tensor, "layer model model2"]
    offset: Float[Tensor, "layer model"]
    step: int  # the checkpoint it was fitted on

    def __call__(self, model: ViT, stream: Residuals) -> Logits:
        moved = (
            stream[:-1]
            + torch.einsum("litm,lmn->litn", stream[:-1], self.matrix)
            + self.offset[:, None, None]
        )
        return apply_logit_lens(model, torch.cat([moved, stream[-1:]]))

    def save(self, path: Path) -> None:
        save_file({"matrix": self.matrix, "offset": self.offset}, path, {"step": str(self.step)})


def load_lens(path: Path, model: ViT) -> TunedLens:
    """A saved lens; BadInput where it is not one, or of another model."""
    try:
        from safetensors import safe_open

        parts = load_file(path)
        with safe_open(path, "pt") as file:
            step = int(file.metadata()["step"])
        lens = TunedLens(parts["matrix"], parts["offset"], step)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} holds no tuned lens: {error}") from error
    shape = (model.config.n_layers, model.config.d_model, model.config.d_model)
    if tuple(lens.matrix.shape) != shape:
        raise BadInput(
            f"{path} is a lens of (layers, width, width) {tuple(lens.matrix.shape)}, this model is {shape}"
        )
    return lens


def fit_lens(
    model: ViT, stream: Residuals, step: int = 0, n_steps: int = 300, learning_rate: float = 2e-3
) -> TunedLens:
    """The tuned lens of least KL(final, lens) over all tokens of these pictures, nats; the final answer is each token's own.

    Starts at the logit lens and keeps the best iterate of each layer, so that on these pictures no layer is worse than
    the logit lens. Full-batch Adam: the same twice.
    """
    n_layers, d = model.config.n_layers, model.config.d_model
    final = apply_logit_lens(model, stream[-1:]).log_softmax(-1)
    matrix = torch.zeros(n_layers, d, d, requires_grad=True)
    offset = torch.zeros(n_layers, d, requires_grad=True)
    optimizer = torch.optim.Adam([matrix, offset], learning_rate)
    best = torch.full((n_layers,), math.inf)
    kept = [matrix.detach().clone(), offset.detach().clone()]
    for _ in range(n_steps + 1):
        moved = (
            stream[:-1]
            + torch.einsum("litm,lmn->litn", stream[:-1], matrix)
            + offset[:, None, None]
        )
        said = model.head(model.ln_final(moved, untouched)).log_softmax(-1)
        distance = (
            F.kl_div(said, final.expand_as(said), log_target=True, reduction="none")
            .sum(-1)
            .mean((1, 2))
        )
        better = distance.detach() < best
        best = torch.where(better, distance.detach(), best)
        for saved, now in zip(kept, (matrix, offset), strict=True):
            saved[better] = now.detach()[better]
        gradients = torch.autograd.grad(distance.sum(), [matrix, offset])
        matrix.grad, offset.grad = gradients
        optimizer.step()
    return TunedLens(kept[0], kept[1], step)


def kl_to_final(logits: Float[Tensor, "layer *place label"]) -> Float[Tensor, "layer *place"]:
    """KL(final, lens) of every place's own final answer, nats: 0 at the last layer."""
    return kl_between(logits[-1:], logits)


def find_decision_layer(answers: Int[Tensor, "layer image"]) -> Int[Tensor, " image"]:
    """The layer from which on the lens gives the last layer's answer, 0 (the embedding) to L (only the last)."""
    agrees = (answers == answers[-1]).flip(0).cumprod(0)
    return len(answers) - agrees.sum(0)


def intersection_over_union(
    said: Int[Tensor, "image patch"], shown: Int[Tensor, "image patch"], n_labels: int
) -> Tensor:
    """Mean over labels of (patches that are and are called so) / (patches that are or are called so), 0 to 1.

    Labels that are neither shown nor said anywhere are left out.
    """
    both = torch.stack(
        [((said == label) & (shown == label)).sum() for label in range(n_labels)]
    ).double()
    either = torch.stack(
        [((said == label) | (shown == label)).sum() for label in range(n_labels)]
    ).double()
    return (both / either)[either > 0].mean()
