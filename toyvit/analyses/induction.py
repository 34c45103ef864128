"""Induction: does a head look for what followed the same thing before, and by which circuit?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from math import inf

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from toyvit.analyses.analysis import (
    CONTENT,
    RETRIEVAL,
    SEVERAL_LAYERS,
    Analysis,
    Measures,
    Quantity,
    stack_layers,
)
from toyvit.analyses.attention import SHARE, SITES, Pattern, list_patterns
from toyvit.data.task import Batch, Retrieval
from toyvit.model import ViT
from toyvit.model.options import allowed_keys
from toyvit.model.vit import HeadWeights


def take_query_rows(
    pattern: Pattern, retrieval: Retrieval, n_prefix: int
) -> Float[Tensor, "image head key"]:
    """Each picture's row of attention at its query cell."""
    return pattern[torch.arange(len(pattern)), :, n_prefix + retrieval.query]


def induction_mass(pattern: Pattern, retrieval: Retrieval, n_prefix: int) -> Float[Tensor, " head"]:
    """Attention from the query to the matching label, 0 to 1. Spread over the N labels: 1 / N.

    >>> pairs = Retrieval(torch.tensor([3]), torch.tensor([1]), torch.tensor([[1, 2]]))
    >>> induction_mass(torch.full((1, 1, 4, 4), 0.25), pairs, 0)
    tensor([0.2500])
    """
    row = take_query_rows(pattern, retrieval, n_prefix)
    return row[torch.arange(len(row)), :, n_prefix + retrieval.target].mean(0)


def induction_strength(
    pattern: Pattern, retrieval: Retrieval, n_prefix: int
) -> Float[Tensor, " head"]:
    """Attention to the matching label minus the mean over the others (Singh 2024), -1 to 1.

    A perfect head: 1; uniform attention: 0.

    >>> pairs = Retrieval(torch.tensor([3]), torch.tensor([1]), torch.tensor([[1, 2]]))
    >>> induction_strength(torch.full((1, 1, 4, 4), 0.25), pairs, 0)
    tensor([0.])
    """
    row = take_query_rows(pattern, retrieval, n_prefix)
    candidates = (n_prefix + retrieval.candidates)[:, None].expand(-1, row.shape[1], -1)
    labels = row.gather(2, candidates)
    is_match = (retrieval.candidates == retrieval.target[:, None])[:, None]
    others = labels.masked_fill(is_match, 0).sum(-1)
    n_others = max(1, retrieval.candidates.shape[1] - 1)
    return induction_mass(pattern, retrieval, n_prefix) - (others / n_others).mean(0)


def previous_cell_mass(
    pattern: Pattern, cells: Int[Tensor, " cell"], n_prefix: int
) -> Float[Tensor, " head"]:
    """Attention from each given cell to the one before it in raster order, mean over cells, 0 to 1.

    Say which cells. Uniform: 1 / T.
    """
    return pattern[:, :, n_prefix + cells, n_prefix + cells - 1].mean((0, 2))


def find_prefix_targets(
    content: Int[Tensor, "image patch"], offset: int, allowed: Bool[Tensor, "query key"]
) -> Bool[Tensor, "image query key"]:
    """S_q: the keys p + offset (raster) for patches p != q with q's content.

    Allowed by the mask, and not q itself.

    >>> content = torch.tensor([[5, 7, 5]])  # the third patch has seen what followed a 5
    >>> find_prefix_targets(content, 1, torch.ones(3, 3).tril().bool()).nonzero()
    tensor([[0, 2, 1]])
    """
    itself = torch.eye(content.shape[1], dtype=torch.bool)
    same = content[:, :, None] == content[:, None, :]
    same &= ~itself
    return _shift_keys(same, offset) & allowed & ~itself


def _shift_keys(
    marks: Bool[Tensor, "image query key"], offset: int
) -> Bool[Tensor, "image query key"]:
    """Marks moved to the keys `offset` later (raster), False where they come from outside."""
    shifted = torch.zeros_like(marks)
    if offset >= 0:
        shifted[:, :, offset:] = marks[:, :, : marks.shape[2] - offset]
    else:
        shifted[:, :, :offset] = marks[:, :, -offset:]
    return shifted


