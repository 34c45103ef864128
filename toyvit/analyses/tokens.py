"""The groups of tokens that measures read apart: CLS, registers, patches."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from toyvit.config import ModelConfig
from toyvit.instruments.lenses import list_residuals
from toyvit.model import ViT


def split_tokens(
    values: Float[Tensor, "image token *model"], config: ModelConfig
) -> dict[str, Float[Tensor, "image part *model"]]:
    """The tokens of each group that the model has, by name.

    >>> import torch
    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(1, 2), patch_size=1, n_registers=3)
    >>> {name: part.shape[1] for name, part in split_tokens(torch.zeros(1, 6), config).items()}
    {'cls': 1, 'registers': 3, 'patches': 2}
    """
    n = config.n_prefix
    groups = {}
    if config.cls_token:
        groups["cls"] = values[:, :1]
    if config.n_registers:
        groups["registers"] = values[:, int(config.cls_token) : n]
    return groups | {"patches": values[:, n:]}


def average_groups(
    residual: Float[Tensor, "image token model"], config: ModelConfig
) -> dict[str, Float[Tensor, "image model"]]:
    """What probes read: CLS and the mean register where there are any, the mean patch, the last.

    >>> config = ModelConfig(image_size=(1, 2), patch_size=1, readout="mean", cls_token=False)
    >>> average_groups(torch.tensor([[[1.0], [3.0]]]), config)
    {'patches': tensor([[2.]]), 'last': tensor([[3.]])}
    """
    groups = split_tokens(residual, config)
    return {name: tokens.mean(1) for name, tokens in groups.items()} | {"last": residual[:, -1]}


def stack_groups(
    model: ViT, trace: Mapping[str, Tensor]
) -> dict[str, Float[Tensor, "layer image model"]]:
    """What probes read of the stream that enters each block, and of what leaves the last."""
    layers = [average_groups(stream, model.config) for stream in list_residuals(model, trace)]
    return {name: torch.stack([groups[name] for groups in layers]) for name in layers[0]}
