"""Direct logit attribution: the logits as a sum over what wrote them, exactly.

The final norm's scale is held at what it is. Shapes: a place is what is answered for, one an image,
or one a patch where the model answers for every patch.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from toyvit.instruments.weight_circuits import fold_norms
from toyvit.model import ViT
from toyvit.model.normalization import LayerNorm
from toyvit.model.options import READOUTS
from toyvit.surroundings import pin_torch

# Sites whose values the decomposition reads; `attribute_neurons` also reads `blocks.*.mlp.post`.
SITES = (
    "embed",
    "blocks.*.attn.pattern",
    "blocks.*.attn.v",
    "blocks.*.attn_out",
    "blocks.*.resid_pre",
    "blocks.*.resid_post",
)


@pin_torch()
def readout_weights(model: ViT) -> Float[Tensor, "place token"]:
    """How the read-out weighs tokens, rows that sum to 1.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(4, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> readout_weights(ViT(config))  # CLS and two patches
    tensor([[1., 0., 0.]])
    """
    n_tokens = model.config.n_tokens
    tokens = torch.eye(n_tokens)[None]
    return READOUTS[model.config.readout](tokens, model.config.n_prefix).reshape(-1, n_tokens)


@pin_torch()
def logit_directions(model: ViT) -> tuple[Float[Tensor, "model label"], Float[Tensor, " label"]]:
    """What a unit of the stream, over the final norm's scale, adds to each logit; and a constant.

    The norm's gain is folded in, and with LayerNorm its centring: x less its mean, times u, is x
    times (u less its mean). The constant is what is added in any case.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> directions, constant = logit_directions(ViT(config))
    >>> directions.shape, constant
    (torch.Size([64, 3]), tensor([0., 0., 0.]))
    """
    head = fold_norms(model).head
    return head.weight.detach().T, head.bias.detach()


@pin_torch()
def scale_readout(model: ViT, trace: Mapping[str, Tensor]) -> Float[Tensor, "image place token"]:
    """The read-out's weight of each token over the final norm's scale there.

    `trace` has the last layer's `resid_post`.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> scale_readout(ViT(config), {"blocks.1.resid_post": torch.ones(6, 5, 64)}).shape
    torch.Size([6, 1, 5])
    """
    last = trace[f"blocks.{model.config.n_layers - 1}.resid_post"]
    if not isinstance(model.ln_final, LayerNorm):
        return readout_weights(model).expand(len(last), -1, -1)
    return readout_weights(model) / model.ln_final.scale(last).detach()[:, None, :, 0]


@pin_torch()
def attribute_components(
    model: ViT, trace: Mapping[str, Tensor]
) -> dict[str, Float[Tensor, "image place label"]]:
    """Each logit as a sum over what wrote to the residual stream, in logits.

    Components are `embed`, `positions`, `prefix` (CLS and registers), heads `a0.h0`, MLPs `m0`, and
    `biases`: all that no component decides, of the output projections, the MLPs, the final norm and
    the head. They sum to the model's logits, to rounding. `trace` has the values at `SITES`.

    >>> from toyvit.config import ModelConfig
    >>> from toyvit.model.forward import trace
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> model = ViT(config)
    >>> images = torch.ones(6, 1, 8, 8)
    >>> parts = attribute_components(model, trace(model, images, SITES))
    >>> list(parts)
    ['embed', 'positions', 'prefix', 'a0.h0', 'a1.h0', 'biases']
    >>> torch.allclose(sum(parts.values())[:, 0], model(images), atol=1e-5)
    True
    """
    unembed, constant = logit_directions(model)
    readout = scale_readout(model, trace)
    config = model.config
    n_images = len(readout)

    def attribute(written: Tensor) -> Tensor:
        """From (image token model), or (token model) where all images have the same."""
        written = written.expand(n_images, -1, -1)
        return torch.einsum("ipt,itm,ml->ipl", readout, written, unembed)

    parts = {name: attribute(x) for name, x in _embedded_parts(model, trace["embed"]).items()}
    biases = constant.expand(n_images, len(readout_weights(model)), -1)
    for layer in range(config.n_layers):
        heads = attribute_sources(model, trace, layer).sum(3).unbind(1)
        parts |= {f"a{layer}.h{head}": part for head, part in enumerate(heads)}
        added = _added_biases(model, layer)
        if config.d_mlp:
            parts[f"m{layer}"] = attribute(_written_by_mlp(model, trace, layer))
        biases = biases + attribute(added.expand(config.n_tokens, -1))
    return parts | {"biases": biases}


def _embedded_parts(model: ViT, embed: Tensor) -> dict[str, Tensor]:
    """What enters the first block: (image token model), or (token model) if the same for all."""
    n_prefix = model.config.n_prefix
    empty = torch.zeros(model.config.n_tokens, model.config.d_model)
    before = empty[:n_prefix]
    parts = {"embed": torch.cat([before.expand(len(embed), -1, -1), embed], 1)}
    if model.positions is not None:
        parts["positions"] = torch.cat([before, model.positions.detach()])
    if n_prefix:
        parts["prefix"] = torch.cat([model.prefix.detach(), empty[n_prefix:]])
    return parts


def _written_by_mlp(model: ViT, trace: Mapping[str, Tensor], layer: int) -> Tensor:
    """What a layer's MLP adds to the stream, its bias left out: (image token model)."""
    before, attended, after = (
        trace[f"blocks.{layer}.{name}"] for name in ("resid_pre", "attn_out", "resid_post")
    )
    bias = model.layers[layer].mlp.down.bias.detach() if model.config.bias else 0
    return after - before - attended - bias


def _added_biases(model: ViT, layer: int) -> Float[Tensor, " model"]:
    """What a layer adds to every token whatever it reads."""
    block = model.layers[layer]
    added = torch.zeros(model.config.d_model)
    if model.config.attention_bias:
        added = added + block.attn.out.bias.detach()
    if model.config.d_mlp and model.config.bias:
        added = added + block.mlp.down.bias.detach()
    return added


@pin_torch()
def attribute_sources(
    model: ViT, trace: Mapping[str, Tensor], layer: int
) -> Float[Tensor, "image head place key label"]:
    """What each head of a layer adds to each logit from each token that it reads, in logits.

    `trace` has the values at `SITES`. Source: Gandelsman 2024, section 4.

    >>> from toyvit.config import ModelConfig
    >>> from toyvit.model.forward import trace
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> model = ViT(config)
    >>> cache = trace(model, torch.ones(6, 1, 8, 8), SITES)
    >>> attribute_sources(model, cache, layer=1).shape
    torch.Size([6, 1, 1, 5, 3])
    """
    unembed, _ = logit_directions(model)
    readout = scale_readout(model, trace)
    output = model.layers[layer].attn.head_weights().o.detach() @ unembed
    attended = torch.einsum("ipq,ihqk->ihpk", readout, trace[f"blocks.{layer}.attn.pattern"])
    values = torch.einsum("ikhf,hfl->ihkl", trace[f"blocks.{layer}.attn.v"], output)
    return attended[..., None] * values[:, :, None]


@pin_torch()
def attribute_neurons(
    model: ViT, trace: Mapping[str, Tensor], layer: int
) -> Float[Tensor, "image place neuron label"]:
    """What each MLP neuron of a layer adds to each logit, in logits.

    `trace` has the layer's `mlp.post` and the last layer's `resid_post`. The sum over neurons is
    the MLP's part in `attribute_components`.
    """
    unembed, _ = logit_directions(model)
    readout = scale_readout(model, trace)
    output = model.layers[layer].mlp.down.weight.detach().T @ unembed
    activations = torch.einsum("ipt,itn->ipn", readout, trace[f"blocks.{layer}.mlp.post"])
    return activations[..., None] * output


@pin_torch()
def attribute_patches(
    model: ViT, trace: Mapping[str, Tensor]
) -> Float[Tensor, "image place key label"]:
    """What all heads together add to each logit from each token that they read, in logits.

    The spatial decomposition of the answer. `trace` has the values at `SITES`.
    """
    layers = range(model.config.n_layers)
    return torch.stack([attribute_sources(model, trace, layer).sum(1) for layer in layers]).sum(0)