def score_prefix_matching(
    pattern: Pattern,
    targets: Bool[Tensor, "image patch to_patch"],
    n_prefix: int,
    queries: Bool[Tensor, "image patch"] | None = None,
) -> tuple[Float[Tensor, " head"], Float[Tensor, " head"]]:
    """(s - c) / (1 - c) and s: attention on S_q against uniform attention's share.

    s = mean over queries with some S_q of the sum over S_q of A[q, .]; c = mean of |S_q| / T. A
    planted pattern gives 1, uniform attention exactly 0, NaN where no query has a target. `queries`
    restricts the queries. Two-dimensional, bidirectional form of prefix matching (Olsson 2022).

    >>> targets = torch.tensor([[[False, False], [True, False]]])
    >>> score_prefix_matching(torch.full((1, 1, 2, 2), 0.5), targets, 0)
    (tensor([0.]), tensor([0.5000]))
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


def mark_queries(
    patches: Shaped[Tensor, "image patch"], retrieval: Retrieval
) -> Bool[Tensor, "image patch"]:
    """True at each picture's query cell; `patches` has the shape of the answer."""
    marks = torch.zeros(patches.shape, dtype=torch.bool)
    return marks.scatter_(1, retrieval.query[: len(patches), None], True)


def describe_induction(
    pattern: Pattern, retrieval: Retrieval, targets: Bool[Tensor, "image patch to_patch"], n: int
) -> Measures:
    """What one layer's heads do for the query cells; see `measure_induction`."""
    patches = targets.shape[-1]
    queries = mark_queries(targets[:, 0], retrieval)
    score, raw = score_prefix_matching(pattern, targets, n, queries)
    return {
        "mass": induction_mass(pattern, retrieval, n),
        "strength": induction_strength(pattern, retrieval, n),
        "prefix_matching": score,
        "prefix_matching_raw": raw,
        "previous_cell": previous_cell_mass(pattern, retrieval.candidates[0], n),
        "previous_cell_everywhere": previous_cell_mass(pattern, torch.arange(1, patches), n),
    }


