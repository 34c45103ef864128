"""The model's options, one table each: add an entry and it is a valid value everywhere, error messages included."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toyvit.config import ModelConfig
from toyvit.errors import choose
from toyvit.model.taps import Tap, wants


class LayerNorm(nn.Module):
    """(x - mean) / scale * gain + bias with scale = sqrt(variance + epsilon) (Ba 2016)."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.gain, self.bias, self.epsilon = (
            nn.Parameter(torch.ones(width)),
            nn.Parameter(torch.zeros(width)),
            epsilon,
        )

    def normalize(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.gain.shape, self.gain, self.bias, self.epsilon)

    def scale(self, x: Tensor) -> Tensor:
        return (x.var(-1, keepdim=True, correction=0) + self.epsilon).sqrt()

    def forward(self, x: Tensor, tap: Tap) -> Tensor:
        normalized = self.normalize(x)
        if wants(tap, "scale"):
            scale = self.scale(x)
            new = tap("scale", scale)
            if new is not scale:  # the correction is exactly 0 where nothing changed
                normalized = normalized + (normalized - self.bias) * (scale / new - 1)
        return tap("normalized", normalized)


class RMSNorm(LayerNorm):
    """x / scale * gain + bias with scale = sqrt(mean(x^2) + epsilon) (Zhang & Sennrich 2019)."""

    def normalize(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.gain.shape, self.gain, self.epsilon) + self.bias

    def scale(self, x: Tensor) -> Tensor:
        return (x.square().mean(-1, keepdim=True) + self.epsilon).sqrt()


class NoNorm(nn.Module):
    """x itself."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()

    def forward(self, x: Tensor, tap: Tap) -> Tensor:
        return tap("normalized", x)


NORMS: dict[str, type[nn.Module]] = {"layer": LayerNorm, "rms": RMSNorm, "none": NoNorm}


def _learned(config: ModelConfig) -> Tensor:
    return nn.Parameter(torch.zeros(config.n_patches, config.d_model))


def _sincos(config: ModelConfig) -> Tensor:
    """Fixed 2-D sine-cosine positions (the 2-D form of Vaswani 2017): half the width for rows, half for columns."""
    rows, columns = config.grid
    places = torch.stack(
        torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), -1
    ).flatten(0, 1)
    n_waves = -(-config.d_model // 4)
    angles = places[:, :, None] * 10000.0 ** (
        -torch.arange(n_waves) / n_waves
    )  # patch, (row column), wave
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(1)[:, : config.d_model]


POSITIONS: dict[str, Callable[[ModelConfig], Tensor | None]] = {
    "learned": _learned,
    "sincos": _sincos,
    "none": lambda config: None,
}


def _grid_places(config: ModelConfig) -> tuple[Tensor, Tensor]:
    index = torch.arange(config.n_patches)
    return index // config.grid[1], index % config.grid[1]


def _causal(config: ModelConfig) -> Tensor:
    """Patches see themselves and earlier patches; CLS and registers come last: they see all, unseen by patches."""
    allowed = torch.ones(config.n_tokens, config.n_tokens, dtype=torch.bool)
    n = config.n_prefix
    allowed[n:, :n] = False
    allowed[n:, n:] = allowed[n:, n:].tril()
    return allowed


def _local(config: ModelConfig) -> Tensor:
    """Patches see patches at most `window` rows and columns away; CLS and registers see, and are seen by, all."""
    allowed = torch.ones(config.n_tokens, config.n_tokens, dtype=torch.bool)
    rows, columns = _grid_places(config)
    far = (
        torch.maximum((rows[:, None] - rows).abs(), (columns[:, None] - columns).abs())
        > config.window
    )
    allowed[config.n_prefix :, config.n_prefix :] = ~far
    return allowed


def _no_cls_read(config: ModelConfig) -> Tensor:
    """CLS sees all; no other token sees CLS."""
    allowed = torch.ones(config.n_tokens, config.n_tokens, dtype=torch.bool)
    allowed[1:, 0] = False
    return allowed


MASKS: dict[str, Callable[[ModelConfig], Tensor | None]] = {
    "bidirectional": lambda config: None,
    "causal": _causal,
    "local": _local,
    "no-cls-read": _no_cls_read,
}


def allowed_keys(config: ModelConfig) -> Tensor:
    """Which keys the mask lets each query see, (query key) of all tokens.

    >>> config = ModelConfig(image_size=(1, 2), patch_size=1, cls_token=False, mask="causal")
    >>> allowed_keys(config)
    tensor([[ True, False],
            [ True,  True]])
    """
    allowed = MASKS[config.mask](config)
    if allowed is None:
        return torch.ones(config.n_tokens, config.n_tokens, dtype=torch.bool)
    return allowed


def solu(x: Tensor) -> Tensor:
    """x * softmax(x) over the neurons (Elhage 2022, Softmax Linear Units)."""
    return x * x.softmax(-1)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu, "solu": solu}


# What the head reads: (tokens after the final norm, number of prefix tokens) -> one row an image, or one row a patch.
READOUTS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "cls": lambda tokens, n_prefix: tokens[:, 0],
    "mean": lambda tokens, n_prefix: tokens[:, n_prefix:].mean(1),
    "last": lambda tokens, n_prefix: tokens[:, -1],
    "every": lambda tokens, n_prefix: tokens[:, n_prefix:],
    "pixels": lambda tokens, n_prefix: tokens[:, n_prefix:],
}


def count_outputs(config: ModelConfig) -> int:
    """Width of the head: the task's classes, or a patch's pixels for the read-out that reconstructs the picture."""
    return config.d_patch if config.readout == "pixels" else int(config.stated("n_classes"))


def check_options(config: ModelConfig) -> None:
    """Refuse a value that no table has."""
    choose(config.norm, NORMS, "model.norm")
    choose(config.positions, POSITIONS, "model.positions")
    choose(config.mask, MASKS, "model.mask")
    choose(config.activation, ACTIVATIONS, "model.activation")
    choose(config.readout, READOUTS, "model.readout")
