"""Weights of a timm `VisionTransformer` to this ViT and back; the two compute the same function.

timm adds a position to the CLS token too: here it is part of the CLS token, and on the way back it is 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from toyvit.config import ModelConfig
from toyvit.errors import BadInput
from toyvit.model.vit import ViT

# Ours, timm's: the same tensor under another name.
_BLOCK = {
    "ln1.gain": "norm1.weight",
    "ln1.bias": "norm1.bias",
    "attn.qkv.weight": "attn.qkv.weight",
    "attn.qkv.bias": "attn.qkv.bias",
    "attn.out.weight": "attn.proj.weight",
    "attn.out.bias": "attn.proj.bias",
    "ln2.gain": "norm2.weight",
    "ln2.bias": "norm2.bias",
    "mlp.up.weight": "mlp.fc1.weight",
    "mlp.up.bias": "mlp.fc1.bias",
    "mlp.down.weight": "mlp.fc2.weight",
    "mlp.down.bias": "mlp.fc2.bias",
}
_ENDS = {
    "patch.bias": "patch_embed.proj.bias",
    "ln_final.gain": "norm.weight",
    "ln_final.bias": "norm.bias",
    "head.weight": "head.weight",
    "head.bias": "head.bias",
}


def _names(n_layers: int) -> dict[str, str]:
    blocks = {
        f"blocks.{layer}.{ours}": f"blocks.{layer}.{timm}"
        for layer in range(n_layers)
        for ours, timm in _BLOCK.items()
    }
    return _ENDS | blocks


def convert_from_timm(weights: Mapping[str, Tensor], config: ModelConfig) -> ViT:
    """A ViT with the weights of a timm model (its `state_dict()`).

    `config` states the shape: a CLS token, no registers, LayerNorm with epsilon 1e-6, learned positions, an MLP, all biases.
    """
    if (
        config.n_registers
        or not config.cls_token
        or config.positions != "learned"
        or config.norm != "layer"
        or not config.d_mlp
    ):
        raise BadInput(
            "timm's VisionTransformer has a CLS token, no registers, learned positions, LayerNorm and an MLP"
        )
    names = _names(config.n_layers)
    missing = [timm for timm in names.values() if timm not in weights]
    if missing or not config.attention_bias:
        raise BadInput(
            f"the timm weights lack {missing[0]}"
            if missing
            else "timm's attention has biases: attention_bias true"
        )
    ours = {name: weights[timm] for name, timm in names.items()}
    ours["patch.weight"] = weights["patch_embed.proj.weight"].flatten(1)
    ours["positions"] = weights["pos_embed"][0, 1:]
    ours["prefix"] = weights["cls_token"][0] + weights["pos_embed"][0, :1]
    model = ViT(config).to(next(iter(ours.values())).dtype)
    model.load_state_dict(ours)
    return model


def convert_to_timm(model: ViT) -> dict[str, Tensor]:
    """The state dict of the timm VisionTransformer that computes the same as this model."""
    config, ours = model.config, model.state_dict()
    size = config.stated("patch_size")
    timm = {timm: ours[name] for name, timm in _names(config.n_layers).items()}
    timm["patch_embed.proj.weight"] = ours["patch.weight"].unflatten(
        1, (config.stated("n_channels"), size, size)
    )
    timm["pos_embed"] = torch.cat([torch.zeros_like(ours["prefix"]), ours["positions"]])[None]
    timm["cls_token"] = ours["prefix"][None]
    return timm
