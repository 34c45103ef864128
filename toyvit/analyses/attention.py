"""Attention geometry: where heads look on the grid. Pure functions of a pattern.

A pattern is (image, head, query, key), its rows sum to 1, its tokens are in the model's order: CLS,
registers, patches. Means are over images. The chance level of a statistic is what it gives on even
attention (`spread_evenly`), and stands beside it as `NAME_chance`. Attention weights alone explain
nothing (Pruthi 2019): pair a claim with an ablation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from toyvit import stats
from toyvit.analyses.analysis import (
    CLS,
    REGISTERS,
    Analysis,
    Measures,
    Quantity,
    stack_layers,
)
from toyvit.analyses.chance import declare_chances, name_chances, spread_evenly
from toyvit.config import ModelConfig
from toyvit.data.task import Batch
from toyvit.instruments.attribution import weigh_tokens
from toyvit.model import ViT
from toyvit.surroundings import pin_torch

Pattern = Float[Tensor, "image head query key"]
Grid = tuple[int, int]
SITES = ("blocks.*.attn.pattern",)
SHARE = Quantity("layer head", least=0, most=1)


def list_patterns(model: ViT, trace: Mapping[str, Tensor]) -> list[Pattern]:
    """The attention patterns of a trace, layer by layer."""
    return [trace[f"blocks.{layer}.attn.pattern"] for layer in range(model.config.n_layers)]


def entropy(pattern: Pattern) -> Float[Tensor, " head"]:
    """Mean over images and queries of -sum A ln A, nats.

    One-hot: 0; even over the keys a(q) that each query may see: the mean of ln a(q).

    >>> entropy(torch.full((1, 1, 2, 2), 0.5)).item() == torch.tensor(2.0).log().item()
    True
    """
    return stats.entropy(pattern).mean((0, 2), dtype=torch.float64).float()


def list_patch_places(grid: Grid) -> tuple[Int[Tensor, " patch"], Int[Tensor, " patch"]]:
    """Row and column of each patch.

    >>> [places.tolist() for places in list_patch_places((2, 3))]
    [[0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]]
    """
    index = torch.arange(grid[0] * grid[1])
    return index // grid[1], index % grid[1]


def distance(pattern: Pattern, grid: Grid, n_prefix: int) -> Float[Tensor, " head"]:
    """Mean distance between a patch and what it attends to, in patches (Raghu 2021).

    Of its attention to patches, made to sum to 1; a row without any counts as spread evenly. On
    itself: 0; uniform on 4 x 4: 2.008.

    >>> round(distance(torch.full((1, 1, 16, 16), 1 / 16), (4, 4), 0).item(), 3)
    2.008
    """
    rows, columns = list_patch_places(grid)
    far = torch.hypot((rows[:, None] - rows).float(), (columns[:, None] - columns).float())
    among = pattern[:, :, n_prefix:, n_prefix:]
    total = among.sum(-1)
    travelled = torch.einsum("ihqk,qk->ihq", among, far) / total.clamp(min=1e-30)
    of_rows = torch.where(total > 0, travelled, far.mean(-1))
    return of_rows.mean((0, 2), dtype=torch.float64).float()


def offset_map(
    pattern: Pattern, grid: Grid, n_prefix: int
) -> tuple[Float[Tensor, "head rows columns"], Float[Tensor, "rows columns"]]:
    """Mean attention at every offset on the grid, 0 to 1, and how many patches support it.

    M(delta) = mean of A[i, i + delta] over the patches i with i + delta on the grid. The axes
    are the row and the column offset, from -(rows - 1) and -(columns - 1) on.
    """
    rows, columns = list_patch_places(grid)
    height = 2 * grid[0] - 1
    width = 2 * grid[1] - 1
    down = (rows - rows[:, None]) + grid[0] - 1  # query, key
    right = (columns - columns[:, None]) + grid[1] - 1
    cell = (down * width + right).flatten()

    among = pattern[:, :, n_prefix:, n_prefix:].mean(0).flatten(1)
    total = torch.zeros(len(among), height * width).index_add_(1, cell, among)
    count = torch.zeros(height * width).index_add_(0, cell, torch.ones(len(cell)))
    return (total / count).unflatten(1, (height, width)), count.unflatten(0, (height, width))


def find_offset(
    pattern: Pattern, grid: Grid, n_prefix: int
) -> tuple[Float[Tensor, " head"], Int[Tensor, " head"], Int[Tensor, " head"]]:
    """The strongest offset of each head: its score (0 to 1), row offset and column offset.

    Only offsets that at least a quarter of the patches support compete (a corner offset rests on
    one patch alone: without the bound random patterns look like offset heads). A head that always
    looks delta away scores 1; even attention 1 / T without a mask, more under one.

    >>> find_offset(torch.eye(4).view(1, 1, 4, 4), (2, 2), 0)  # every patch looks at itself
    (tensor([1.]), tensor([0]), tensor([0]))
    """
    scores, count = offset_map(pattern, grid, n_prefix)
    scores = scores.masked_fill(count < grid[0] * grid[1] / 4, -1).flatten(1)
    best, at = scores.max(1)
    width = 2 * grid[1] - 1
    return best, at // width - (grid[0] - 1), at % width - (grid[1] - 1)


def list_families(grid: Grid) -> dict[str, Bool[Tensor, "query key"]]:
    """For each family of heads the (query, key) patches that it counts.

    Other patches of the row, of the column; patches of the border; the corners.

    >>> {name: int(pairs.sum()) for name, pairs in list_families((2, 3)).items()}
    {'same_row': 12, 'same_column': 6, 'edge': 36, 'corner': 24}
    """
    rows, columns = list_patch_places(grid)
    other = ~torch.eye(len(rows), dtype=torch.bool)
    on_edge_row = (rows == 0) | (rows == grid[0] - 1)
    on_edge_column = (columns == 0) | (columns == grid[1] - 1)

    return {
        "same_row": (rows[:, None] == rows) & other,
        "same_column": (columns[:, None] == columns) & other,
        "edge": (on_edge_row | on_edge_column).expand(len(rows), -1),
        "corner": (on_edge_row & on_edge_column).expand(len(rows), -1),
    }


def family_mass(
    pattern: Pattern, pairs: Bool[Tensor, "patch to_patch"], n_prefix: int
) -> Float[Tensor, " head"]:
    """Mean over patches of the attention on the pairs of a family, 0 to 1."""
    return (pattern[:, :, n_prefix:, n_prefix:] * pairs).sum(-1).mean((0, 2))


def received_mass(pattern: Pattern) -> Float[Tensor, "head key"]:
    """Mean attention that each token gets, over images and queries, 0 to 1."""
    return pattern.mean((0, 2))


def previous_mass(pattern: Pattern, n_prefix: int) -> Float[Tensor, " head"]:
    """Attention from each patch to the one before it in raster order, 0 to 1.

    Mean over all patches but the first.
    """
    among = pattern[:, :, n_prefix:, n_prefix:]
    return among.diagonal(-1, 2, 3).mean((0, 2))


def rollout(patterns: list[Pattern]) -> Float[Tensor, "image query key"]:
    """Product over layers of (A + I) / 2, heads averaged (Abnar & Zuidema 2020); rows sum to 1.

    Identity patterns give I; uniform ones U give 2^-L I + (1 - 2^-L) U.

    >>> rollout([torch.full((1, 1, 2, 2), 0.5)])
    tensor([[[0.7500, 0.2500],
             [0.2500, 0.7500]]])
    """
    identity = torch.eye(patterns[0].shape[-1])
    total = identity.expand(len(patterns[0]), -1, -1)
    for pattern in patterns:
        total = (pattern.mean(1) + identity) / 2 @ total
    return total


def roll_out(read: Float[Tensor, " query"], patterns: list[Pattern]) -> Float[Tensor, "image key"]:
    """What is read of each token, through all layers: these shares of queries, times `rollout`.

    >>> roll_out(torch.tensor([1.0, 0.0]), [torch.full((1, 1, 2, 2), 0.5)])
    tensor([[0.7500, 0.2500]])
    """
    shares = read.expand(len(patterns[0]), -1)
    for pattern in reversed(patterns):
        shares = (shares + torch.einsum("iq,iqk->ik", shares, pattern.mean(1))) / 2
    return shares


def describe_pattern(pattern: Pattern, config: ModelConfig) -> Measures:
    """What one layer's pattern is like, head by head; see `measure_attention`."""
    mean = pattern.mean(0, keepdim=True)  # most of it is linear in the pattern
    score, row, column = find_offset(mean, config.grid, config.n_prefix)
    above = received_mass(mean) - received_mass(spread_evenly(config))
    sink, token = above.max(1)
    families: Measures = {
        name: family_mass(mean, pairs, config.n_prefix)
        for name, pairs in list_families(config.grid).items()
    }

    return {
        "entropy": entropy(pattern),
        "distance": distance(pattern, config.grid, config.n_prefix),
        "offset": score,
        "offset_row": row,
        "offset_column": column,
        "previous": previous_mass(mean, config.n_prefix),
        "sink": sink,
        "sink_token": token,
        **families,
        **describe_prefix(mean, config),
    }


