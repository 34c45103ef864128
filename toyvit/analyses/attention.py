"""Attention geometry: where heads look on the grid. Pure functions of a pattern; means are over images.

A pattern is (image, head, query, key), rows sum to 1, tokens in the model's order: CLS, registers, patches.
Attention weights alone explain nothing (Pruthi 2019): pair a claim with a knock-out.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from toyvit import stats
from toyvit.circuits.patching import connect_objects
from toyvit.data.task import Batch
from toyvit.model import ViT

Pattern = Float[Tensor, "image head query key"]
Grid = tuple[int, int]


def entropy(pattern: Pattern) -> Float[Tensor, " head"]:
    """Mean over images and queries of -sum A ln A, nats. One-hot: 0; uniform over T keys: ln T."""
    return stats.entropy(pattern).mean((0, 2))


def list_patch_places(grid: Grid) -> tuple[Tensor, Tensor]:
    """Row and column of each patch."""
    index = torch.arange(grid[0] * grid[1])
    return index // grid[1], index % grid[1]


def renormalize_patches(
    pattern: Pattern, n_prefix: int
) -> Float[Tensor, "image head patch to_patch"]:
    """Attention among patches, rows made to sum to 1 again; a row with no mass on patches counts as spread evenly."""
    among = pattern[:, :, n_prefix:, n_prefix:]
    total = among.sum(-1, keepdim=True)
    return torch.where(total > 0, among / total.clamp(min=1e-30), 1 / among.shape[-1])


def distance(pattern: Pattern, grid: Grid, n_prefix: int) -> Float[Tensor, " head"]:
    """Mean distance between a patch and what it attends to, in patches. On itself: 0; uniform on 4 x 4: 2.008."""
    rows, columns = list_patch_places(grid)
    far = torch.hypot((rows[:, None] - rows).float(), (columns[:, None] - columns).float())
    return (renormalize_patches(pattern, n_prefix) * far).sum(-1).mean((0, 2))


def offset_map(
    pattern: Pattern, grid: Grid, n_prefix: int
) -> tuple[Float[Tensor, "head rows columns"], Tensor]:
    """M(delta) = mean over patches i with i + delta on the grid of A[i, i + delta], and how many such patches there are.

    Axes are the row and the column offset, from -(rows - 1) and -(columns - 1) on. Uniform: 1 / T everywhere.
    """
    rows, columns = list_patch_places(grid)
    height, width = 2 * grid[0] - 1, 2 * grid[1] - 1
    down = (rows - rows[:, None]) + grid[0] - 1  # query, key
    right = (columns - columns[:, None]) + grid[1] - 1
    cell = (down * width + right).flatten()
    among = pattern[:, :, n_prefix:, n_prefix:].mean(0).flatten(1)
    total = torch.zeros(len(among), height * width).index_add_(1, cell, among)
    count = torch.zeros(height * width).index_add_(0, cell, torch.ones(len(cell)))
    return (total / count).unflatten(1, (height, width)), count.unflatten(0, (height, width))


def find_offset(pattern: Pattern, grid: Grid, n_prefix: int) -> tuple[Tensor, Tensor, Tensor]:
    """The strongest offset of each head: its score, row offset and column offset, each (head).

    Only offsets that at least a quarter of the patches support compete (a corner offset rests on one patch alone:
    without the bound random patterns look like offset heads). A head that always looks delta away scores 1.
    """
    scores, count = offset_map(pattern, grid, n_prefix)
    scores = scores.masked_fill(count < grid[0] * grid[1] / 4, -1).flatten(1)
    best, at = scores.max(1)
    width = 2 * grid[1] - 1
    return best, at // width - (grid[0] - 1), at % width - (grid[1] - 1)


def list_families(grid: Grid) -> dict[str, Tensor]:
    """For each family of heads the (query, key) pairs that it counts: other patches of the row or column, border, corners."""
    rows, columns = list_patch_places(grid)
    other = ~torch.eye(len(rows), dtype=torch.bool)
    on_edge_row, on_edge_column = (
        (rows == 0) | (rows == grid[0] - 1),
        (columns == 0) | (columns == grid[1] - 1),
    )
    return {
        "same_row": (rows[:, None] == rows) & other,
        "same_column": (columns[:, None] == columns) & other,
        "edge": (on_edge_row | on_edge_column).expand(len(rows), -1),
        "corner": (on_edge_row & on_edge_column).expand(len(rows), -1),
    }


def family_mass(pattern: Pattern, pairs: Tensor, n_prefix: int) -> Float[Tensor, " head"]:
    """Mean over patches of the attention on the pairs of a family, 0 to 1. Uniform: (pairs / queries) / T."""
    return (pattern[:, :, n_prefix:, n_prefix:] * pairs).sum(-1).mean((0, 2))


def received_mass(pattern: Pattern) -> Float[Tensor, "head key"]:
    """Mean attention that each token gets, over images and queries. Uniform: 1 / T."""
    return pattern.mean((0, 2))


def previous_mass(pattern: Pattern, n_prefix: int) -> Float[Tensor, " head"]:
    """Attention from each patch to the one before it in raster order, mean over patches but the first, 0 to 1."""
    among = pattern[:, :, n_prefix:, n_prefix:]
    return among.diagonal(-1, 2, 3).mean((0, 2))


def rollout(patterns: list[Pattern]) -> Float[Tensor, "image query key"]:
    """Product over layers of (A + I) / 2, heads averaged (Abnar & Zuidema 2020); rows sum to 1.

    Identity patterns give I; uniform ones U give 2^-L I + (1 - 2^-L) U.
    """
    identity = torch.eye(patterns[0].shape[-1])
    total = identity.expand(len(patterns[0]), -1, -1)
    for pattern in patterns:
        total = (pattern.mean(1) + identity) / 2 @ total
    return total


def share_by_object(
    pattern: Pattern, objects: Int[Tensor, "image patch"], n_prefix: int, cls: bool
) -> dict[str, Float[Tensor, " head"]]:
    """Of the attention of patches that show an object: to itself, other objects, background, CLS, registers; they sum to 1.

    Means over all such patches (after Lepori & Tartaglini 2024). Uniform attention gives each group its share of the tokens.
    """
    asking = F.pad(objects, (n_prefix, 0)) > 0
    keys = torch.arange(pattern.shape[-1])
    edges = connect_objects(objects, n_prefix) | {
        "cls": asking[:, :, None] & (keys < int(cls)),
        "registers": asking[:, :, None] & (keys >= int(cls)) & (keys < n_prefix),
    }
    return {
        name: torch.einsum("ihqk,iqk->h", pattern, among.float()) / asking.sum()
        for name, among in edges.items()
    }


def measure_object_attention(
    model: ViT, batch: Batch, trace: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The analysis `object_attention`."""
    assert batch.objects is not None
    config = model.config
    found = [
        share_by_object(
            trace[f"blocks.{layer}.attn.pattern"], batch.objects, config.n_prefix, config.cls_token
        )
        for layer in range(config.n_layers)
    ]
    return {
        f"share[group={group}]": torch.stack([layer[group] for layer in found])
        for group in found[0]
    }


