"""Induction: does a head look for what followed the same thing before, and how is that circuit put together?"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from toyvit.analyses.attention import Pattern
from toyvit.data.task import Batch, Retrieval
from toyvit.model import ViT


def take_query_rows(
    pattern: Pattern, retrieval: Retrieval, n_prefix: int
) -> Float[Tensor, "image head key"]:
    """Each picture's row of attention at its query cell."""
    return pattern[torch.arange(len(pattern)), :, n_prefix + retrieval.query]


def induction_mass(pattern: Pattern, retrieval: Retrieval, n_prefix: int) -> Float[Tensor, " head"]:
    """Attention from the query to the matching label, 0 to 1. Spread over the N labels: 1 / N."""
    row = take_query_rows(pattern, retrieval, n_prefix)
    return row[torch.arange(len(row)), :, n_prefix + retrieval.target].mean(0)


def induction_strength(
    pattern: Pattern, retrieval: Retrieval, n_prefix: int
) -> Float[Tensor, " head"]:
    """Attention to the matching label minus the mean over the other labels (Singh 2024), -1 to 1.

    A perfect head: 1; uniform attention: 0.
    """
    row = take_query_rows(pattern, retrieval, n_prefix)
    labels = row.gather(2, (n_prefix + retrieval.candidates)[:, None].expand(-1, row.shape[1], -1))
    others = labels.masked_fill(
        (retrieval.candidates == retrieval.target[:, None])[:, None], 0
    ).sum(-1)
    n_others = max(1, retrieval.candidates.shape[1] - 1)
    return induction_mass(pattern, retrieval, n_prefix) - (others / n_others).mean(0)


def previous_cell_mass(
    pattern: Pattern, cells: Int[Tensor, " cell"], n_prefix: int
) -> Float[Tensor, " head"]:
    """Attention from each given cell to the cell before it in raster order, mean over cells, 0 to 1. Say which cells."""
    return pattern[:, :, n_prefix + cells, n_prefix + cells - 1].mean((0, 2))


def find_prefix_targets(
    content: Int[Tensor, "image patch"], offset: int, allowed: Bool[Tensor, "query key"]
) -> Bool[Tensor, "image query key"]:
    """S_q: the keys p + offset (raster) for patches p != q with q's content, allowed by the mask, and not q itself."""
    n, patches = content.shape
    same = content[:, :, None] == content[:, None, :]
    same &= ~torch.eye(patches, dtype=torch.bool)
    targets = torch.zeros(n, patches, patches, dtype=torch.bool)
    if offset >= 0:
        targets[:, :, offset:] = same[:, :, : patches - offset]
    else:
        targets[:, :, :offset] = same[:, :, -offset:]
    return targets & allowed & ~torch.eye(patches, dtype=torch.bool)


def score_prefix_matching(
    pattern: Pattern,
    targets: Bool[Tensor, "image patch to_patch"],
    n_prefix: int,
    queries: Bool[Tensor, "image patch"] | None = None,
) -> tuple[Float[Tensor, " head"], Float[Tensor, " head"]]:
    """(s - c) / (1 - c) and s: attention on S_q, mean over queries that have one, against uniform attention's share.

    s = mean of sum over S_q of A[q, .]; c = mean of |S_q| / T. A planted pattern gives 1, uniform attention exactly 0,
    NaN where no query has a target. `queries` restricts the queries. Two-dimensional, bidirectional form of prefix
    matching (Olsson 2022).
    """
    asks = targets.any(-1) if queries is None else targets.any(-1) & queries
    if not asks.any():
        nan = torch.full((pattern.shape[1],), torch.nan)
        return nan, nan
    among = pattern[:, :, n_prefix:, n_prefix:]
    on_target = (among * targets[:, None]).sum(-1).transpose(1, 2)[asks]  # asking query, head
    chance = (targets.sum(-1)[asks] / pattern.shape[-1]).mean()
    score = on_target.mean(0)
    return (score - chance) / (1 - chance), score


def score_copying(
    w_v: Float[Tensor, "head model feature"], w_o: Float[Tensor, "head feature model"]
) -> Float[Tensor, " head"]:
    """sum Re(lambda) / sum |lambda| over the eigenvalues of W_V W_O, -1 to 1 (Elhage 2021).

    Identity: 1; minus identity: -1; rotation by theta: cos theta. Nonzero eigenvalues are those of W_O W_V (h x h).
    """
    values = torch.linalg.eigvals((w_o @ w_v).double())
    return (values.real.sum(-1) / values.abs().sum(-1).clamp(min=1e-300)).float()


