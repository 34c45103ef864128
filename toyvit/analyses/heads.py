"""What kind of head is it? A score for each type, its null where there is nothing, and a name.

Scores of patterns are (s - c) / (1 - c): s is the attention that the type's keys get, mean over the
patches that have any, c is what they get from attention spread evenly over all keys that the mask
allows. Uniform attention: 0; a planted pattern: 1. Attention weights alone explain nothing (Pruthi
2019): a name is where to look, not what the head is for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from toyvit import stats
from toyvit.analyses.analysis import (
    Analysis,
    Measures,
    Quantity,
    Tagged,
    share,
    split_key,
    stack_layers,
)
from toyvit.analyses.attention import Grid, Pattern
from toyvit.analyses.composition import (
    fold_heads,
    score_copying_of_heads,
    simulate_copying,
)
from toyvit.analyses.induction import (
    Matching,
    find_prefix_targets,
    join_matchings,
    mark_queries,
    weigh_targets,
)
from toyvit.analyses.places import Targets, list_moduli, list_static_types, score_places
from toyvit.analyses.weights import read_vocabulary, score_copied
from toyvit.config import ModelConfig
from toyvit.data.task import Batch
from toyvit.model import ViT
from toyvit.model.options import allowed_keys
from toyvit.surroundings import pin_torch

MARGIN = 0.2  # a type's score must clear its nulls by as much before the head gets the name
NARROW = 2 / 3  # of a wide type's score, for a narrow one inside it to be the better name
FEW = 256  # images that scores of content are measured on
FEWEST = 30  # queries that must have something to look for before a score of content is given
# e^entropy / keys of rows drawn from Dirichlet(1), for many keys: 0.655.
RANDOM_ROWS = math.exp(-(1 - 0.5772156649))


def includes(larger: Targets, targets: Targets) -> bool:
    """Whether the larger type has all keys of the other, and more."""
    return bool((targets <= larger).all()) and not torch.equal(targets, larger)


def list_implied(grid: Grid) -> dict[str, set[str]]:
    """Which other types each type brings with it: those whose keys include all of its keys.

    And what a sink on one token is.

    >>> sorted(list_implied((5, 5))["previous_row"])
    ['local', 'same_column']
    """
    static = list_static_types(grid)
    forms = {name: [targets] for name, targets in static.items()}
    forms["modulus"] = list(list_moduli(grid).values())
    implied: dict[str, set[str]] = {name: set() for name in static}
    for name, targets in static.items():
        for other, larger in forms.items():
            if other != name and any(includes(form, targets) for form in larger):
                implied[name].add(other)
    return implied | {"cls_reader": {"sink"}, "sink": {"corner", "edge"}}


def score_uniform(pattern: Pattern, n_allowed: Int[Tensor, " query"]) -> Float[Tensor, " head"]:
    """(e^entropy - 1) / (keys - 1), mean over images and queries with two keys or more.

    One-hot 0, uniform 1; NaN where no query has two.

    >>> score_uniform(torch.full((1, 1, 4, 4), 0.25), torch.full((4,), 4))
    tensor([1.])
    """
    asks = n_allowed > 1
    if not asks.any():
        return torch.full((pattern.shape[1],), torch.nan)
    spread = (stats.entropy(pattern).exp() - 1) / (n_allowed - 1)
    return spread[:, :, asks].mean((0, 2))


TYPES_OF_CONTENT = {"same_content": 0, "induction": 1}  # the keys so many cells after a match


class ContentMatching(NamedTuple):
    """What queries look for by content: for each type the targets, then with the ids shuffled.

    `enough` is NaN for a type of which fewer than 30 queries have something to look for, else 1.
    """

    matching: Matching
    enough: list[float]


def match_contents(batch: Batch, config: ModelConfig) -> ContentMatching:
    """The types of content, on the first 256 images.

    Induction is asked of the query cells where pictures have item-label pairs, else of every patch
    with a repeated content.
    """
    assert batch.content is not None
    allowed = allowed_keys(config)[config.n_prefix :]
    content = batch.content[:FEW]
    order = torch.rand(content.shape, generator=torch.Generator().manual_seed(0)).argsort(-1)

    kinds = []
    enough = []
    for name, offset in TYPES_OF_CONTENT.items():
        queries = torch.ones_like(content, dtype=torch.bool)
        if batch.retrieval is not None and name == "induction":
            queries = mark_queries(content, batch.retrieval)
        for ids in (content, content.gather(1, order)):
            targets = find_prefix_targets(ids, offset, allowed[:, config.n_prefix :])
            kinds.append(weigh_targets(targets, allowed.sum(-1), queries))
            enough.append(1 if (targets.any(-1) & queries).sum() >= FEWEST else math.nan)
    return ContentMatching(join_matchings(kinds), enough[::2])


def score_content(pattern: Pattern, types: ContentMatching) -> tuple[Measures, Measures]:
    """Same-content and induction scores, with both nulls.

    Patterns averaged over images (`keeps=position`), and content ids shuffled (`keeps=content`).
    NaN where fewer than 30 queries have what they would look for.
    """
    score, _ = types.matching.score(pattern)
    of_mean, _ = types.matching.average().score(pattern.mean(0, keepdim=True))
    scores: Measures = {}
    nulls: Measures = {}
    for place, name in enumerate(TYPES_OF_CONTENT):
        scores[Tagged("score", type=name)] = score[:, 2 * place] * types.enough[place]
        nulls[Tagged("null", keeps="position", type=name)] = of_mean[:, 2 * place]
        nulls[Tagged("null", keeps="content", type=name)] = score[:, 2 * place + 1]
    return scores, nulls


def score_weights(
    model: ViT, batch: Batch, trace: Mapping[str, Tensor], layer: int
) -> tuple[Measures, Measures]:
    """Copying by eigenvalues, and of labels where cells name classes.

    Nulls: three standard deviations of random heads, and 1 / labels.
    """
    weights = share(trace, fold_heads, model)[layer]
    score = share(trace, score_copying_of_heads, model)[layer]
    sd = simulate_copying(model.config.d_model, model.config.d_head)
    scores: Measures = {Tagged("score", type="copy"): score}
    null = torch.full_like(score, 3 * sd)
    nulls: Measures = {Tagged("null", keeps="chance", type="copy"): null}

    vocabulary = batch.compute_once(read_vocabulary, model.config)
    if vocabulary is not None:
        copied = score_copied(vocabulary, model, weights.v @ weights.o)
        scores[Tagged("score", type="copy_labels")] = copied
        chance = torch.full_like(copied, 1 / len(vocabulary.classes))
        nulls[Tagged("null", keeps="chance", type="copy_labels")] = chance
    return scores, nulls


def score_uses_of_cls(
    mean: Float[Tensor, "head query key"], model: ViT, allowed: Bool[Tensor, "query key"]
) -> tuple[Measures, Measures]:
    """How much CLS gets from patches above its even share; null: what the other tokens get."""
    n = model.config.n_prefix
    tokens = mean[:, n:].mean(1)
    even = (allowed[n:] / allowed[n:].sum(-1, keepdim=True)).mean(0)
    above = (tokens - even) / (1 - even).clamp(min=1e-6)
    null = above[:, 1:].amax(-1).clamp(min=0)
    return (
        {Tagged("score", type="cls_reader"): above[:, 0]},
        {Tagged("null", keeps="chance", type="cls_reader"): null},
    )


def score_layer(model: ViT, batch: Batch, trace: Mapping[str, Tensor], layer: int) -> Measures:
    """The scores of one layer's heads for every type, then their nulls; see `measure_heads`."""
    config = model.config
    allowed = allowed_keys(config)
    pattern = trace[f"blocks.{layer}.attn.pattern"]
    mean = pattern.mean(0)
    scores, nulls = score_places(mean, config)
    groups = []
    if batch.content is not None:
        types = batch.compute_once(match_contents, config)
        groups.append(score_content(pattern[:FEW], types))
    groups.append(score_weights(model, batch, trace, layer))
    uniform: Measures = {Tagged("score", type="uniform"): score_uniform(pattern, allowed.sum(-1))}
    random = torch.full((config.n_heads,), RANDOM_ROWS)
    groups.append((uniform, {Tagged("null", keeps="chance", type="uniform"): random}))
    if config.cls_token:
        groups.append(score_uses_of_cls(mean, model, allowed))

    for more_scores, more_nulls in groups:
        scores |= more_scores
        nulls |= more_nulls
    return scores | nulls


