"""The model's options, a table each: an entry added here is a valid value everywhere.

Messages list the entries, and the laws of the model are tried on each of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toyvit.config import ModelConfig
from toyvit.errors import choose
from toyvit.model.normalization import LayerNorm, NoNorm, Norm, RMSNorm
from toyvit.model.offsets import RelativeBias, Rotation
from toyvit.model.shapes import AllowedKeys, Residual

NORMS: dict[str, type[Norm]] = {"layer": LayerNorm, "rms": RMSNorm, "none": NoNorm}

# ---- positions: what is added to each patch, (patch model), or None; and what attention adds ----


def _start_learned(config: ModelConfig) -> Tensor:
    return nn.Parameter(torch.zeros(config.n_patches, config.d_model))


def _compute_sincos(config: ModelConfig) -> Tensor:
    """Fixed sines and cosines (the 2-D form of Vaswani 2017): half for rows, half for columns."""
    rows, columns = config.grid
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    n_waves = -(-config.d_model // 4)
    rates = 10000.0 ** (-torch.arange(n_waves) / n_waves)
    angles = places[:, :, None] * rates  # patch, (row column), wave
    return torch.cat([angles.sin(), angles.cos()], -1).flatten(1)[:, : config.d_model]


def _add_nothing(config: ModelConfig) -> None:
    return None


POSITIONS: dict[str, Callable[[ModelConfig], Tensor | None]] = {
    "learned": _start_learned,
    "sincos": _compute_sincos,
    "relative": _add_nothing,
    "relative-grid": _add_nothing,
    "rotary": _add_nothing,
    "none": _add_nothing,
}

# Of positions that are learned biases of scores: the grid on which patches stand for offsets.
OFFSET_GRIDS: dict[str, Callable[[ModelConfig], tuple[int, int]]] = {
    "relative": lambda config: (1, config.n_patches),
    "relative-grid": lambda config: config.grid,
}


def build_relative_bias(config: ModelConfig) -> RelativeBias | None:
    """What a layer's attention adds to scores by offset; None for other positions.

    >>> build_relative_bias(ModelConfig(positions="learned")) is None
    True
    """
    lay_out = OFFSET_GRIDS.get(config.positions)
    return None if lay_out is None else RelativeBias(config, lay_out(config))


def build_rotation(config: ModelConfig) -> Rotation | None:
    """What turns a layer's queries and keys; None for other positions.

    >>> build_rotation(ModelConfig(positions="learned")) is None
    True
    """
    return Rotation(config) if config.is_rotary else None


# ---- masks: which keys a query may attend to, (query key), or None where it may attend to all ----


def _allow_all(config: ModelConfig) -> Tensor:
    return torch.ones(config.n_tokens, config.n_tokens, dtype=torch.bool)


def _allow_causal(config: ModelConfig) -> Tensor:
    """Patches see themselves and earlier patches; CLS and registers see all, unseen by patches."""
    allowed = _allow_all(config)
    n = config.n_prefix
    allowed[n:, :n] = False
    allowed[n:, n:] = allowed[n:, n:].tril()
    return allowed


def _allow_local(config: ModelConfig) -> Tensor:
    """Patches see patches at most `window` rows and columns away.

    CLS and registers see, and are seen by, all.
    """
    patches = torch.arange(config.n_patches)
    rows = patches // config.grid[1]
    columns = patches % config.grid[1]
    row_distance = (rows[:, None] - rows).abs()
    column_distance = (columns[:, None] - columns).abs()

    allowed = _allow_all(config)
    n = config.n_prefix
    allowed[n:, n:] = torch.maximum(row_distance, column_distance) <= config.window
    return allowed


def _allow_no_cls_read(config: ModelConfig) -> Tensor:
    """CLS sees all; no other token sees CLS."""
    allowed = _allow_all(config)
    allowed[1:, 0] = False
    return allowed


MASKS: dict[str, Callable[[ModelConfig], Tensor | None]] = {
    "bidirectional": lambda config: None,
    "causal": _allow_causal,
    "local": _allow_local,
    "no-cls-read": _allow_no_cls_read,
}


def allowed_keys(config: ModelConfig) -> AllowedKeys:
    """Which keys each query may attend to under the model's mask: True where it may.

    >>> config = ModelConfig(mask="causal", n_registers=1, cls_token=False, readout="last",
    ...     image_size=(4, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> allowed_keys(config).int()  # a register, then two patches
    tensor([[1, 1, 1],
            [0, 1, 0],
            [0, 1, 1]], dtype=torch.int32)
    """
    allowed = MASKS[config.mask](config)
    return _allow_all(config) if allowed is None else allowed


def build_mask(config: ModelConfig) -> Tensor:
    """What is added to scores: 0 where the mask allows, else minus infinity; one 0 for no mask.

    >>> build_mask(ModelConfig(mask="bidirectional")).shape
    torch.Size([1, 1, 1])
    """
    allowed = MASKS[config.mask](config)
    if allowed is None:
        return torch.zeros(1, 1, 1)
    return torch.zeros(allowed.shape).masked_fill(~allowed, -math.inf)


# ---- activations and read-outs ----


def solu(x: Tensor) -> Tensor:
    """x * softmax(x) over the neurons (Elhage 2022, Softmax Linear Units).

    >>> solu(torch.zeros(2, 4)).shape
    torch.Size([2, 4])
    """
    return x * x.softmax(-1)


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its tanh approximation (Hendrycks & Gimpel 2016), as GPT-2 and some ViTs have it.

    >>> gelu_tanh(torch.zeros(2))
    tensor([0., 0.])
    """
    return F.gelu(x, approximate="tanh")


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x): GELU as CLIP has it (Hendrycks & Gimpel 2016, section 2).

    >>> quick_gelu(torch.zeros(2))
    tensor([0., 0.])
    """
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu-tanh": gelu_tanh,
    "quick-gelu": quick_gelu,
    "relu": F.relu,
    "solu": solu,
}


# What the head reads of (tokens after the final norm, number of tokens before the patches):
# one row an image, or one row a patch.
READOUTS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "cls": lambda tokens, n_prefix: tokens[:, 0],
    "mean": lambda tokens, n_prefix: tokens[:, n_prefix:].mean(1),
    "pooled": lambda tokens, n_prefix: tokens[:, n_prefix:].mean(1),
    "last": lambda tokens, n_prefix: tokens[:, -1],
    "every": lambda tokens, n_prefix: tokens[:, n_prefix:],
    "pixels": lambda tokens, n_prefix: tokens[:, n_prefix:],
}

# Read-outs whose mean is taken before the final norm (timm's `avg` with its `fc_norm`).
POOLED = ("pooled",)

# The token that the head reads, for read-outs that read one.
READ_TOKENS = {"cls": 0, "last": -1}


def pool(config: ModelConfig, x: Residual) -> Residual:
    """What the final norm reads of the last stream: itself, or at every token the patches' mean.

    >>> config = ModelConfig(readout="pooled", cls_token=False)
    >>> pool(config, torch.tensor([[[1.0], [3.0]]])).flatten()
    tensor([2., 2.])
    """
    if config.readout not in POOLED:
        return x
    return x[:, config.n_prefix :].mean(1, keepdim=True).expand_as(x)


def scale_start(config: ModelConfig, name: str, n_inputs: int) -> float:
    """The standard deviation with which a weight starts: see `ViT.initialize`.

    >>> scale_start(ModelConfig(), "head.weight", 64)
    0.02
    """
    usual = 1 / math.sqrt(3 * n_inputs)
    special = {
        "positions": config.position_scale,
        "prefix": 0.02,
        "head.weight": 0.02,
        "patch.weight": config.patch_scale * usual,
    }
    return special.get(name, usual)


def count_outputs(config: ModelConfig) -> int:
    """Width of the head: the task's classes; a patch's pixels where it reconstructs the picture.

    >>> count_outputs(ModelConfig(readout="pixels", patch_size=4, n_channels=3))
    48
    """
    return config.d_patch if config.readout == "pixels" else int(config.stated("n_classes"))


def check_options(config: ModelConfig) -> None:
    """BadInput for a value that no table has."""
    choose(config.norm, NORMS, "model.norm")
    choose(config.positions, POSITIONS, "model.positions")
    choose(config.mask, MASKS, "model.mask")
    choose(config.activation, ACTIVATIONS, "model.activation")
    choose(config.readout, READOUTS, "model.readout")
