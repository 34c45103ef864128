"""Norms: what stands before attention, the MLP and the head."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from toyvit.model.taps import Tap, wants


class Norm(ABC, nn.Module):
    """What every norm is: a linear map `fold`, over a `scale` a token, and a constant added.

    >>> from toyvit.model.taps import untouched
    >>> norm = RMSNorm(4, 1e-5)
    >>> x = torch.tensor([1.0, -1.0, 3.0, 1.0])
    >>> torch.allclose(norm(x, untouched), norm.fold(x) / norm.scale(x))
    True
    """

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()

    @abstractmethod
    def fold(self, x: Float[Tensor, "*axes model"]) -> Float[Tensor, "*axes model"]:
        """The linear part."""

    @abstractmethod
    def scale(self, x: Float[Tensor, "*axes model"]) -> Float[Tensor, "*axes 1"]:
        """What each token's linear part is divided by, above 0."""

    @abstractmethod
    def forward(self, x: Tensor, tap: Tap) -> Tensor:
        """The tokens, normed; taps `scale`, `before_gain` and `after_gain`."""


class LayerNorm(Norm):
    """(x - mean) / scale * gain + bias with scale = sqrt(variance + epsilon) (Ba 2016)."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__(width, epsilon)
        self.gain = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.epsilon = epsilon

    def normalize(self, x: Tensor) -> Tensor:
        """The whole of it, untapped."""
        return F.layer_norm(x, self.gain.shape, self.gain, self.bias, self.epsilon)

    def scale(self, x: Float[Tensor, "*axes model"]) -> Float[Tensor, "*axes 1"]:
        # A tenth of the time of `Tensor.var`, and with gradients, which native norms keep back.
        length = torch.linalg.vector_norm(self.centre(x), dim=-1, keepdim=True)
        return (length.square() / x.shape[-1] + self.epsilon).sqrt()

    def fold(self, x: Float[Tensor, "*axes model"]) -> Float[Tensor, "*axes model"]:
        return self.centre(x) * self.gain

    def centre(self, x: Float[Tensor, "*axes model"]) -> Float[Tensor, "*axes model"]:
        """What the scale divides: the tokens less their mean."""
        return x - x.mean(-1, keepdim=True)

    def forward(self, x: Tensor, tap: Tap) -> Tensor:
        normalized = self.normalize(x)
        new = None
        if wants(tap, "scale"):
            scale = self.scale(x)
            new = tap("scale", scale)
            if new is not scale:  # the correction is exactly 0 where nothing changed
                normalized = normalized + (normalized - self.bias) * (scale / new - 1)

        if wants(tap, "before_gain"):
            before = self.centre(x) / (self.scale(x) if new is None else new)
            edited = tap("before_gain", before)
            if edited is not before:
                normalized = normalized + (edited - before) * self.gain

        return tap("after_gain", normalized)


class RMSNorm(LayerNorm):
    """x / scale * gain + bias with scale = sqrt(mean(x^2) + epsilon) (Zhang & Sennrich 2019)."""

    def normalize(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.gain.shape, self.gain, self.epsilon) + self.bias

    def centre(self, x: Float[Tensor, "*axes model"]) -> Float[Tensor, "*axes model"]:
        return x


class NoNorm(Norm):
    """x itself."""

    def scale(self, x: Float[Tensor, "*axes model"]) -> Float[Tensor, "*axes 1"]:
        return torch.ones_like(x[..., :1])

    def fold(self, x: Float[Tensor, "*axes model"]) -> Float[Tensor, "*axes model"]:
        return x

    def forward(self, x: Tensor, tap: Tap) -> Tensor:
        return tap("after_gain", x)
