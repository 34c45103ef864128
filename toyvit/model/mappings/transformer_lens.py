"""Weights of this ViT to TransformerLens's `HookedTransformer`; the blocks compute the same.

A HookedTransformer embeds words: it is given the stream that enters our first block, with
`start_at_layer=0`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from toyvit.config import ModelConfig
from toyvit.errors import BadInput
from toyvit.model.options import count_outputs
from toyvit.model.vit import ViT

# What TransformerLens calls our norms and activations.
NORMS = {"layer": "LN", "rms": "RMS", "none": None}
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu-tanh": "gelu_pytorch_tanh",
    "relu": "relu",
    "solu": "solu",
}
MASKS = {"bidirectional": "bidirectional", "causal": "causal"}
ATTENTION = ("W_Q", "W_K", "W_V", "W_O", "b_Q", "b_K", "b_V", "b_O")
MLP = ("W_in", "b_in", "W_out", "b_out")
# Which tokens' logits are the answer, and how.
READS = {
    "cls": "of token 0",
    "last": "of the last token",
    "mean": "mean over the patches, which come after {n_prefix} other tokens",
    "every": "of the patches, which come after {n_prefix} other tokens",
    "pixels": "of the patches, which come after {n_prefix} other tokens",
}


def check_transformer_lens(config: ModelConfig) -> None:
    """BadInput for a model whose blocks no HookedTransformer can be.

    >>> check_transformer_lens(ModelConfig(mask="local"))
    Traceback (most recent call last):
    toyvit.errors.BadInput: TransformerLens's HookedTransformer has no such model: mask 'local'
    """
    prefixed = "mask 'causal' with tokens before the patches, which see all"
    problems = {
        f"positions {config.positions!r}": config.positions not in ("learned", "sincos", "none"),
        prefixed: config.mask == "causal" and config.n_prefix > 0,
        f"mask {config.mask!r}": config.mask not in MASKS,
        f"readout {config.readout!r}": config.readout not in READS,
        f"activation {config.activation!r}": config.d_mlp > 0
        and config.activation not in ACTIVATIONS,
    }
    wrong = [text for text, is_there in problems.items() if is_there]
    if wrong:
        raise BadInput(f"TransformerLens's HookedTransformer has no such model: {', '.join(wrong)}")


def describe_transformer_lens(config: ModelConfig) -> dict[str, object]:
    """The arguments of `HookedTransformerConfig` for the blocks of a model of this config.

    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> describe_transformer_lens(config)["n_ctx"]  # CLS and four patches
    5
    """
    check_transformer_lens(config)
    return {
        "n_layers": config.n_layers,
        "d_model": config.d_model,
        "n_ctx": config.n_tokens,
        "d_head": config.d_head,
        "n_heads": config.n_heads,
        "d_mlp": config.d_mlp or None,
        "attn_only": not config.d_mlp,
        "d_vocab": count_outputs(config),
        "act_fn": ACTIVATIONS[config.activation] if config.d_mlp else None,
        "eps": config.norm_epsilon,
        "normalization_type": NORMS[config.norm],
        "attention_dir": MASKS[config.mask],
    }


def describe_read(config: ModelConfig) -> str:
    """Which of a HookedTransformer's logits, (image, token, label), are the model's answer.

    >>> describe_read(ModelConfig(readout="last"))
    'of the last token'
    """
    return READS[config.readout].format(n_prefix=config.n_prefix)


@torch.no_grad()
def convert_to_transformer_lens(model: ViT) -> dict[str, Tensor]:
    """The weights of the HookedTransformer whose blocks and head compute the same.

    Its embedding, which is not used, is left out: load them with `strict=False`. It has no biases
    of RMSNorms: what reads a norm takes on what its bias adds. BadInput where it cannot be.

    >>> config = ModelConfig(n_heads=4, image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> convert_to_transformer_lens(ViT(config))["blocks.0.attn.W_Q"].shape
    torch.Size([4, 64, 16])
    """
    config = model.config
    check_transformer_lens(config)
    weights = {"unembed.W_U": model.W_U, "unembed.b_U": model.b_U}
    names = [*ATTENTION, *(MLP if config.d_mlp else ())]
    stacked = {name: getattr(model, name) for name in names}
    for layer in range(config.n_layers):
        for name, value in stacked.items():
            part = "attn" if name in ATTENTION else "mlp"
            weights[f"blocks.{layer}.{part}.{name}"] = value[layer]

    for name, value in model.state_dict().items():
        if name.endswith(".gain") and not name.startswith("ln_pre"):
            weights[name.removesuffix("gain") + "w"] = value
            bias = model.get_parameter(name.removesuffix("gain") + "bias")
            if config.norm == "layer":
                weights[name.removesuffix("gain") + "b"] = bias
            else:
                _fold_bias(weights, name.removesuffix(".gain"), bias)
    return {name: value.detach().clone().contiguous() for name, value in weights.items()}


def _fold_bias(weights: dict[str, Tensor], norm: str, bias: Tensor) -> None:
    """Add what a norm's bias gives through the matrices that read the norm to their biases."""
    place, _, last = norm.rpartition(".")
    readers = {
        "ln1": [f"{place}.attn.{{}}_{part}" for part in "QKV"],
        "ln2": [f"{place}.mlp.{{}}_in"],
        "ln_final": ["unembed.{}_U"],
    }
    for reader in readers[last]:
        added = bias @ weights[reader.format("W")]
        weights[reader.format("b")] = weights[reader.format("b")] + added
