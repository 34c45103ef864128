"""What the weights say of each head, and what its scores, before the softmax, are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from toyvit.analyses.analysis import (
    SEVERAL_LAYERS,
    UNTURNED,
    Analysis,
    Measures,
    Need,
    Quantity,
    Tagged,
    share,
    stack_layers,
)
from toyvit.analyses.attention import list_families
from toyvit.analyses.composition import (
    fold_heads,
    score_copying,
    score_copying_of_heads,
    simulate_copying,
)
from toyvit.config import ModelConfig
from toyvit.data.task import Batch
from toyvit.instruments.weight_circuits import (
    centre_scores,
    find_singular_directions,
    fold_embedding,
    fold_unembedding,
    split_scores,
)
from toyvit.model import ViT
from toyvit.model.options import allowed_keys
from toyvit.model.patches import cut_patches
from toyvit.model.shapes import HeadWeights
from toyvit.stats import participation_ratio
from toyvit.surroundings import pin_torch

FEW = 128  # images that are enough for shares of a variance over images, queries and keys


def count_directions(size: Float[Tensor, "*heads feature"]) -> Float[Tensor, "*heads"]:
    """How many directions a head uses: the participation ratio of its squared singular values.

    1 where one direction does it all, h where h do equally much, 0 for a head of zeros.

    >>> count_directions(torch.tensor([[1.0, 1.0], [5.0, 0.0], [0.0, 0.0]]))
    tensor([2., 1., 0.])
    """
    return participation_ratio(size.double().square()).nan_to_num(0).float()


def find_vocabulary(batch: Batch) -> tuple[Int[Tensor, " label"], Int[Tensor, " label"]] | None:
    """Content ids that name a class, and the class: what the matching cell shows, and the answer.

    None where the batch has no such cells, or where one content goes with several answers.
    """
    if batch.retrieval is None or batch.content is None or batch.classes is None:
        return None
    content = batch.content.gather(1, batch.retrieval.target[:, None])[:, 0]
    both = torch.stack([content, batch.classes], 1).unique(dim=0)
    one_to_one = len(both[:, 0].unique()) == len(both) == len(both[:, 1].unique())
    return (both[:, 0], both[:, 1]) if one_to_one and len(both) > 1 else None


VOCABULARY = Need(
    "cells that name a class",
    lambda config, batch: batch.compute_once(find_vocabulary) is not None,
)


class Vocabulary(NamedTuple):
    """Labels as cells show them: the mean picture of each, and the class that it names."""

    pictures: Float[Tensor, "label pixel"]
    classes: Int[Tensor, " label"]


def read_vocabulary(batch: Batch, config: ModelConfig) -> Vocabulary | None:
    """The labels of a batch, cut into patches as the model cuts it; None where it has none."""
    vocabulary = find_vocabulary(batch)
    if vocabulary is None:
        return None
    assert batch.content is not None
    ids, classes = vocabulary
    patches = cut_patches(batch.images, config.stated("patch_size"))
    means = [patches[batch.content == label].mean(0) for label in ids]
    return Vocabulary(torch.stack(means), classes)


def score_copied(
    vocabulary: Vocabulary, model: ViT, w_ov: Float[Tensor, "head model to_model"]
) -> Float[Tensor, " head"]:
    """Share of label pictures whose own logit is the labels' largest after W_E W_OV W_U, 0 to 1.

    Chance 1 / labels (Olsson 2022).
    """
    embedded = vocabulary.pictures @ fold_embedding(model)
    logits = embedded @ w_ov @ fold_unembedding(model)[:, vocabulary.classes]
    return (logits.argmax(-1) == torch.arange(len(vocabulary.classes))).float().mean(-1)


def score_virtual_copying(early: HeadWeights, late: HeadWeights) -> Float[Tensor, "head to_head"]:
    """The copying score of W_OV^a W_OV^b for every pair of heads, -1 to 1.

    Do two heads together pass a token on as it is?
    """
    through = early.v[:, None] @ (early.o[:, None] @ late.v)  # head to_head model feature
    return score_copying(through, late.o.expand(len(through), -1, -1, -1))


@pin_torch()
def measure_weights(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `weights`: of each head (layer head), read off the weights.

    copying_z        the copying score in standard deviations above random heads
    qk_norm, ov_norm Frobenius norms of W_QK and W_OV, norms folded in
    qk_directions    how many directions they use, see `count_directions`; `ov_directions`
    virtual_copying  (layer head to_layer to_head) of two heads in a row; NaN in the wrong order

    QK is left out under rotary positions, which turn what is compared.
    """
    config = model.config
    heads = share(trace, fold_heads, model)
    copying = share(trace, score_copying_of_heads, model)
    sd = simulate_copying(config.d_model, config.d_head)

    measures: Measures = {"copying_z": copying / sd}
    if not config.is_rotary:
        measures |= _measure_sizes("qk", [(head.q, head.k.mT) for head in heads])
    measures |= _measure_sizes("ov", [(head.v, head.o) for head in heads])
    if config.n_layers > 1:
        measures["virtual_copying"] = _score_rows_of_two(heads)
    return measures