def measure_induction(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `induction`, on pictures of item-label pairs, of each head (layer head).

    mass, strength           see `induction_mass`, `induction_strength`
    prefix_matching          of the query cells, and `prefix_matching_raw`, its s
    previous_cell            of the label cells
    previous_cell_everywhere of all cells but the first
    """
    retrieval = batch.retrieval
    assert retrieval is not None and batch.content is not None
    n = model.config.n_prefix
    targets = find_prefix_targets(batch.content, 1, allowed_keys(model.config)[n:, n:])
    patterns = list_patterns(model, trace)
    layers = [describe_induction(pattern, retrieval, targets, n) for pattern in patterns]
    return stack_layers(layers)


INDUCTION = Analysis(
    name="induction",
    computes="attention from the query to its match, and to previous cells",
    measure=measure_induction,
    quantities={
        "mass": SHARE,
        "strength": Quantity("layer head", least=-1, most=1),
        "prefix_matching": Quantity("layer head", most=1, may_be_nan=True),
        "prefix_matching_raw": Quantity("layer head", least=0, most=1, may_be_nan=True),
        "previous_cell": SHARE,
        "previous_cell_everywhere": SHARE,
    },
    sites=SITES,
    needs=(RETRIEVAL, CONTENT),
    cost=4,
    source="Olsson 2022 (prefix matching), Singh 2024 (strength)",
    truth="planted patterns: 1",
    null="uniform attention: strength and prefix matching 0, mass 1/T",
)


def score_copying(
    w_v: Float[Tensor, "head model feature"], w_o: Float[Tensor, "head feature model"]
) -> Float[Tensor, " head"]:
    """sum Re(lambda) / sum |lambda| over the eigenvalues of W_V W_O, -1 to 1 (Elhage 2021).

    Identity: 1; minus identity: -1; rotation by theta: cos theta. The nonzero eigenvalues are those
    of W_O W_V (h x h). Random heads: 0 in the mean.

    >>> score_copying(torch.eye(2)[None], torch.stack([torch.eye(2)]))
    tensor([1.])
    """
    values = torch.linalg.eigvals((w_o @ w_v).double())
    return (values.real.sum(-1) / values.abs().sum(-1).clamp(min=1e-300)).float()


def score_composition(
    early: HeadWeights, late: HeadWeights, gain: Tensor | None
) -> dict[str, Float[Tensor, "head to_head"]]:
    """Q-, K- and V-composition of an earlier layer's heads with a later one's, each 0 to 1.

    |W_OV^a W^b| / (|W_OV^a| |W^b|), Frobenius norms, W^b = W_QK, its transpose, or W_OV (Elhage
    2021). The later norm's gain is folded into what the later head reads. Rank one: an absolute
    cosine; orthogonal subspaces: 0; random heads: about 1 / sqrt(d).

    >>> w = torch.eye(3)[None, :, :1]  # reads and writes the first coordinate alone
    >>> head = HeadWeights(w, w, w, w.mT)
    >>> score_composition(head, head, None)
    {'q': tensor([[1.]]), 'k': tensor([[1.]]), 'v': tensor([[1.]])}
    """
    w_ov = early.v @ early.o
    norms = w_ov.flatten(1).norm(dim=1)
    scores = {}
    for kind, matrix in _list_readings(late, gain).items():
        through = torch.einsum("amn,bnk->abmk", w_ov, matrix).flatten(2).norm(dim=2)
        sizes = norms[:, None] * matrix.flatten(1).norm(dim=1)
        scores[kind] = through / sizes.clamp(min=1e-30)
    return scores


def _list_readings(
    head: HeadWeights, gain: Tensor | None
) -> dict[str, Float[Tensor, "head model to_model"]]:
    """What queries, keys and values read from the stream, the norm's gain folded in."""
    fold = torch.ones(head.q.shape[1]) if gain is None else gain
    reads = fold[:, None]
    w_qk = (reads * head.q) @ (reads * head.k).transpose(1, 2)
    return {"q": w_qk, "k": w_qk.transpose(1, 2), "v": (reads * head.v) @ head.o}


@lru_cache
def simulate_composition(d_model: int, d_head: int, n: int = 200) -> tuple[float, float]:
    """Mean and standard deviation of the composition score of n pairs of random Gaussian heads.

    The mean is about 1 / sqrt(d).

    >>> [round(value, 3) for value in simulate_composition(64, 16)]
    [0.125, 0.006]
    """
    generator = torch.Generator().manual_seed(0)
    w = [torch.randn(n, d_model, d_head, generator=generator) for _ in range(4)]
    early = w[0] @ w[1].transpose(1, 2)
    late = w[2] @ w[3].transpose(1, 2)
    sizes = early.flatten(1).norm(dim=1) * late.flatten(1).norm(dim=1)
    scores = (early @ late).flatten(1).norm(dim=1) / sizes
    return scores.mean().item(), scores.std().item()


def measure_composition(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `composition`: copying (layer head), composition of every two heads.

    Composition has the axes (layer head to_layer to_head), NaN where the second layer does not come
    after the first; `_z` is in standard deviations above random heads of the same shape.
    """
    heads = [block.attn.head_weights() for block in model.layers]
    n_layers = model.config.n_layers
    n_heads = model.config.n_heads
    mean, sd = simulate_composition(model.config.d_model, model.config.d_head)
    measures: Measures = {"copying": torch.stack([score_copying(head.v, head.o) for head in heads])}

    for kind in "qkv" if n_layers > 1 else "":
        scores = torch.full((n_layers, n_heads, n_layers, n_heads), torch.nan)
        for early in range(n_layers):
            for late in range(early + 1, n_layers):
                gain = getattr(model.layers[late].ln1, "gain", None)
                scores[early, :, late] = score_composition(heads[early], heads[late], gain)[kind]
        measures[f"{kind}_composition"] = scores
        measures[f"{kind}_composition_z"] = (scores - mean) / sd
    return {name: value.detach() for name, value in measures.items()}


OF_TWO_HEADS = Quantity(
    "layer head to_layer to_head", least=0, most=1, may_be_nan=True, only_with=SEVERAL_LAYERS
)
COMPOSITION = Analysis(
    name="composition",
    computes="how much a head reads of what an earlier head writes",
    measure=measure_composition,
    quantities={
        "copying": Quantity("layer head", least=-1, most=1),
        "q_composition": OF_TWO_HEADS,
        "q_composition_z": replace(OF_TWO_HEADS, least=-inf, most=inf),
        "k_composition": OF_TWO_HEADS,
        "k_composition_z": replace(OF_TWO_HEADS, least=-inf, most=inf),
        "v_composition": OF_TWO_HEADS,
        "v_composition_z": replace(OF_TWO_HEADS, least=-inf, most=inf),
    },
    cost=4,
    source="Elhage 2021",
    truth="identity OV: copying 1; rank-one heads: an absolute cosine",
    null="random heads: copying 0, composition 1/sqrt(d), given as a z-score",
)
