"""Induction: does a head look for what followed the same thing before, and by which circuit?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from toyvit.analyses.analysis import (
    CONTENT,
    RETRIEVAL,
    Analysis,
    Measures,
    Quantity,
    stack_layers,
)
from toyvit.analyses.attention import (
    SHARE,
    SITES,
    Pattern,
    list_patterns,
    previous_mass,
)
from toyvit.analyses.chance import declare_chances, name_chances, spread_evenly
from toyvit.config import ModelConfig
from toyvit.data.task import Batch, Retrieval
from toyvit.model import ViT
from toyvit.model.options import allowed_keys
from toyvit.surroundings import pin_torch


def take_query_rows(
    pattern: Pattern, retrieval: Retrieval, n_prefix: int
) -> Float[Tensor, "image head key"]:
    """Each picture's row of attention at its query cell."""
    return pattern[torch.arange(len(pattern)), :, n_prefix + retrieval.query]


def induction_mass(pattern: Pattern, retrieval: Retrieval, n_prefix: int) -> Float[Tensor, " head"]:
    """Attention from the query to the matching label, 0 to 1.

    Spread over the N labels: 1 / N; even over the keys that the query may see: 1 / their number.

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

    A perfect head: 1; even attention: 0 where the mask lets the query see all labels or none.

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

    Say which cells.
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


class Matching(NamedTuple):
    """Kinds of targets as weights that average attention on them, and even attention's share.

    NaN where no query has a target.
    """

    weights: Float[Tensor, "image pair kind"]  # a pair is (patch to_patch)
    chance: Float[Tensor, " kind"]

    def score(
        self, pattern: Pattern
    ) -> tuple[Float[Tensor, "head kind"], Float[Tensor, "head kind"]]:
        """(s - c) / (1 - c) and s of a pattern; see `score_prefix_matching`."""
        n = round(self.weights.shape[1] ** 0.5)
        score = (pattern[:, :, -n:, -n:].flatten(2) @ self.weights).sum(0)
        above = (score - self.chance) / (1 - self.chance)
        return torch.where(self.chance < 1 - 1e-6, above, torch.nan), score

    def average(self) -> Matching:
        """What scores a mean pattern as if every image had it."""
        return Matching(self.weights.sum(0, keepdim=True), self.chance)


def weigh_targets(
    targets: Bool[Tensor, "image patch to_patch"],
    n_allowed: Int[Tensor, " patch"],
    queries: Bool[Tensor, "image patch"] | None = None,
) -> Matching:
    """What scores a pattern against one kind of targets: see `score_prefix_matching`."""
    asks = targets.any(-1) if queries is None else targets.any(-1) & queries
    weights = (targets & asks[..., None]).float() / asks.sum()
    chance = (targets.sum(-1) / n_allowed)[asks].mean()
    return Matching(weights.flatten(1)[..., None], chance[None])


def join_matchings(matchings: Sequence[Matching]) -> Matching:
    """Several kinds at once."""
    weights, chances = zip(*matchings, strict=True)
    return Matching(torch.cat(weights, -1), torch.cat(chances))


def score_prefix_matching(
    pattern: Pattern,
    targets: Bool[Tensor, "image patch to_patch"],
    n_allowed: Int[Tensor, " patch"],
    queries: Bool[Tensor, "image patch"] | None = None,
) -> tuple[Float[Tensor, " head"], Float[Tensor, " head"]]:
    """(s - c) / (1 - c) and s: attention on S_q against even attention's share.

    s = mean over queries with some S_q of the sum over S_q of A[q, .]; c = mean of |S_q| / a(q),
    where a(q) keys are allowed to a patch (`n_allowed`; CLS and registers count). A planted pattern
    gives 1, even attention 0. NaN where no query has a target, or where targets are all that every
    query may see. `queries` restricts the queries. Two-dimensional, bidirectional form of prefix
    matching (Olsson 2022).

    >>> targets = torch.tensor([[[False, False], [True, False]]])
    >>> score_prefix_matching(torch.full((1, 1, 2, 2), 0.5), targets, torch.tensor([2, 2]))
    (tensor([0.]), tensor([0.5000]))
    """
    above, score = weigh_targets(targets, n_allowed, queries).score(pattern)
    return above[:, 0], score[:, 0]


def mark_queries(
    patches: Shaped[Tensor, "image patch"], retrieval: Retrieval
) -> Bool[Tensor, "image patch"]:
    """True at each picture's query cell; `patches` has the shape of the answer."""
    marks = torch.zeros(patches.shape, dtype=torch.bool)
    return marks.scatter_(1, retrieval.query[: len(patches), None], True)


