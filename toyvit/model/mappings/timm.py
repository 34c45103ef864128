"""Weights of a timm `VisionTransformer` to this ViT and back; the two compute the same function."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from toyvit.config import ModelConfig
from toyvit.errors import BadInput
from toyvit.model.mappings.assembly import assemble, infer_config, sort_tensors
from toyvit.model.mappings.families import TIMM
from toyvit.model.vit import ViT

# What timm calls our activations, and how it pools what our read-outs read.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu-tanh": "gelu_tanh",
    "quick-gelu": "quick_gelu",
    "relu": "relu",
}
POOLS = {"cls": "token", "mean": "avg", "pooled": "avg"}


def convert_from_timm(
    weights: Mapping[str, Tensor], config: ModelConfig, norm_epsilon: float | None = None
) -> ViT:
    """A ViT with the weights of a timm model (its `state_dict()`), in their precision.

    `config` states the model; BadInput where it is not that of the weights, and for weights that
    lack a tensor or have more of them. Weights do not tell the epsilon of norms: timm's is 1e-6 (in
    models with a norm after the embedding 1e-5), and `config` must say the same; give
    `norm_epsilon` for a model that was built with another.

    >>> config = ModelConfig(d_mlp=8, attention_bias=True, norm_epsilon=1e-6,
    ...     image_size=(8, 8), patch_size=4, n_channels=3, n_classes=5)
    >>> there = convert_to_timm(ViT(config))
    >>> convert_from_timm(there, config)(torch.zeros(2, 3, 8, 8)).shape
    torch.Size([2, 5])
    """
    _check_config(config)
    _check_epsilon(config, norm_epsilon)
    parts = sort_tensors(weights, TIMM)
    freely = ("attention_bias", "bias")  # where they are false, biases of 0 are left out
    stated = {name: value for name, value in vars(config).items() if name not in freely}
    infer_config(parts, TIMM, stated)  # refuses what the two say differently
    return assemble(parts, config)


def _check_epsilon(config: ModelConfig, there: float | None) -> None:
    """BadInput where norms here and there would differ: nothing else would show it."""
    usual = 1e-5 if config.embed_norm else 1e-6
    expected = usual if there is None else there
    if config.norm_epsilon != expected:
        raise BadInput(
            f"norm_epsilon is {config.norm_epsilon:g} here and {expected:g} in timm's model:"
            f" say norm_epsilon={config.norm_epsilon:g} if it was built with that"
        )


def _check_config(config: ModelConfig) -> None:
    """BadInput for a config that timm's model cannot have."""
    problems = {
        f"norm {config.norm!r} (layer)": config.norm != "layer",
        "no MLP (d_mlp above 0)": not config.d_mlp,
        f"positions {config.positions!r} (learned, sincos)": config.positions
        not in ("learned", "sincos"),
        f"mask {config.mask!r} (bidirectional)": config.mask != "bidirectional",
        f"readout {config.readout!r} ({', '.join(POOLS)})": config.readout not in POOLS,
        f"activation {config.activation!r} ({', '.join(ACTIVATIONS)})": config.activation
        not in ACTIVATIONS,
        "biases in the patch embedding beside embed_norm": config.embed_norm and config.bias,
    }
    wrong = [text for text, is_wrong in problems.items() if is_wrong]
    if wrong:
        raise BadInput(
            "timm's VisionTransformer has no such model (in brackets what it has): "
            + "; ".join(wrong)
        )


def convert_to_timm(model: ViT, norm_epsilon: float | None = None) -> dict[str, Tensor]:
    """The state dict of the timm VisionTransformer that computes the same as this model.

    Its arguments are those of `describe_timm`. BadInput for a model that it cannot be, and where
    norms have another epsilon than timm's 1e-6 (1e-5 with a norm after the embedding), which the
    weights do not tell: give `norm_epsilon` when the model there is built with it.

    >>> config = ModelConfig(d_mlp=8, attention_bias=True, norm_epsilon=1e-6,
    ...     image_size=(8, 8), patch_size=4, n_channels=3, n_classes=5)
    >>> convert_to_timm(ViT(config))["pos_embed"].shape  # CLS and four patches
    torch.Size([1, 5, 64])
    """
    config = model.config
    _check_config(config)
    _check_epsilon(config, norm_epsilon)
    ours = {name: value.detach() for name, value in model.state_dict().items()}
    names = TIMM.name_tensors(config.n_layers)
    if config.readout == "pooled":
        ours = {name.replace("ln_final", "ln_pooled"): value for name, value in ours.items()}
    timm = {theirs: ours[name] for name, theirs in names.items() if name in ours}

    size = config.stated("patch_size")
    patch_shape = (config.stated("n_channels"), size, size)
    timm["patch_embed.proj.weight"] = ours["patch.weight"].unflatten(1, patch_shape)
    n_cls = int(config.cls_token)
    before = torch.zeros_like(ours["prefix"])
    positions = ours.get("positions", model.positions)
    assert positions is not None
    timm["pos_embed"] = torch.cat([before, positions.detach()])[None]
    if n_cls:
        timm["cls_token"] = ours["prefix"][None, :1]
    if config.n_registers:
        timm["reg_token"] = ours["prefix"][None, n_cls:]
    return timm | _list_zero_biases(timm, config)


def _list_zero_biases(timm: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Biases that timm's layers always have, of 0 where this model has none."""
    zeros = {}
    for name, weight in timm.items():
        layer = name.removesuffix(".weight")
        is_always = layer.endswith(("proj", "qkv", "fc1", "fc2")) or layer == "head"
        is_embedding = layer == "patch_embed.proj" and config.embed_norm
        if name.endswith(".weight") and is_always and not is_embedding:
            zeros[f"{layer}.bias"] = weight.new_zeros(len(weight))
    return {name: value for name, value in zeros.items() if name not in timm}


def describe_timm(config: ModelConfig) -> dict[str, object]:
    """The arguments of timm's `VisionTransformer` for a model of this config.

    Norms are LayerNorms of `config.norm_epsilon`: `norm_layer=partial(LayerNorm, eps=...)`.
    BadInput as `convert_to_timm`.

    >>> config = ModelConfig(d_mlp=128, image_size=(8, 8), patch_size=4, n_channels=3, n_classes=5)
    >>> describe_timm(config)["depth"]
    2
    """
    _check_config(config)
    return {
        "img_size": config.stated("image_size"),
        "patch_size": config.stated("patch_size"),
        "in_chans": config.stated("n_channels"),
        "num_classes": config.stated("n_classes"),
        "embed_dim": config.d_model,
        "depth": config.n_layers,
        "num_heads": config.n_heads,
        "mlp_ratio": config.d_mlp / config.d_model,
        "act_layer": ACTIVATIONS[config.activation],
        "class_token": config.cls_token,
        "reg_tokens": config.n_registers,
        "pre_norm": config.embed_norm,
        "global_pool": POOLS[config.readout],
        "fc_norm": config.readout == "pooled",
    }
