"""The groups of tokens that measures read apart: CLS, registers, patches."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from toyvit.config import ModelConfig


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