def describe_prefix(pattern: Pattern, config: ModelConfig) -> Measures:
    """What patches and CLS give each other and the registers, head by head, 0 to 1."""
    n = config.n_prefix
    first_register = int(config.cls_token)
    measures: Measures = {}

    if config.cls_token:
        measures["cls_mass"] = pattern[:, :, n:, 0].mean((0, 2))
        measures["cls_to_patches"] = pattern[:, :, 0, n:].sum(-1).mean(0)
    if config.n_registers:
        to_registers = pattern[:, :, n:, first_register:n]
        measures["register_mass"] = to_registers.sum(-1).mean((0, 2))
    return measures


def describe_layers(patterns: list[Pattern], config: ModelConfig) -> Measures:
    """What the patterns of all layers are like; see `measure_attention`."""
    measures = stack_layers([describe_pattern(pattern, config) for pattern in patterns])
    measures["rollout"] = roll_out(weigh_tokens(config).mean(0), patterns).mean(0)
    return measures


@lru_cache(16)
def compute_attention_chances(config: ModelConfig) -> Measures:
    """What even attention gives each quantity of the analysis `attention` under the mask."""
    even = [spread_evenly(config)] * config.n_layers
    return name_chances(describe_layers(even, config), STATISTICS)


@pin_torch()
def measure_attention(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `attention`: what the patterns are like, of each head (layer head).

    entropy              nats; `distance` in patches
    offset               of the strongest offset, which is `offset_row`, `offset_column`
    previous             attention to the patch before in raster order
    sink                 what `sink_token` gets above its own chance, the largest over tokens
    rollout              from what is read out to every token (key), a mean over what is read out
    same_row ... corner  attention to the patches of a family
    cls_mass             from patches to CLS; `cls_to_patches` the other way; `register_mass`
    ..._chance           what even attention gives under the mask, but for places and tokens
    """
    measures = describe_layers(list_patterns(model, trace), model.config)
    return measures | compute_attention_chances(model.config)


STATISTICS = {
    "entropy": Quantity("layer head", unit="nats", least=0),
    "distance": Quantity("layer head", unit="patches", least=0),
    "offset": SHARE,
    "previous": SHARE,
    "sink": SHARE,
    "rollout": Quantity("key", least=0, most=1),
    **dict.fromkeys(("same_row", "same_column", "edge", "corner"), SHARE),
    "cls_mass": replace(SHARE, only_with=CLS),
    "cls_to_patches": replace(SHARE, only_with=CLS),
    "register_mass": replace(SHARE, only_with=REGISTERS),
}
ATTENTION = Analysis(
    name="attention",
    computes="where heads look: distances, offsets, families, sinks, rollout",
    measure=measure_attention,
    quantities={
        **STATISTICS,
        **declare_chances(STATISTICS),
        "offset_row": Quantity("layer head", unit="patches"),
        "offset_column": Quantity("layer head", unit="patches"),
        "sink_token": Quantity("layer head", least=0),
    },
    sites=SITES,
    cost=5,
    source="Raghu 2021 (distance), Abnar & Zuidema 2020 (rollout); offsets, families: this lab's",
    truth="planted patterns: one-hot, identity, a fixed shift",
    null="what attention spread evenly over all tokens that the mask allows gives, measured "
    "beside each as `..._chance`; sink 0",
    version=2,
)
