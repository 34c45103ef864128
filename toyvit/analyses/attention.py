"""Attention geometry: where heads look on the grid. Pure functions of a pattern.

A pattern is (image, head, query, key), its rows sum to 1, its tokens are in the model's order: CLS,
registers, patches. Means are over images. Attention weights alone explain nothing (Pruthi 2019):
pair a claim with an ablation.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from toyvit import stats
from toyvit.analyses.analysis import (
    CLS,
    OBJECTS,
    REGISTERS,
    Analysis,
    Measures,
    Quantity,
    Tagged,
    stack_layers,
)
from toyvit.circuits.patching import connect_objects
from toyvit.config import ModelConfig
from toyvit.data.task import Batch
from toyvit.model import ViT

Pattern = Float[Tensor, "image head query key"]
Grid = tuple[int, int]
SITES = ("blocks.*.attn.pattern",)
SHARE = Quantity("layer head", least=0, most=1)


def list_patterns(model: ViT, trace: Mapping[str, Tensor]) -> list[Pattern]:
    """The attention patterns of a trace, layer by layer."""
    return [trace[f"blocks.{layer}.attn.pattern"] for layer in range(model.config.n_layers)]


def entropy(pattern: Pattern) -> Float[Tensor, " head"]:
    """Mean over images and queries of -sum A ln A, nats. One-hot: 0; uniform over T keys: ln T.

    >>> entropy(torch.full((1, 1, 2, 2), 0.5)).item() == torch.tensor(2.0).log().item()
    True
    """
    return stats.entropy(pattern).mean((0, 2))


def list_patch_places(grid: Grid) -> tuple[Int[Tensor, " patch"], Int[Tensor, " patch"]]:
    """Row and column of each patch.

    >>> [places.tolist() for places in list_patch_places((2, 3))]
    [[0, 0, 0, 1, 1, 1], [0, 1, 2, 0, 1, 2]]
    """
    index = torch.arange(grid[0] * grid[1])
    return index // grid[1], index % grid[1]


def renormalize_patches(
    pattern: Pattern, n_prefix: int
) -> Float[Tensor, "image head patch to_patch"]:
    """Attention among patches, its rows made to sum to 1 again.

    A row with no mass on patches counts as spread evenly.
    """
    among = pattern[:, :, n_prefix:, n_prefix:]
    total = among.sum(-1, keepdim=True)
    return torch.where(total > 0, among / total.clamp(min=1e-30), 1 / among.shape[-1])


def distance(pattern: Pattern, grid: Grid, n_prefix: int) -> Float[Tensor, " head"]:
    """Mean distance between a patch and what it attends to, in patches (Raghu 2021).

    On itself: 0; uniform on 4 x 4: 2.008.

    >>> round(distance(torch.full((1, 1, 16, 16), 1 / 16), (4, 4), 0).item(), 3)
    2.008
    """
    rows, columns = list_patch_places(grid)
    far = torch.hypot((rows[:, None] - rows).float(), (columns[:, None] - columns).float())
    return (renormalize_patches(pattern, n_prefix) * far).sum(-1).mean((0, 2))


def offset_map(
    pattern: Pattern, grid: Grid, n_prefix: int
) -> tuple[Float[Tensor, "head rows columns"], Float[Tensor, "rows columns"]]:
    """Mean attention at every offset on the grid, 0 to 1, and how many patches support it.

    M(delta) = mean of A[i, i + delta] over the patches i with i + delta on the grid. The axes
    are the row and the column offset, from -(rows - 1) and -(columns - 1) on. Uniform: 1 / T.
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
    looks delta away scores 1, uniform attention 1 / T.

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
    """Mean over patches of the attention on the pairs of a family, 0 to 1.

    Uniform: (pairs / queries) / T.
    """
    return (pattern[:, :, n_prefix:, n_prefix:] * pairs).sum(-1).mean((0, 2))


def received_mass(pattern: Pattern) -> Float[Tensor, "head key"]:
    """Mean attention that each token gets, over images and queries, 0 to 1. Uniform: 1 / T."""
    return pattern.mean((0, 2))


