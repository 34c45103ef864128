"""Direct logit attribution: the logits as a sum over what wrote them, exact, with the final norm's scale held."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from toyvit.model import ViT
from toyvit.model.options import READOUTS, LayerNorm, RMSNorm

# Sites whose values the decomposition reads; `attribute_neurons` also reads `blocks.*.mlp.post`.
SITES = (
    "embed",
    *(
        f"blocks.*.{name}"
        for name in ("attn.pattern", "attn.v", "attn_out", "resid_pre", "resid_post")
    ),
)


def readout_weights(model: ViT) -> Float[Tensor, "place token"]:
    """How the read-out weighs tokens: one place for an answer an image, a place a patch for an answer a patch."""
    tokens = torch.eye(model.config.n_tokens)[None]
    return READOUTS[model.config.readout](tokens, model.config.n_prefix).reshape(
        -1, model.config.n_tokens
    )


def logit_directions(model: ViT) -> tuple[Float[Tensor, "model label"], Float[Tensor, " label"]]:
    """What a unit of the residual stream, over the final norm's scale, adds to each logit; and what is added in any case.

    The norm's gain is folded in, and with LayerNorm its centring: x less its mean, times u, is x times (u less its mean).
    """
    norm, unembed = model.ln_final, model.head.weight.detach().T
    bias = torch.zeros(unembed.shape[1]) if model.head.bias is None else model.head.bias.detach()
    if isinstance(norm, LayerNorm):
        bias = bias + norm.bias.detach() @ unembed
        unembed = norm.gain.detach()[:, None] * unembed
        if not isinstance(norm, RMSNorm):
            unembed = unembed - unembed.mean(0)
    return unembed, bias


def scale_readout(model: ViT, trace: Mapping[str, Tensor]) -> Float[Tensor, "image place token"]:
    """The read-out's weight of each token over the final norm's scale there."""
    last = trace[f"blocks.{model.config.n_layers - 1}.resid_post"]
    if not isinstance(model.ln_final, LayerNorm):
        return readout_weights(model).expand(len(last), -1, -1)
    return readout_weights(model) / model.ln_final.scale(last).detach()[:, None, :, 0]


def attribute_components(
    model: ViT, trace: Mapping[str, Tensor]
) -> dict[str, Float[Tensor, "image place label"]]:
    """Each logit as a sum: `embed`, `positions`, `prefix` (CLS and registers), `a0.h0` ..., `m0` ..., `biases`.

    A trace has the values at `SITES`. The sum over components is the model's logits (to rounding). `biases` are all that no
    component decides: of the output projections, the MLPs, the final norm and the head.
    """
    (unembed, constant), seen = logit_directions(model), scale_readout(model, trace)
    config, n = model.config, model.config.n_prefix

    def direct(written: Tensor) -> Tensor:
        """From (image token model), or (token model) where all images have the same."""
        return torch.einsum("ipt,itm,ml->ipl", seen, written.expand(len(seen), -1, -1), unembed)

    empty = torch.zeros(config.n_tokens, config.d_model)
    found = {"embed": direct(torch.cat([empty[:n].expand(len(seen), -1, -1), trace["embed"]], 1))}
    if model.positions is not None:
        found["positions"] = direct(torch.cat([empty[:n], model.positions.detach()]))
    if n:
        found["prefix"] = direct(torch.cat([model.prefix.detach(), empty[n:]]))
    biases = constant.expand(len(seen), len(readout_weights(model)), -1)
    for layer, block in enumerate(model.blocks):
        for head, contribution in enumerate(
            attribute_sources(model, trace, layer).sum(3).unbind(1)
        ):
            found[f"a{layer}.h{head}"] = contribution
        here = {
            name: trace[f"blocks.{layer}.{name}"]
            for name in ("resid_pre", "attn_out", "resid_post")
        }
        added = torch.zeros(config.d_model)
        if config.attention_bias:
            added = added + block.attn.out.bias.detach()  # type: ignore[union-attr, operator]
        if config.d_mlp:
            shift = block.mlp.down.bias.detach() if config.bias else 0  # type: ignore[union-attr, operator]
            found[f"m{layer}"] = direct(
                here["resid_post"] - here["resid_pre"] - here["attn_out"] - shift
            )
            added = added + shift
        biases = biases + direct(added.expand(config.n_tokens, -1))
    return found | {"biases": biases}


def attribute_sources(
    model: ViT, trace: Mapping[str, Tensor], layer: int
) -> Float[Tensor, "image head place key label"]:
    """What each head of a layer adds to each logit from each token that it reads (Gandelsman 2024, section 4)."""
    unembed, seen = logit_directions(model)[0], scale_readout(model, trace)
    output = model.blocks[layer].attn.head_weights()[3].detach() @ unembed  # type: ignore[union-attr, operator]
    attended = torch.einsum("ipq,ihqk->ihpk", seen, trace[f"blocks.{layer}.attn.pattern"])
    values = torch.einsum("ikhf,hfl->ihkl", trace[f"blocks.{layer}.attn.v"], output)
    return attended[..., None] * values[:, :, None]


def attribute_neurons(
    model: ViT, trace: Mapping[str, Tensor], layer: int
) -> Float[Tensor, "image place neuron label"]:
    """What each MLP neuron of a layer adds to each logit."""
    unembed, seen = logit_directions(model)[0], scale_readout(model, trace)
    output = model.blocks[layer].mlp.down.weight.detach().T @ unembed  # type: ignore[union-attr, operator]
    return torch.einsum("ipt,itn->ipn", seen, trace[f"blocks.{layer}.mlp.post"])[..., None] * output


def attribute_patches(
    model: ViT, trace: Mapping[str, Tensor]
) -> Float[Tensor, "image place key label"]:
    """The spatial decomposition of the answer: what all heads together add to each logit from each token that they read."""
    return torch.stack(
        [attribute_sources(model, trace, layer).sum(1) for layer in range(model.config.n_layers)]
    ).sum(0)
