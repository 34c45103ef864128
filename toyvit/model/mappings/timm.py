"""Weights of a timm `VisionTransformer` to this ViT and back; the two compute the same function.

timm adds a position to the CLS token too: here it is part of the CLS token, and on the way back it
is 0.
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
_OUTSIDE = {
    "patch.bias": "patch_embed.proj.bias",
    "ln_final.gain": "norm.weight",
    "ln_final.bias": "norm.bias",
    "head.weight": "head.weight",
    "head.bias": "head.bias",
}


def _list_names(n_layers: int) -> dict[str, str]:
    """timm's name of every tensor that only changes its name, by ours."""
    names = dict(_OUTSIDE)
    for layer in range(n_layers):
        prefix = f"blocks.{layer}."
        names |= {prefix + ours: prefix + timm for ours, timm in _BLOCK.items()}
    return names


def convert_from_timm(weights: Mapping[str, Tensor], config: ModelConfig) -> ViT:
    """A ViT with the weights of a timm model (its `state_dict()`), in their precision.

    `config` states the shape: a CLS token, no registers, LayerNorm with epsilon 1e-6, learned
    positions, an MLP, all biases. BadInput for any other, and for weights that lack a tensor.

    >>> config = ModelConfig(d_mlp=8, attention_bias=True, norm_epsilon=1e-6,
    ...     image_size=(8, 8), patch_size=4, n_channels=3, n_classes=5)
    >>> there = convert_to_timm(ViT(config))
    >>> convert_from_timm(there, config)(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 5])
    """
    names = _list_names(config.n_layers)
    _check_shape(weights, config, list(names.values()))

    ours = {name: weights[timm] for name, timm in names.items()}
    ours["patch.weight"] = weights["patch_embed.proj.weight"].flatten(1)
    ours["positions"] = weights["pos_embed"][0, 1:]
    ours["prefix"] = weights["cls_token"][0] + weights["pos_embed"][0, :1]

    model = ViT(config).to(next(iter(ours.values())).dtype)
    model.load_state_dict(ours)
    return model


def _check_shape(weights: Mapping[str, Tensor], config: ModelConfig, names: list[str]) -> None:
    """BadInput for a config that timm's model cannot have, or for a tensor that is not there."""
    _check_config(config)
    missing = [name for name in names if name not in weights]
    if missing:
        raise BadInput(f"the timm weights lack {missing[0]}")
    if not config.attention_bias:
        raise BadInput("timm's attention has biases: attention_bias true")


def _check_config(config: ModelConfig) -> None:
    """BadInput for a config that timm's model cannot have."""
    is_pre_norm = config.norm == "layer" and config.d_mlp > 0
    has_cls_alone = config.cls_token and not config.n_registers
    if not is_pre_norm or not has_cls_alone or config.positions != "learned":
        raise BadInput(
            "timm's VisionTransformer has a CLS token, no registers, learned positions, LayerNorm"
            f" and an MLP; got positions {config.positions!r}, norm {config.norm!r}, d_mlp"
            f" {config.d_mlp}, {config.n_prefix} tokens before the patches"
        )


def convert_to_timm(model: ViT) -> dict[str, Tensor]:
    """The state dict of the timm VisionTransformer that computes the same as this model.

    BadInput for a model that it cannot be.

    >>> config = ModelConfig(d_mlp=8, attention_bias=True, norm_epsilon=1e-6,
    ...     image_size=(8, 8), patch_size=4, n_channels=3, n_classes=5)
    >>> convert_to_timm(ViT(config))["pos_embed"].shape  # CLS and four patches
    torch.Size([1, 5, 64])
    """
    config = model.config
    _check_config(config)
    ours = model.state_dict()
    timm = {timm: ours[name] for name, timm in _list_names(config.n_layers).items()}

    size = config.stated("patch_size")
    patch_shape = (config.stated("n_channels"), size, size)
    timm["patch_embed.proj.weight"] = ours["patch.weight"].unflatten(1, patch_shape)
    timm["pos_embed"] = torch.cat([torch.zeros_like(ours["prefix"]), ours["positions"]])[None]
    timm["cls_token"] = ours["prefix"][None]
    return timm