@pin_torch()
def measure_heads(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `heads`: the score of every head for every type, and its nulls (layer head).

    Types of place: what the pattern gives when keys are dealt to other places, for each query on
    its own and for all of them alike (`keeps=content`, the 95th percentile of 50 draws). Types of
    content, on the first 256 images: what the pattern's mean over images gives (`keeps=position`),
    and what it gives with the content ids shuffled among the patches (`keeps=content`).
    `cls_reader`, `uniform` and copying: `keeps=chance`. NaN where a grid, or a mask, has no such
    place.
    """
    layers = range(model.config.n_layers)
    return stack_layers([score_layer(model, batch, trace, layer) for layer in layers])


HEADS = Analysis(
    name="heads",
    computes="scores of each head for every type, beside their nulls",
    measure=measure_heads,
    quantities={
        "score": Quantity("layer head", most=1, may_be_nan=True),
        "null": Quantity("layer head", most=1, may_be_nan=True),
    },
    sites=("blocks.*.attn.pattern",),
    cost=10,
    source="families named by Elhage 2021, Olsson 2022 and Prisma; scores and nulls: this lab's",
    truth="a planted pattern gets its own name and no other",
    null="the null measured beside each score: the same score where what it is about was "
    "shuffled (places, content ids), averaged away (patterns over images), or of random "
    "heads",
    version=2,
)


def name_head(
    scores: Mapping[str, float],
    nulls: Mapping[str, float],
    implied: Mapping[str, set[str]],
    margin: float = MARGIN,
) -> list[str]:
    """The types whose score clears the largest of its nulls (and 0) by `margin`, best first.

    Where one type brings another with it (`implied`, from `list_implied`), one of the two stays:
    the narrow one if its score is at least 2/3 of the wide one's. A head that looks one column back
    is not called a same-row head as well.

    >>> scores = {"previous_column": 0.9, "same_row": 0.95, "sink": 0.1}
    >>> name_head(scores, {"same_row": 0.2}, list_implied((5, 5)))
    ['previous_column']
    """
    clear = {
        name for name, score in scores.items() if score > max(nulls.get(name, 0.0), 0.0) + margin
    }
    names = clear - _list_beaten(clear, scores, implied)
    return sorted(names, key=lambda name: -scores[name])


def _list_beaten(
    clear: set[str], scores: Mapping[str, float], implied: Mapping[str, set[str]]
) -> set[str]:
    """Of every two types of which one brings the other with it, the one that is no name."""
    beaten = set()
    for narrow in clear:
        for wide in implied.get(narrow, set()) & clear:
            is_narrow = scores[narrow] >= scores[wide] * NARROW
            beaten.add(wide if is_narrow else narrow)
    return beaten


def split_nulls(measures: Measures) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Scores and the largest null of each type, from what `measure_heads` returns.

    >>> first = Tagged("null", keeps="position", type="induction")
    >>> second = Tagged("null", keeps="content", type="induction")
    >>> split_nulls({first: torch.tensor(0.1), second: torch.tensor(0.3)})
    ({}, {'induction': tensor(0.3000)})
    """
    scores: dict[str, Tensor] = {}
    nulls: dict[str, Tensor] = {}

    for key, value in measures.items():
        quantity, tags = split_key(key)
        kind = tags["type"]
        if quantity == "score":
            scores[kind] = value
        else:
            null = value.nan_to_num(-1)
            nulls[kind] = torch.maximum(nulls[kind], null) if kind in nulls else null
    return scores, nulls


def name_heads(
    measures: Measures, grid: Grid, margin: float = MARGIN
) -> dict[tuple[int, int], list[str]]:
    """(layer, head) -> its names, from what `measure_heads` returns."""
    scores, nulls = split_nulls(measures)
    implied = list_implied(grid)
    n_layers, n_heads = next(iter(scores.values())).shape

    names = {}
    for layer in range(n_layers):
        for head in range(n_heads):
            own_scores = {name: value[layer, head].item() for name, value in scores.items()}
            own_nulls = {name: value[layer, head].item() for name, value in nulls.items()}
            names[layer, head] = name_head(own_scores, own_nulls, implied, margin)
    return names