def match_queries(batch: Batch, config: ModelConfig) -> Matching:
    """What the query cells would look for: what followed the same content before."""
    assert batch.retrieval is not None and batch.content is not None
    allowed = allowed_keys(config)[config.n_prefix :]
    targets = find_prefix_targets(batch.content, 1, allowed[:, config.n_prefix :])
    return weigh_targets(targets, allowed.sum(-1), mark_queries(targets[:, 0], batch.retrieval))


def describe_induction(pattern: Pattern, batch: Batch, config: ModelConfig) -> Measures:
    """What one layer's heads do for the query cells; see `measure_induction`."""
    retrieval = batch.retrieval
    assert retrieval is not None and batch.content is not None
    n = config.n_prefix
    score, raw = batch.compute_once(match_queries, config).score(pattern)
    mean = pattern.mean(0, keepdim=True)
    return {
        "mass": induction_mass(pattern, retrieval, n),
        "strength": induction_strength(pattern, retrieval, n),
        "prefix_matching": score[:, 0],
        "prefix_matching_raw": raw[:, 0],
        "previous_cell": previous_cell_mass(mean, retrieval.candidates[0], n),
        "previous_cell_everywhere": previous_mass(mean, n),
    }


@pin_torch()
def measure_induction(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `induction`, on pictures of item-label pairs, of each head (layer head).

    mass                     attention from the query to the label that answers, 0 to 1
    strength                 that less the mean over the other labels (`induction_strength`)
    prefix_matching          (s - c) / (1 - c) of the query cells, s the attention on what followed
                             the same content, c what even attention has of it under the mask
    prefix_matching_raw      its s
    previous_cell            of the label cells
    previous_cell_everywhere of all cells but the first
    ..._chance               what even attention gives under the mask
    """
    patterns = list_patterns(model, trace)
    layers = [describe_induction(pattern, batch, model.config) for pattern in patterns]
    chances = batch.compute_once(compute_induction_chances, model.config)
    return stack_layers(layers) | chances


def compute_induction_chances(batch: Batch, config: ModelConfig) -> Measures:
    """What even attention gives each quantity of the analysis `induction` under the mask."""
    even = spread_evenly(config).expand(len(batch.images), -1, -1, -1)
    return name_chances(stack_layers([describe_induction(even, batch, config)]), OF_RETRIEVAL)


OF_RETRIEVAL = {
    "mass": SHARE,
    "strength": Quantity("layer head", least=-1, most=1),
    "prefix_matching": Quantity("layer head", most=1, may_be_nan=True),
    "prefix_matching_raw": Quantity("layer head", least=0, most=1, may_be_nan=True),
    "previous_cell": SHARE,
    "previous_cell_everywhere": SHARE,
}
INDUCTION = Analysis(
    name="induction",
    computes="attention from the query to its match, and to previous cells",
    measure=measure_induction,
    quantities=OF_RETRIEVAL | declare_chances(OF_RETRIEVAL),
    sites=SITES,
    needs=(RETRIEVAL, CONTENT),
    cost=3,
    source="Olsson 2022 (prefix matching), Singh 2024 (strength)",
    truth="planted patterns: 1",
    null="what attention spread evenly over all tokens that the mask allows gives, measured "
    "beside each as `..._chance`; prefix matching 0",
    version=2,
)
