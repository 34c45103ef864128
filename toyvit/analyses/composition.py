"""Composition and copying: what heads do with each other, and with a token, by their weights.

All of it is read off weights with their norms folded in, `fold_head_weights`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from math import inf

import torch
from jaxtyping import Float
from torch import Tensor

from toyvit.analyses.analysis import (
    SEVERAL_LAYERS,
    SEVERAL_UNTURNED,
    Analysis,
    Measures,
    Quantity,
    share,
)
from toyvit.data.task import Batch
from toyvit.instruments.weight_circuits import fold_head_weights, product_eigenvalues
from toyvit.model import ViT
from toyvit.model.shapes import HeadWeights
from toyvit.surroundings import pin_torch

DRAWS = 200  # random heads before and after


def score_copying(
    w_v: Float[Tensor, "*heads model feature"], w_o: Float[Tensor, "*heads feature model"]
) -> Float[Tensor, "*heads"]:
    """sum Re(lambda) / sum |lambda| over the eigenvalues of W_V W_O, -1 to 1 (Elhage 2021).

    Identity: 1; minus identity: -1; rotation by theta: cos theta. The nonzero eigenvalues are those
    of W_O W_V (h x h). Random heads: 0 in the mean.

    >>> score_copying(torch.eye(2)[None], torch.stack([torch.eye(2)]))
    tensor([1.])
    """
    values = product_eigenvalues(w_v, w_o)
    return (values.real.sum(-1) / values.abs().sum(-1).clamp(min=1e-300)).float()


def fold_heads(model: ViT, trace: Mapping[str, Tensor]) -> list[HeadWeights]:
    """The weights of each layer's heads, norms folded in."""
    return [fold_head_weights(model, layer) for layer in range(model.config.n_layers)]


def score_copying_of_heads(model: ViT, trace: Mapping[str, Tensor]) -> Float[Tensor, "layer head"]:
    """The copying score of every head."""
    heads = share(trace, fold_heads, model)
    return torch.stack([score_copying(head.v, head.o) for head in heads])


@lru_cache
def simulate_copying(d_model: int, d_head: int, n: int = 400) -> float:
    """Standard deviation of the copying score of random Gaussian heads, whose mean is 0.

    A score is t / S with t = tr(W_V W_O) of variance d h exactly, while S = sum |lambda| hardly
    varies: d h mean(t^2 / S^2) / mean(t^2) over n heads gives the variance far closer than the mean
    of t^2 / S^2. 0.10 at d = 64, h = 16.

    >>> round(simulate_copying(64, 16), 3)
    0.1
    """
    generator = torch.Generator().manual_seed(0)
    w_v = torch.randn(n, d_model, d_head, generator=generator)
    w_o = torch.randn(n, d_head, d_model, generator=generator)
    values = product_eigenvalues(w_v, w_o)
    squared_trace = values.real.sum(-1).square()
    squared_score = squared_trace / values.abs().sum(-1).square()
    return (d_model * d_head * squared_score.mean() / squared_trace.mean()).sqrt().item()


def score_composition(
    early: HeadWeights, late: HeadWeights
) -> dict[str, Float[Tensor, "head to_head"]]:
    """Q-, K- and V-composition of an earlier layer's heads with a later one's, each 0 to 1.

    |W_OV^a W^b| / (|W_OV^a| |W^b|), Frobenius norms, W^b = W_QK, its transpose, or W_OV (Elhage
    2021). Of heads of a model whose norms are folded in. Rank one: an absolute cosine; orthogonal
    subspaces: 0; random heads: about 1 / sqrt(d).

    >>> w = torch.eye(3)[None, :, :1]  # reads and writes the first coordinate alone
    >>> head = HeadWeights(w, w, w, w.mT)
    >>> score_composition(head, head)
    {'q': tensor([[1.]]), 'k': tensor([[1.]]), 'v': tensor([[1.]])}
    """
    written = _multiply_out(early.o.mT, early.v.mT)
    read = {
        "q": _multiply_out(late.q, late.k.mT),
        "k": _multiply_out(late.k, late.q.mT),
        "v": _multiply_out(late.v, late.o),
    }
    return {kind: _compare_sizes(written, gram) for kind, gram in read.items()}


def _multiply_out(
    left: Float[Tensor, "head model feature"], right: Float[Tensor, "head feature to_model"]
) -> Float[Tensor, "head model model"]:
    """M M^T of M = left @ right, through its few features, in double precision."""
    left = left.double()
    right = right.double()
    return left @ (right @ right.mT) @ left.mT