def _measure_sizes(name: str, circuits: Sequence[tuple[Tensor, Tensor]]) -> Measures:
    """Norms and numbers of directions of the QK or the OV circuits of each layer's heads."""
    sizes = torch.stack([find_singular_directions(*pair).size for pair in circuits])
    return {f"{name}_norm": sizes.norm(dim=-1), f"{name}_directions": count_directions(sizes)}


def _score_rows_of_two(
    heads: Sequence[HeadWeights],
) -> Float[Tensor, "layer head to_layer to_head"]:
    """Virtual copying of each head with each of a later layer; NaN in the wrong order."""
    n_layers = len(heads)
    n_heads = len(heads[0].q)
    scores = torch.full((n_layers, n_heads, n_layers, n_heads), torch.nan)
    for late in range(n_layers):
        for early in range(late):
            scores[early, :, late] = score_virtual_copying(heads[early], heads[late])
    return scores


WEIGHTS = Analysis(
    name="weights",
    computes="QK and OV of each head: size, directions, copying, virtual heads",
    measure=measure_weights,
    quantities={
        "copying_z": Quantity("layer head", unit="standard deviations"),
        "qk_norm": Quantity("layer head", least=0, only_with=UNTURNED),
        "qk_directions": Quantity("layer head", unit="directions", least=0, only_with=UNTURNED),
        "ov_norm": Quantity("layer head", least=0),
        "ov_directions": Quantity("layer head", unit="directions", least=0),
        "virtual_copying": Quantity(
            "layer head to_layer to_head",
            least=-1,
            most=1,
            may_be_nan=True,
            only_with=SEVERAL_LAYERS,
        ),
    },
    cost=7,
    source="Elhage 2021 (QK and OV circuits, virtual heads)",
    truth="planted singular values; two heads that undo each other: virtual copying 1",
    null="random heads of the same size: copying 0 on average, give or take 1 as a z-score (in "
    "standard deviations of random heads), nearly all directions in use",
)