def score_composition(
    early: tuple[Tensor, Tensor, Tensor, Tensor],
    late: tuple[Tensor, Tensor, Tensor, Tensor],
    gain: Tensor | None,
) -> dict[str, Float[Tensor, "head to_head"]]:
    """Q-, K- and V-composition of an earlier layer's heads with a later one's (Elhage 2021), each in 0 .. 1.

    |W_OV^a W^b| / (|W_OV^a| |W^b|), Frobenius norms, W^b = W_QK, its transpose, or W_OV; the later norm's gain is folded into
    what the later head reads. Rank one: an absolute cosine; orthogonal subspaces: 0; random heads: about 1 / sqrt(d).
    """
    fold = torch.ones(early[0].shape[1]) if gain is None else gain
    w_ov = early[2] @ early[3]
    reads = fold[:, None]
    w_qk = (reads * late[0]) @ (reads * late[1]).transpose(1, 2)
    reading = {"q": w_qk, "k": w_qk.transpose(1, 2), "v": (reads * late[2]) @ late[3]}
    norms = w_ov.flatten(1).norm(dim=1)
    return {
        kind: torch.einsum("amn,bnk->abmk", w_ov, matrix).flatten(2).norm(dim=2)
        / (norms[:, None] * matrix.flatten(1).norm(dim=1)).clamp(min=1e-30)
        for kind, matrix in reading.items()
    }


@lru_cache
def simulate_composition(d_model: int, d_head: int, n: int = 200) -> tuple[float, float]:
    """Mean and standard deviation of the composition score of n pairs of random Gaussian heads: about 1 / sqrt(d)."""
    generator = torch.Generator().manual_seed(0)
    w = [torch.randn(n, d_model, d_head, generator=generator) for _ in range(4)]
    early, late = w[0] @ w[1].transpose(1, 2), w[2] @ w[3].transpose(1, 2)
    scores = (early @ late).flatten(1).norm(dim=1) / (
        early.flatten(1).norm(dim=1) * late.flatten(1).norm(dim=1)
    )
    return scores.mean().item(), scores.std().item()


def measure_induction(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `induction`: needs pictures of item-label pairs."""
    assert batch.retrieval is not None and batch.content is not None
    config, n = model.config, model.config.n_prefix
    patterns = [trace[f"blocks.{layer}.attn.pattern"] for layer in range(config.n_layers)]
    patches = config.n_patches
    mask = torch.zeros(patches, patches) if model.mask.numel() == 1 else model.mask[n:, n:]
    targets = find_prefix_targets(batch.content, 1, mask == 0)
    asking = torch.zeros(batch.content.shape, dtype=torch.bool).scatter_(
        1, batch.retrieval.query[:, None], True
    )
    matches = [score_prefix_matching(pattern, targets, n, asking) for pattern in patterns]
    labels, every = batch.retrieval.candidates[0], torch.arange(1, patches)
    return {
        "mass": torch.stack([induction_mass(pattern, batch.retrieval, n) for pattern in patterns]),
        "strength": torch.stack(
            [induction_strength(pattern, batch.retrieval, n) for pattern in patterns]
        ),
        "prefix_matching": torch.stack([normal for normal, _ in matches]),
        "prefix_matching_raw": torch.stack([raw for _, raw in matches]),
        "previous_cell": torch.stack(
            [previous_cell_mass(pattern, labels, n) for pattern in patterns]
        ),
        "previous_cell_everywhere": torch.stack(
            [previous_cell_mass(pattern, every, n) for pattern in patterns]
        ),
    }


def measure_composition(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `score_composition`: copying and composition read off the weights."""
    heads = [block.attn.head_weights() for block in model.blocks]  # type: ignore[union-attr, operator]
    n_layers, n_heads = model.config.n_layers, model.config.n_heads
    mean, sd = simulate_composition(model.config.d_model, model.config.d_head)
    out = {"copying": torch.stack([score_copying(w_v, w_o) for _, _, w_v, w_o in heads])}
    for kind in "qkv" if n_layers > 1 else "":
        scores = torch.full((n_layers, n_heads, n_layers, n_heads), torch.nan)
        for early in range(n_layers):
            for late in range(early + 1, n_layers):
                gain = getattr(model.blocks[late].ln1, "gain", None)
                scores[early, :, late] = score_composition(heads[early], heads[late], gain)[kind]
        out[f"{kind}_composition"] = scores
        out[f"{kind}_composition_z"] = (scores - mean) / sd
    return {name: value.detach() for name, value in out.items()}