def _compare_sizes(
    written: Float[Tensor, "head model model"], read: Float[Tensor, "to_head model model"]
) -> Float[Tensor, "head to_head"]:
    """|A B| / (|A| |B|) for every pair, from A^T A and B B^T: |A B|^2 is their inner product."""
    through = written.flatten(1) @ read.flatten(1).T
    traces = [gram.diagonal(dim1=1, dim2=2).sum(1) for gram in (written, read)]
    sizes = traces[0][:, None] * traces[1]
    return (through.clamp(min=0) / sizes.clamp(min=1e-60)).sqrt().float()


@lru_cache
def simulate_composition(d_model: int, d_head: int) -> tuple[float, float]:
    """Mean and standard deviation of the composition score of random Gaussian heads.

    Of every pair of 200 early and 200 late ones: the spread to 0.5 %. Whatever the early head, a
    late one's squared score is 1 / d in the mean, so pairs that share a head hardly agree. The mean
    is about 1 / sqrt(d).

    >>> [round(value, 3) for value in simulate_composition(64, 16)]
    [0.125, 0.007]
    """
    generator = torch.Generator().manual_seed(0)
    early = _draw_products(d_model, d_head, generator)
    late = _draw_products(d_model, d_head, generator)

    # |A M|^2 = <A^T A, M M^T>: every pair in one product.
    written = (early.mT @ early).flatten(1)
    read = (late @ late.mT).flatten(1)
    sizes = early.flatten(1).norm(dim=1)[:, None] * late.flatten(1).norm(dim=1)
    scores = (written @ read.mT).clamp(min=0).sqrt() / sizes
    return scores.mean().item(), scores.std().item()


def _draw_products(
    d_model: int, d_head: int, generator: torch.Generator
) -> Float[Tensor, "head model model"]:
    """Products of a random matrix into a head's features and one out of them."""
    into = torch.randn(DRAWS, d_model, d_head, generator=generator)
    out = torch.randn(DRAWS, d_head, d_model, generator=generator)
    return into @ out


@pin_torch()
def measure_composition(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `composition`: copying (layer head), composition of every two heads.

    Composition has the axes (layer head to_layer to_head), NaN where the second layer does not come
    after the first; `_z` is in standard deviations above random heads of the same shape. Rotary
    positions turn what is compared: they have no Q and K.
    """
    heads = share(trace, fold_heads, model)
    n_layers = model.config.n_layers
    n_heads = model.config.n_heads
    mean, sd = simulate_composition(model.config.d_model, model.config.d_head)
    measures: Measures = {"copying": share(trace, score_copying_of_heads, model)}

    if n_layers > 1:
        every = HeadWeights(*(torch.cat(parts) for parts in zip(*heads, strict=True)))
        comes_later = torch.ones(n_layers, n_layers).triu(1).bool()[:, None, :, None]
        pairs_by_kind = score_composition(every, every)
        kinds = ("v",) if model.config.is_rotary else ("q", "k", "v")
        for kind in kinds:
            scores = pairs_by_kind[kind].view(n_layers, n_heads, n_layers, n_heads)
            scores = torch.where(comes_later, scores, torch.nan)
            measures[f"{kind}_composition"] = scores
            measures[f"{kind}_composition_z"] = (scores - mean) / sd
    return {name: value.detach() for name, value in measures.items()}


OF_TWO_HEADS = Quantity(
    "layer head to_layer to_head", least=0, most=1, may_be_nan=True, only_with=SEVERAL_LAYERS
)
OF_UNTURNED_HEADS = replace(OF_TWO_HEADS, only_with=SEVERAL_UNTURNED)
COMPOSITION = Analysis(
    name="composition",
    computes="how much a head reads of what an earlier head writes",
    measure=measure_composition,
    quantities={
        "copying": Quantity("layer head", least=-1, most=1),
        "q_composition": OF_UNTURNED_HEADS,
        "q_composition_z": replace(OF_UNTURNED_HEADS, least=-inf, most=inf),
        "k_composition": OF_UNTURNED_HEADS,
        "k_composition_z": replace(OF_UNTURNED_HEADS, least=-inf, most=inf),
        "v_composition": OF_TWO_HEADS,
        "v_composition_z": replace(OF_TWO_HEADS, least=-inf, most=inf),
    },
    cost=3,
    source="Elhage 2021",
    truth="identity OV: copying 1; rank-one heads: an absolute cosine",
    null="random heads of the same size: copying 0, composition 1/sqrt(d) with d the width; "
    "z-scores say by how many standard deviations of random heads a value lies above "
    "theirs",
    version=3,
)
