"""Weights of this ViT to Hugging Face's `ViTForImageClassification`, which computes the same."""

from __future__ import annotations

import torch
from torch import Tensor

from toyvit.config import ModelConfig
from toyvit.errors import BadInput
from toyvit.model.mappings.families import VIT
from toyvit.model.vit import ViT

# What transformers calls our activations.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu-tanh": "gelu_pytorch_tanh",
    "quick-gelu": "quick_gelu",
    "relu": "relu",
}
WITHIN = "vit."  # before the names of all but the head
POSITIONS = ("learned", "sincos")


def list_hugging_face_problems(config: ModelConfig) -> list[str]:
    """What a model has that `ViTForImageClassification` cannot have; nothing where it can be one.

    >>> list_hugging_face_problems(ModelConfig(n_registers=2))
    ['no MLP', 'registers']
    """
    problems = {
        f"norm {config.norm!r}": config.norm != "layer",
        "no MLP": not config.d_mlp,
        "a norm of the embedding": config.embed_norm,
        f"positions {config.positions!r}": config.positions not in POSITIONS,
        f"mask {config.mask!r}": config.mask != "bidirectional",
        f"readout {config.readout!r}": config.readout != "cls",
        "registers": config.n_registers > 0,
        f"activation {config.activation!r}": config.d_mlp > 0
        and config.activation not in ACTIVATIONS,
    }
    return [text for text, is_there in problems.items() if is_there]


def convert_to_hugging_face(model: ViT) -> dict[str, Tensor]:
    """The weights of the `ViTForImageClassification` that computes the same, by its files' names.

    Biases that it has and this model has not are 0. BadInput for a model that it cannot be.

    >>> config = ModelConfig(d_mlp=8, image_size=(8, 8), patch_size=4, n_channels=3, n_classes=5)
    >>> weights = convert_to_hugging_face(ViT(config))
    >>> weights["vit.embeddings.position_embeddings"].shape  # CLS and four patches
    torch.Size([1, 5, 64])
    """
    config = model.config
    problems = list_hugging_face_problems(config)
    if problems:
        raise BadInput(f"transformers' ViT has no such model: it has {', '.join(problems)}")

    parts = _list_parts(model)
    names = VIT.name_tensors(config.n_layers)
    theirs = {names[ours]: value.contiguous() for ours, value in parts.items()}
    head = ("classifier.weight", "classifier.bias")
    return {name if name in head else WITHIN + name: value for name, value in theirs.items()}


def _list_parts(model: ViT) -> dict[str, Tensor]:
    """Tensors by the names that families give them."""
    config = model.config
    size = config.stated("patch_size")
    ours = {name: value.detach() for name, value in model.state_dict().items()}
    assert model.positions is not None
    positions = model.positions.detach()
    parts = {
        "patch.weight": ours.pop("patch.weight").unflatten(1, (-1, size, size)),
        "cls": ours["prefix"][None],
        "positions": torch.cat([torch.zeros_like(ours.pop("prefix")), positions])[None],
    }
    ours.pop("positions", None)
    for name, value in ours.items():
        layer, packed, kind = name.partition("attn.qkv.")
        if packed:
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                parts[f"{layer}attn.{part}.{kind}"] = piece
        else:
            parts[name] = value

    weights = [name for name, value in parts.items() if name.endswith(".weight")]
    for name in weights:
        bias = name.removesuffix("weight") + "bias"
        parts.setdefault(bias, parts[name].new_zeros(len(parts[name])))
    return parts


def describe_hugging_face(config: ModelConfig, classes: list[str]) -> dict[str, object]:
    """The `config.json` of the `ViTForImageClassification` of a model with these classes.

    >>> config = ModelConfig(d_mlp=8, image_size=(8, 8), patch_size=4, n_channels=3, n_classes=2)
    >>> describe_hugging_face(config, ["cat", "dog"])["id2label"]
    {'0': 'cat', '1': 'dog'}
    """
    return {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "intermediate_size": config.d_mlp,
        "hidden_act": ACTIVATIONS[config.activation],
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "layer_norm_eps": config.norm_epsilon,
        "image_size": list(config.stated("image_size")),
        "patch_size": config.stated("patch_size"),
        "num_channels": config.stated("n_channels"),
        "qkv_bias": True,
        "id2label": {str(number): name for number, name in enumerate(classes)},
        "label2id": {name: number for number, name in enumerate(classes)},
    }
