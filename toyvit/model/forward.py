"""Running a model and looking inside: pure functions on (model, images)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from toyvit.model import ViT
from toyvit.model.sites import select_sites
from toyvit.model.taps import Tap, editing, recording, untouched

Images = Float[Tensor, "image channel height width"]


def trace(model: ViT, images: Images, only: Iterable[str] = ("*",)) -> dict[str, Tensor]:
    """Values at the chosen sites, by full name. `only` takes names and shell patterns (`blocks.*.attn.pattern`)."""
    tap = recording(select_sites(only, model.config))
    with torch.no_grad():
        model(images, tap)
    return {site: tap.values[site] for site in model.sites() if site in tap.values}


def run_model(
    model: ViT, images: Images, tap: Tap = untouched
) -> Float[Tensor, "image *patch label"]:
    """Logits under an intervention, without gradients: `run(model, images, tap=replacing({...}))`."""
    with torch.no_grad():
        return model(images, tap)


def run_from(
    model: ViT, stream: Float[Tensor, "image token model"], block: int, tap: Tap = untouched
) -> Float[Tensor, "image *patch label"]:
    """Logits from the residual stream that enters a block, or, at the number of blocks, the read-out; without gradients."""
    with torch.no_grad():
        return model.unembed(model.run_blocks(stream, block, tap), tap)


def ablate_heads(
    model: ViT,
    heads: Iterable[tuple[int, int]],
    residual: Mapping[str, Tensor],
    ablation: Literal["zero", "mean"] = "zero",
) -> Float[Tensor, "image *patch label"]:
    """Logits with the outputs `attn.z` of some (layer, head) silenced, by zero or by their mean over images, token by token.

    `residual` is a trace with `blocks.*.resid_pre` and `blocks.*.attn.z`; the forward pass resumes behind the first attention
    that changes. A head whose W_O is 0 changes nothing.
    """
    heads = list(heads)
    first = min((layer for layer, _ in heads), default=0)

    def silenced(layer: int, z: Tensor) -> Tensor:
        z = z.clone()
        for _, head in (pair for pair in heads if pair[0] == layer):
            z[:, :, head] = (
                0 if ablation == "zero" else residual[f"blocks.{layer}.attn.z"][:, :, head].mean(0)
            )
        return z

    later = {layer for layer, _ in heads} - {first}
    tap = editing({f"blocks.{layer}.attn.z": partial(silenced, layer) for layer in later})
    block, z = model.blocks[first], silenced(first, residual[f"blocks.{first}.attn.z"])
    with torch.no_grad():
        written = block.attn.out(z.flatten(2))  # type: ignore[union-attr, operator]
        x = block.continue_after_attention(
            residual[f"blocks.{first}.resid_pre"] + written, untouched
        )  # type: ignore[operator]
    return run_from(model, x, first + 1, tap)