def measure_attention(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `attention`."""
    config = model.config
    grid, n = config.grid, config.n_prefix
    patterns = [trace[f"blocks.{layer}.attn.pattern"] for layer in range(config.n_layers)]
    offsets = [find_offset(pattern, grid, n) for pattern in patterns]
    best = [received_mass(pattern).max(1) for pattern in patterns]
    out = {
        "entropy": torch.stack([entropy(pattern) for pattern in patterns]),
        "distance": torch.stack([distance(pattern, grid, n) for pattern in patterns]),
        "offset": torch.stack([score for score, _, _ in offsets]),
        "offset_row": torch.stack([row for _, row, _ in offsets]),
        "offset_column": torch.stack([column for _, _, column in offsets]),
        "previous": torch.stack([previous_mass(pattern, n) for pattern in patterns]),
        "sink": torch.stack([value.values for value in best]) - 1 / config.n_tokens,
        "sink_token": torch.stack([value.indices for value in best]),
        "rollout": rollout(patterns)[:, 0 if config.readout == "cls" else -1].mean(0),
    }
    for name, pairs in list_families(grid).items():
        out[name] = torch.stack([family_mass(pattern, pairs, n) for pattern in patterns])
    if config.cls_token:
        out["cls_mass"] = torch.stack([pattern[:, :, n:, 0].mean((0, 2)) for pattern in patterns])
        out["cls_to_patches"] = torch.stack(
            [pattern[:, :, 0, n:].sum(-1).mean(0) for pattern in patterns]
        )
    if config.n_registers:
        first = int(config.cls_token)
        out["register_mass"] = torch.stack(
            [pattern[:, :, n:, first:n].sum(-1).mean((0, 2)) for pattern in patterns]
        )
    return out