def previous_mass(pattern: Pattern, n_prefix: int) -> Float[Tensor, " head"]:
    """Attention from each patch to the one before it in raster order, 0 to 1. Uniform: 1 / T.

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


def describe_pattern(pattern: Pattern, config: ModelConfig) -> Measures:
    """What one layer's pattern is like, head by head; see `measure_attention`."""
    score, row, column = find_offset(pattern, config.grid, config.n_prefix)
    best, token = received_mass(pattern).max(1)

    return {
        "entropy": entropy(pattern),
        "distance": distance(pattern, config.grid, config.n_prefix),
        "offset": score,
        "offset_row": row,
        "offset_column": column,
        "previous": previous_mass(pattern, config.n_prefix),
        "sink": best - 1 / config.n_tokens,
        "sink_token": token,
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


def measure_attention(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `attention`: what the patterns are like, of each head (layer head).

    entropy              nats; `distance` in patches
    offset               of the strongest offset, which is `offset_row`, `offset_column`
    previous             attention to the patch before in raster order
    sink                 what the most read token, `sink_token`, gets above 1 / T
    rollout              from what is read out to every token (key)
    same_row ... corner  attention to the patches of a family
    cls_mass             from patches to CLS; `cls_to_patches` the other way; `register_mass`
    """
    config = model.config
    patterns = list_patterns(model, trace)
    measures = stack_layers([describe_pattern(pattern, config) for pattern in patterns])
    measures["rollout"] = rollout(patterns)[:, 0 if config.readout == "cls" else -1].mean(0)
    for name, pairs in list_families(config.grid).items():
        masses = [family_mass(pattern, pairs, config.n_prefix) for pattern in patterns]
        measures[name] = torch.stack(masses)
    return measures | stack_layers([describe_prefix(pattern, config) for pattern in patterns])


ATTENTION = Analysis(
    name="attention",
    computes="where heads look: distances, offsets, families, sinks, rollout",
    measure=measure_attention,
    quantities={
        "entropy": Quantity("layer head", unit="nats", least=0),
        "distance": Quantity("layer head", unit="patches", least=0),
        "offset": SHARE,
        "offset_row": Quantity("layer head", unit="patches"),
        "offset_column": Quantity("layer head", unit="patches"),
        "previous": SHARE,
        "sink": Quantity("layer head", least=0, most=1),
        "sink_token": Quantity("layer head", least=0),
        "rollout": Quantity("key", least=0, most=1),
        **dict.fromkeys(("same_row", "same_column", "edge", "corner"), SHARE),
        "cls_mass": Quantity("layer head", least=0, most=1, only_with=CLS),
        "cls_to_patches": Quantity("layer head", least=0, most=1, only_with=CLS),
        "register_mass": Quantity("layer head", least=0, most=1, only_with=REGISTERS),
    },
    sites=SITES,
    cost=9,
    source="Raghu 2021 (distance), Abnar & Zuidema 2020 (rollout); offsets, families: this lab's",
    truth="planted patterns: one-hot, identity, a fixed shift",
    null="uniform attention: entropy ln T, 1/T at every offset",
)


def share_by_object(
    pattern: Pattern, objects: Int[Tensor, "image patch"], n_prefix: int, cls: bool
) -> dict[str, Float[Tensor, " head"]]:
    """Of the attention of patches that show an object: what each group of tokens gets, sum 1.

    The groups are the object itself, other objects, the background, CLS and registers; means over
    all such patches (after Lepori & Tartaglini 2024). Uniform attention gives each its share of
    the tokens.
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


def measure_object_attention(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `object_attention`: the share (layer head) of each group, 0 to 1."""
    assert batch.objects is not None
    config = model.config
    layers: list[Measures] = []
    for pattern in list_patterns(model, trace):
        shares = share_by_object(pattern, batch.objects, config.n_prefix, config.cls_token)
        layers.append({Tagged("share", group=group): share for group, share in shares.items()})
    return stack_layers(layers)


OBJECT_ATTENTION = Analysis(
    name="object_attention",
    computes="what the patches of an object look at",
    measure=measure_object_attention,
    quantities={"share": SHARE},
    sites=SITES,
    needs=(OBJECTS,),
    cost=60,
    source="after Lepori & Tartaglini 2024",
    truth="planted patterns: the share of their group is 1",
    null="uniform attention: each group's share of the tokens",
)
