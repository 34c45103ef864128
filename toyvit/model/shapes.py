"""Shapes that many signatures share; `toyvit.model.sites.AXES` says what their axes are."""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor

Images = Float[Tensor, "image channel height width"]
Residual = Float[Tensor, "image token model"]
Logits = Float[Tensor, "image *patch label"]
AllowedKeys = Bool[Tensor, "query key"]


class HeadWeights(NamedTuple):
    """The weights of a layer's heads, for row vectors (x @ W).

    A head reads with `q`, `k` and `v` and writes with `o`.

    >>> import torch
    >>> weights = HeadWeights(*torch.zeros(3, 2, 8, 4), torch.zeros(2, 4, 8))
    >>> (weights.v @ weights.o).shape
    torch.Size([2, 8, 8])
    """

    q: Float[Tensor, "head model feature"]
    k: Float[Tensor, "head model feature"]
    v: Float[Tensor, "head model feature"]
    o: Float[Tensor, "head feature model"]
