"""Running a model and looking inside: pure functions on (model, images)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import partial

import torch
from torch import Tensor

from toyvit.errors import BadInput, choose
from toyvit.model import ViT
from toyvit.model.shapes import Images, Logits, Residual
from toyvit.model.sites import select_sites
from toyvit.model.taps import Tap, editing, recording, replacing, untouched
from toyvit.model.views import Cache
from toyvit.surroundings import pin_torch

HEAD_ABLATIONS = ("zero", "mean")


@pin_torch()
def trace(model: ViT, images: Images, only: str | Iterable[str] = "*") -> dict[str, Tensor]:
    """Values at the chosen sites, by full name, in the order of the forward pass.

    `only` takes names and shell patterns, or one; BadInput for one that fits no site. The shapes
    are those of `toyvit.model.sites.SITES`; no gradients.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> cache = trace(ViT(config), torch.zeros(5, 1, 8, 8), ["blocks.*.attn.pattern"])
    >>> {site: tuple(value.shape) for site, value in cache.items()}
    {'blocks.0.attn.pattern': (5, 1, 5, 5), 'blocks.1.attn.pattern': (5, 1, 5, 5)}
    """
    tap = recording(select_sites(only, model.config))
    with torch.no_grad():
        model(images, tap)
    order = list(model.sites())
    old = [site for site in tap.values if site not in order]
    return Cache({site: tap.values[site] for site in [*order, *old] if site in tap.values})


@pin_torch()
def run_model(model: ViT, images: Images, tap: Tap = untouched) -> Logits:
    """Logits, (image, label), under an intervention if one is given, without gradients.

    A patch's answer each, (image, patch, label), for read-outs that answer for every patch.
    BadInput for a tap that names a site which the model does not have.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> silent = editing({"blocks.0.attn_out": torch.zeros_like})
    >>> run_model(ViT(config), torch.zeros(5, 1, 8, 8), tap=silent).shape
    torch.Size([5, 3])
    """
    with torch.no_grad():
        return model(images, tap)


@pin_torch()
def run_from(model: ViT, residual: Residual, layer: int, tap: Tap = untouched) -> Logits:
    """Logits from the residual stream that enters a layer, without gradients.

    At the number of layers, from the stream that the read-out reads. BadInput for an edit, a
    replacement or a recording of a site that lies before the layer: it would never be asked.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> model = ViT(config)
    >>> images = torch.ones(5, 1, 8, 8)
    >>> residual = trace(model, images)["blocks.1.resid_pre"]
    >>> torch.equal(run_from(model, residual, 1), run_model(model, images))
    True
    """
    sites = tap.sites if isinstance(tap, editing | replacing | recording) else ()
    before = sorted(site for site in sites if not _lies_after(site, layer))
    if before:
        raise BadInput(f"{before[0]} lies before layer {layer}: a tap there is never asked")
    with torch.no_grad():
        return model.unembed(model.run_blocks(residual, layer, tap), tap)


def _lies_after(site: str, layer: int) -> bool:
    """Whether a site is in a layer, in a later one, or in what reads the last stream."""
    first, _, rest = site.partition(".")
    if first == "blocks":
        return int(rest.split(".")[0]) >= layer
    return first in ("ln_final", "readout", "logits")


@pin_torch()
def ablate_heads(
    model: ViT,
    heads: Iterable[tuple[int, int]],
    residual: Mapping[str, Tensor],
    ablation: str = "zero",
) -> Logits:
    """Logits with the outputs `attn.z` of some (layer, head) replaced by 0 or by their mean.

    The mean is over images, token by token. `residual` is a trace with `blocks.*.resid_pre` and
    `blocks.*.attn.z`; the forward pass resumes behind the first attention that changes. A head
    whose W_O is 0 changes nothing. BadInput for another ablation than `zero` or `mean`.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> model = ViT(config)
    >>> images = torch.ones(5, 1, 8, 8)
    >>> ablate_heads(model, [(0, 0)], trace(model, images), "mean").shape
    torch.Size([5, 3])
    """
    choose(ablation, HEAD_ABLATIONS, "ablation")
    by_layer: dict[int, list[int]] = defaultdict(list)
    for layer, head in heads:
        by_layer[layer].append(head)

    def ablate(layer: int, z: Tensor) -> Tensor:
        z = z.clone()
        for head in by_layer[layer]:
            mean = residual[f"blocks.{layer}.attn.z"][:, :, head].mean(0)
            z[:, :, head] = mean if ablation == "mean" else 0
        return z

    first = min(by_layer, default=0)
    later = [layer for layer in by_layer if layer != first]
    tap = editing({f"blocks.{layer}.attn.z": partial(ablate, layer) for layer in later})

    block = model.layers[first]
    z = ablate(first, residual[f"blocks.{first}.attn.z"])
    with torch.no_grad():
        stream = residual[f"blocks.{first}.resid_pre"] + block.attn.out(z.flatten(2))
        stream = block.continue_after_attention(stream, untouched)
    return run_from(model, stream, first + 1, tap)