@pin_torch()
def measure_label_copying(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `label_copying`: do labels that are attended to raise their own logits?

    `copied` (layer head), 0 to 1, see `score_copied`, beside its chance.
    """
    vocabulary = batch.compute_once(read_vocabulary, model.config)
    assert vocabulary is not None
    heads = share(trace, fold_heads, model)
    shares = [score_copied(vocabulary, model, head.v @ head.o) for head in heads]
    chance = torch.tensor(1 / len(vocabulary.classes))
    return {"copied": torch.stack(shares), "copied_chance": chance}


LABEL_COPYING = Analysis(
    name="label_copying",
    computes="heads that raise the logit of the label that they read",
    measure=measure_label_copying,
    quantities={
        "copied": Quantity("layer head", least=0, most=1),
        "copied_chance": Quantity(least=0, most=1),
    },
    needs=(VOCABULARY,),
    cost=1,
    source="Olsson 2022",
    truth="a head that writes each label's own logit: 1",
    null="one over the number of labels, measured beside it",
)


@pin_torch()
def measure_score_parts(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `score_parts`: shares of the variance of the first layer's scores (head).

    By what query and key are read for, `content_position` and so on, biases by offset counted to
    `position_position`: Cov(part, score) / Var(score)
    over the first 128 images, queries and allowed keys, rows centred; the four sum to 1, and one
    may be negative. A purely positional head: `position_position` is 1. NaN for a head whose scores
    do not vary.
    """
    allowed = allowed_keys(model.config)
    scores = split_scores(model, batch.images[:FEW], trace["blocks.0.resid_pre"][:FEW])
    parts = {names: centre_scores(part, allowed).double() for names, part in scores.items()}
    total = torch.stack(list(parts.values())).sum(0)
    varies = total.square().sum((0, 2, 3))

    measures: Measures = {}
    for (asks, answers), part in parts.items():
        share = (part * total).sum((0, 2, 3)) / varies
        measures[f"{asks}_{answers}"] = share.float()
    return measures


SCORE_PARTS = Analysis(
    name="score_parts",
    computes="what the first layer's scores are read from: content, position",
    measure=measure_score_parts,
    quantities={
        "position_position": Quantity("head", may_be_nan=True),
        "position_content": Quantity("head", may_be_nan=True),
        "content_position": Quantity("head", may_be_nan=True),
        "content_content": Quantity("head", may_be_nan=True),
    },
    sites=("blocks.0.resid_pre",),
    cost=6,
    source="after Elhage 2021: terms of the first layer's scores",
    truth="a head that reads positions only: position_position 1; the four sum to the scores",
    null="0: positions or pixels without weight have no part in the scores",
)


def average_advantages(
    scores: Float[Tensor, "image head query key"],
    pairs: Mapping[str, Bool[Tensor, "patch to_patch"]],
    n_prefix: int,
    allowed: Bool[Tensor, "query key"],
) -> dict[str, Float[Tensor, " head"]]:
    """Mean centred score of the (query, key) patches of each family that the mask allows, nats.

    NaN for a family of which it allows none. Uniform attention: 0.

    >>> diagonal = torch.eye(2, dtype=torch.bool)
    >>> everything = torch.ones(2, 2, dtype=torch.bool)
    >>> average_advantages(torch.eye(2)[None, None], {"itself": diagonal}, 0, everything)
    {'itself': tensor([0.5000])}
    """
    mean = scores.mean(0, keepdim=True)  # centring is linear
    among = centre_scores(mean, allowed)[0, :, n_prefix:, n_prefix:]
    there = allowed[n_prefix:, n_prefix:]
    return {name: among[:, pair & there].mean(1) for name, pair in pairs.items()}


@pin_torch()
def measure_scores(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `scores`: the families of `attention` again on scores before the softmax.

    Each row is centred over its keys; in nats, of each head (layer head). `advantage` is the mean
    score of a family's pairs (NaN where the grid or the mask has none). `spread` is the standard
    deviation of a row's scores over the keys that the mask allows, mean over images and queries.
    Uniform: 0.
    """
    config = model.config
    allowed = allowed_keys(config)
    n_allowed = allowed.sum(-1)
    itself = torch.eye(config.n_patches, dtype=torch.bool)
    pairs = list_families(config.grid)
    pairs |= {"itself": itself, "previous": itself.roll(-1, 1).tril(-1)}

    layers: list[Measures] = []
    for layer in range(config.n_layers):
        scores = trace[f"blocks.{layer}.attn.attn_scores"]
        lengths = torch.linalg.vector_norm(centre_scores(scores, allowed), dim=-1)
        measures: Measures = {"spread": (lengths / n_allowed.sqrt()).mean((0, 2))}
        advantages = average_advantages(scores, pairs, config.n_prefix, allowed)
        for family, advantage in advantages.items():
            measures[Tagged("advantage", family=family)] = advantage
        layers.append(measures)
    return stack_layers(layers)


SCORES = Analysis(
    name="scores",
    computes="spread and advantages of the scores before the softmax",
    measure=measure_scores,
    quantities={
        "spread": Quantity("layer head", unit="nats", least=0),
        "advantage": Quantity("layer head", unit="nats", may_be_nan=True),
    },
    sites=("blocks.*.attn.attn_scores",),
    cost=3,
    source="statistics of `attention` before the softmax",
    truth="planted scores; the softmax of centred scores is the pattern",
    null="0, as where attention is spread evenly",
)
