"""Direct logit attribution: the logits as a sum over what wrote them, exactly.

The final norm's scale is held at what it is. Shapes: a place is what is answered for, one an image,
or one a patch where the model answers for every patch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from toyvit.config import ModelConfig
from toyvit.instruments.weight_circuits import fold_norm
from toyvit.model import ViT
from toyvit.model.options import READOUTS, pool
from toyvit.surroundings import pin_torch

EMBEDDED = ("embed", "positions", "prefix")  # what the first block reads is made of
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
def weigh_tokens(config: ModelConfig) -> Float[Tensor, "place token"]:
    """How the read-out weighs tokens, rows that sum to 1.

    >>> config = ModelConfig(image_size=(4, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> weigh_tokens(config)  # CLS and two patches
    tensor([[1., 0., 0.]])
    """
    tokens = torch.eye(config.n_tokens)[None]
    return READOUTS[config.readout](tokens, config.n_prefix).reshape(-1, config.n_tokens)


class Directions(NamedTuple):
    """What a unit of the stream, over the final norm's scale, adds to each answer.

    And the constant that is added in any case. Of the model, or for each picture its own.
    """

    stream: Float[Tensor, "*image model label"]
    constant: Float[Tensor, "*image label"]


@pin_torch()
def logit_directions(model: ViT) -> Directions:
    """The directions of the logits.

    The norm's gain is folded in, and with LayerNorm its centring: x less its mean, times u, is x
    times (u less its mean).

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> directions = logit_directions(ViT(config))
    >>> directions.stream.shape, directions.constant
    (torch.Size([64, 3]), tensor([0., 0., 0.]))
    """
    weight, bias = fold_norm(model.ln_final, model.head)
    return Directions(weight.T, bias)


@pin_torch()
def answer_directions(model: ViT, classes: Int[Tensor, " image"]) -> Directions:
    """Of each picture the direction of its class's logit over the mean logit: one answer each.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> answer_directions(ViT(config), torch.tensor([0, 2])).stream.shape
    torch.Size([2, 64, 1])
    """
    stream, constant = logit_directions(model)
    above = stream - stream.mean(1, keepdim=True)
    return Directions(above.T[classes][..., None], (constant - constant.mean())[classes][:, None])


class Reading(NamedTuple):
    """Which tokens are read out, and of each picture how its places weigh them.

    Weights are the read-out's over the final norm's scale.
    """

    tokens: Bool[Tensor, " token"]
    weights: Float[Tensor, "image place read"]

    def project(self, written: Float[Tensor, "*image token model"], to: Directions) -> Tensor:
        """What has been written adds to each answer, (image place label).

        From (image token model), or (token model) where all images have the same.
        """
        return self.weights @ written[..., self.tokens, :] @ to.stream


@pin_torch()
def weigh_readout(model: ViT, trace: Mapping[str, Tensor]) -> Reading:
    """How the answers read the last stream. `trace` has the last layer's `resid_post`.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> weigh_readout(ViT(config), {"blocks.1.resid_post": torch.ones(6, 5, 64)}).weights.shape
    torch.Size([6, 1, 1])
    """
    last = trace[f"blocks.{model.config.n_layers - 1}.resid_post"]
    weights = weigh_tokens(model.config)
    tokens = weights.any(0)
    scale = model.ln_final.scale(pool(model.config, last)[:, tokens]).detach()
    return Reading(tokens, weights[:, tokens] / scale.mT)


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
    others = attribute_others(model, trace, logit_directions(model))
    parts = {name: part for name, part in others.items() if name in EMBEDDED}
    for layer in range(model.config.n_layers):
        heads = attribute_sources(model, trace, layer).sum(3).unbind(1)
        parts |= {f"a{layer}.h{head}": part for head, part in enumerate(heads)}
        if model.config.d_mlp:
            parts[f"m{layer}"] = others[f"m{layer}"]
    return parts | {"biases": others["biases"]}


@pin_torch()
def attribute_others(
    model: ViT, trace: Mapping[str, Tensor], to: Directions
) -> dict[str, Float[Tensor, "image place label"]]:
    """What `attribute_components` gives of all that is no head, to given directions."""
    reading = weigh_readout(model, trace)
    n_places = reading.weights.shape[1]
    parts = {
        name: reading.project(x, to) for name, x in _embedded_parts(model, trace["embed"]).items()
    }

    added = torch.stack([_added_biases(model, layer) for layer in range(model.config.n_layers)])
    always = added.sum(0)
    if model.config.embed_norm:
        always = always + model.get_parameter("ln_pre.bias").detach()
    biases = reading.project(always.expand(model.config.n_tokens, -1), to)
    constant = to.constant.expand(len(biases), -1)[:, None].expand(-1, n_places, -1)
    if model.config.d_mlp:
        for layer in range(model.config.n_layers):
            written = _written_by_mlp(model, trace, layer, reading.tokens)
            parts[f"m{layer}"] = reading.weights @ written @ to.stream
    return parts | {"biases": biases + constant}


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
    return _norm_parts(model, parts) if model.config.embed_norm else parts


def _norm_parts(model: ViT, parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parts of the embeddings as their norm hands them on, its bias left out."""
    scale = model.ln_pre.scale(torch.stack(torch.broadcast_tensors(*parts.values())).sum(0))
    return {name: (model.ln_pre.fold(part) / scale).detach() for name, part in parts.items()}


def _written_by_mlp(
    model: ViT, trace: Mapping[str, Tensor], layer: int, tokens: Bool[Tensor, " token"]
) -> Float[Tensor, "image read model"]:
    """What a layer's MLP adds to the stream at some tokens, its bias left out."""
    before, attended, after = (
        trace[f"blocks.{layer}.{name}"][:, tokens]
        for name in ("resid_pre", "attn_out", "resid_post")
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
    model: ViT, trace: Mapping[str, Tensor], layer: int, to: Directions | None = None
) -> Float[Tensor, "image head place key label"]:
    """What each head of a layer adds to each logit from each token that it reads, in logits.

    Or to other directions. `trace` has the values at `SITES`. Source: Gandelsman 2024, section 4.

    >>> from toyvit.config import ModelConfig
    >>> from toyvit.model.forward import trace
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> model = ViT(config)
    >>> cache = trace(model, torch.ones(6, 1, 8, 8), SITES)
    >>> attribute_sources(model, cache, layer=1).shape
    torch.Size([6, 1, 1, 5, 3])
    """
    reading = weigh_readout(model, trace)
    stream = (logit_directions(model) if to is None else to).stream
    output = model.layers[layer].attn.head_weights().o.detach()
    output = torch.einsum("hfm,...ml->...hfl", output, stream)

    pattern = trace[f"blocks.{layer}.attn.pattern"][:, :, reading.tokens]
    attended = reading.weights[:, None] @ pattern
    values = trace[f"blocks.{layer}.attn.v"].transpose(1, 2) @ output
    return attended[..., None] * values[:, :, None]


@pin_torch()
def attribute_neurons(
    model: ViT, trace: Mapping[str, Tensor], layer: int
) -> Float[Tensor, "image place neuron label"]:
    """What each MLP neuron of a layer adds to each logit, in logits.

    `trace` has the layer's `mlp.post` and the last layer's `resid_post`. The sum over neurons is
    the MLP's part in `attribute_components`.
    """
    reading = weigh_readout(model, trace)
    output = model.layers[layer].mlp.down.weight.detach().T @ logit_directions(model).stream
    activations = reading.weights @ trace[f"blocks.{layer}.mlp.post"][:, reading.tokens]
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
