"""Positions inside attention: scores that know how far a key stands from its query.

`RelativeBias` adds a learned number to each score; `Rotation` turns queries and keys, so that their
product depends on the offset between them. Neither adds anything to the stream.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from toyvit.config import ModelConfig
from toyvit.errors import BadInput

SLOWEST = 100.0  # the slowest pair of features would turn by this many times less than the first
ALL = slice(None)


def count_offsets(grid: tuple[int, int], n_prefix: int) -> int:
    """How many numbers a head learns: one an offset, and those of the tokens before the patches.

    >>> count_offsets((1, 4), n_prefix=0), count_offsets((2, 2), n_prefix=1)
    (7, 12)
    """
    rows, columns = grid
    return (2 * rows - 1) * (2 * columns - 1) + n_prefix * (n_prefix + 2)


def number_offsets(grid: tuple[int, int], n_prefix: int) -> Int[Tensor, "query key"]:
    """The number of the offset from each query to each key, from 0 to `count_offsets` - 1.

    Patches stand on a grid (rows, columns); their offset is where the key stands less where the
    query does. CLS and registers stand nowhere: each has one entry for its looks at patches, one
    for the looks of patches at it, and one for each other such token and itself.

    >>> number_offsets((1, 3), n_prefix=0)
    tensor([[2, 3, 4],
            [1, 2, 3],
            [0, 1, 2]])
    """
    rows, columns = grid
    row = torch.arange(rows).repeat_interleave(columns)
    column = torch.arange(columns).repeat(rows)
    down = row - row[:, None] + rows - 1
    right = column - column[:, None] + columns - 1

    n_tokens = n_prefix + rows * columns
    numbers = torch.empty(n_tokens, n_tokens, dtype=torch.long)
    numbers[n_prefix:, n_prefix:] = down * (2 * columns - 1) + right
    start = (2 * rows - 1) * (2 * columns - 1)
    prefix = torch.arange(n_prefix)
    numbers[:n_prefix, n_prefix:] = start + prefix[:, None]
    numbers[n_prefix:, :n_prefix] = start + n_prefix + prefix
    numbers[:n_prefix, :n_prefix] = start + n_prefix * (2 + prefix[:, None]) + prefix
    return numbers


class RelativeBias(nn.Module):
    """A learned number for each head and offset, added to its scores (Raffel 2020; Liu 2021).

    The scalar form of Shaw 2018. `grid` is how the patches stand: in one row for offsets along the
    raster order, as in a sequence; as in the picture for offsets (rows, columns).

    >>> config = ModelConfig(n_heads=2, image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> RelativeBias(config, grid=(1, 4))().shape
    torch.Size([2, 5, 5])
    """

    numbers: Tensor

    def __init__(self, config: ModelConfig, grid: tuple[int, int]) -> None:
        super().__init__()
        n_offsets = count_offsets(grid, config.n_prefix)
        self.bias = nn.Parameter(torch.zeros(n_offsets, config.n_heads))
        numbers = number_offsets(grid, config.n_prefix)
        self.register_buffer("numbers", numbers, persistent=False)

    def forward(self) -> Float[Tensor, "head query key"]:
        """What is added to the scores."""
        return F.embedding(self.numbers, self.bias).permute(2, 0, 1)


class Rotation(nn.Module):
    """Turns pairs of features by where their token stands (Su 2021), rows and columns apart.

    The first half of a head's pairs turns with the row, the second with the column, pair i of n by
    100^(-i / n) a patch (axial, Heo 2024). CLS and registers are not turned. BadInput where a
    head's width is no multiple of 4.

    >>> config = ModelConfig(d_model=4, image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> Rotation(config)(torch.ones(5, 4))[:3].round(decimals=2)  # CLS, two patches
    tensor([[ 1.0000,  1.0000,  1.0000,  1.0000],
            [ 1.0000,  1.0000,  1.0000,  1.0000],
            [ 1.0000,  1.0000, -0.3000,  1.3800]])
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if config.d_head % 4:
            raise BadInput(
                f"positions 'rotary' turn pairs by rows and by columns: d_model / n_heads is a"
                f" multiple of 4, got {config.d_head}"
            )
        n_pairs = config.d_head // 4
        rates = SLOWEST ** (-torch.arange(n_pairs) / n_pairs)
        rows, columns = config.grid
        row = torch.arange(rows).repeat_interleave(columns)
        column = torch.arange(columns).repeat(rows)

        angles = torch.zeros(config.n_tokens, 2 * n_pairs)
        angles[config.n_prefix :, :n_pairs] = row[:, None] * rates
        angles[config.n_prefix :, n_pairs:] = column[:, None] * rates
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(
        self, x: Float[Tensor, "*axes token feature"], tokens: slice = ALL
    ) -> Float[Tensor, "*axes token feature"]:
        """Queries or keys of these tokens, turned."""
        cos = self.cos[tokens]
        sin = self.sin[tokens]
        first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
        turned = [first * cos - second * sin, first * sin + second * cos]
        return torch.stack(turned, -1).flatten(-2)

    def score(
        self,
        query: Float[Tensor, "image head feature"],
        keys: Float[Tensor, "image token head feature"],
        token: int,
    ) -> Float[Tensor, "image head token"]:
        """Products of one token's query and all keys, after the turn."""
        here = slice(token, token + 1 or None)
        turned = self(query[:, :, None], here)
        return (self(keys.transpose(1, 2)) @ turned.mT)[..., 0]
