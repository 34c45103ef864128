"""What kind of head is it? A score for each type, what the score is where there is nothing of the kind, and a name.

Scores of patterns are (s - c) / (1 - c): s is the attention that the type's keys get, mean over the patches that have any, c is
what they get from attention spread evenly over all keys that the mask allows. Uniform attention: 0; a planted pattern: 1.
Attention weights alone explain nothing (Pruthi 2019): a name is where to look, not what the head is for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from toyvit import stats
from toyvit.analyses.attention import Grid, Pattern, list_families, list_patch_places
from toyvit.analyses.induction import find_prefix_targets, score_copying, score_prefix_matching
from toyvit.analyses.weights import (
    average_pictures,
    find_vocabulary,
    score_copied,
    simulate_copying,
)
from toyvit.data.task import Batch
from toyvit.instruments.weight_circuits import ov_circuit
from toyvit.model import ViT

MARGIN = 0.2  # a type's score must clear its nulls by as much before the head gets the name
NARROW = 2 / 3  # of a wide type's score, for a narrow one inside it to be the better name
SHUFFLES, QUANTILE = 50, 0.95
FEW = 256  # images that scores of content are measured on
FEWEST = 30  # queries that must have something to look for before a score of content is given
RANDOM_ROWS = math.exp(
    -(1 - 0.5772156649)
)  # e^entropy / keys of rows drawn from Dirichlet(1), for many keys: 0.655

Targets = Bool[Tensor, "patch to_patch"]


def list_static_types(grid: Grid) -> dict[str, Targets]:
    """The types that are places: for each the (query, key) patches that it counts.

    `previous_row` looks one row up, `next_column` one column to the right; `local` at the (up to eight) patches around.
    """
    rows, columns = list_patch_places(grid)
    down, right = rows - rows[:, None], columns - columns[:, None]
    steps = {
        "previous_row": (-1, 0),
        "next_row": (1, 0),
        "previous_column": (0, -1),
        "next_column": (0, 1),
        "itself": (0, 0),
    }
    near = torch.maximum(down.abs(), right.abs()) == 1
    return (
        {name: (down == one) & (right == other) for name, (one, other) in steps.items()}
        | list_families(grid)
        | {"local": near}
    )


def list_moduli(grid: Grid) -> dict[int, Targets]:
    """For m from columns - 1 down to 2, the other patches whose raster number differs by a multiple of m."""
    index = torch.arange(grid[0] * grid[1])
    apart = index - index[:, None]
    return {m: (apart % m == 0) & (apart != 0) for m in range(grid[1] - 1, 1, -1)}


def list_implied(grid: Grid) -> dict[str, set[str]]:
    """Which other types each type brings with it: those whose keys include all of its keys; and what a sink on one token is."""
    static = list_static_types(grid)
    one_of = {name: [targets] for name, targets in static.items()} | {
        "modulus": list(list_moduli(grid).values())
    }
    found = {
        name: {
            other
            for other, larger in one_of.items()
            if other != name
            and any((targets <= more).all() and not torch.equal(targets, more) for more in larger)
        }
        for name, targets in static.items()
    }
    return found | {"cls_reader": {"sink"}, "sink": {"corner", "edge"}}


def shuffle_keys(
    mean: Float[Tensor, "head query key"], allowed: Bool[Tensor, "query key"]
) -> Float[Tensor, "draw head query key"]:
    """A pattern, and 50 times what is left of it when each query's attention is dealt to other keys that the mask allows it."""
    generator, out = torch.Generator().manual_seed(0), [mean]
    values = mean.gather(
        -1, (~allowed).int().argsort(dim=-1, stable=True).expand_as(mean)
    )  # allowed keys first
    for _ in range(SHUFFLES):
        places = torch.rand(allowed.shape, generator=generator).masked_fill(~allowed, 2).argsort(-1)
        out.append(torch.zeros_like(mean).scatter(-1, places.expand_as(mean), values))
    return torch.stack(out)


def score_targets(
    patterns: Float[Tensor, "draw head patch to_patch"],
    targets: Bool[Tensor, "other_draw patch to_patch"],
    n_allowed: Int[Tensor, " patch"],
) -> Float[Tensor, "some_draw head"]:
    """(s - c) / (1 - c) of mean patterns; NaN where no patch has a target, or where the targets are all that it may look at."""
    n = targets.any(-1).sum(-1)[:, None]
    s = torch.einsum("dhqk,dqk->dh", patterns, targets.float()) / n
    c = (targets.sum(-1) / n_allowed).sum(-1)[:, None] / n
    return torch.where(c < 1 - 1e-6, (s - c) / (1 - c), torch.nan)


def score_sink(
    patterns: Float[Tensor, "draw head query key"], allowed: Bool[Tensor, "query key"]
) -> Float[Tensor, "draw head"]:
    """How much the most attended token gets above its even share, as a share of the rest: 0 uniform, 1 if all look there."""
    even = (allowed / allowed.sum(-1, keepdim=True)).mean(0)
    return torch.where(
        even < 1 - 1e-6, (patterns.mean(-2) - even) / (1 - even).clamp(min=1e-6), 0
    ).amax(-1)


def score_uniform(pattern: Pattern, n_allowed: Int[Tensor, " query"]) -> Float[Tensor, " head"]:
    """(e^entropy - 1) / (keys - 1), mean over images and queries with two keys or more: one-hot 0, uniform 1."""
    asks = n_allowed > 1
    if not asks.any():
        return torch.full((pattern.shape[1],), torch.nan)
    n = n_allowed[asks]
    return ((stats.entropy(pattern[:, :, asks]).exp() - 1) / (n - 1)).mean((0, 2))


def score_places(
    patterns: Tensor, model: ViT, allowed: Bool[Tensor, "query key"]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Scores and nulls of the types that are places: keys dealt to other places, for each query on its own and for all alike.

    Of each kind of shuffle the 95th percentile counts, and of the two the larger.
    """
    grid, n = model.config.grid, model.config.n_prefix
    among, seen, n_allowed = patterns[..., n:, n:], allowed[n:, n:], allowed[n:].sum(-1)
    generator = torch.Generator().manual_seed(0)
    orders = torch.rand(SHUFFLES, len(seen), generator=generator).argsort(-1)

    def scored(targets: Targets) -> Tensor:
        elsewhere = targets[:, orders].transpose(0, 1) & seen
        return torch.cat(
            [
                score_targets(among, (targets & seen)[None], n_allowed),
                score_targets(among[:1], elsewhere, n_allowed),
            ]
        )

    found = {name: scored(targets) for name, targets in list_static_types(grid).items()}
    several = [scored(targets).nan_to_num(-1) for targets in list_moduli(grid).values()]
    if several:
        found["modulus"] = torch.stack(several).amax(0)
    found["sink"] = score_sink(patterns, allowed)
    shuffles = {name: values[1:].nan_to_num(-1).split(SHUFFLES) for name, values in found.items()}
    return (
        {f"score[type={name}]": values[0] for name, values in found.items()},
        {
            f"null[keeps=content,type={name}]": torch.stack(
                [draws.quantile(QUANTILE, 0) for draws in both]
            ).amax(0)
            for name, both in shuffles.items()
        },
    )


def score_content(
    pattern: Pattern, batch: Batch, model: ViT, allowed: Targets
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Same-content and induction scores, with both nulls: patterns averaged over images, and content ids shuffled.

    Induction is asked of the query cells where pictures have item-label pairs, else of every patch with a repeated content.
    NaN where fewer than 30 queries have what they would look for.
    """
    assert batch.content is not None
    content, n = batch.content[: len(pattern)], model.config.n_prefix
    order = torch.rand(content.shape, generator=torch.Generator().manual_seed(0)).argsort(-1)
    mean = pattern.mean(0, keepdim=True).expand_as(pattern)
    scores, nulls = {}, {}
    for name, offset in (("same_content", 0), ("induction", 1)):
        asking = torch.ones_like(content, dtype=torch.bool)
        if batch.retrieval is not None and name == "induction":
            asking = torch.zeros_like(asking).scatter_(
                1, batch.retrieval.query[: len(pattern), None], True
            )
        targets = find_prefix_targets(content, offset, allowed)
        others = find_prefix_targets(content.gather(1, order), offset, allowed)
        enough = 1 if (targets.any(-1) & asking).sum() >= FEWEST else torch.nan
        scores[f"score[type={name}]"] = (
            enough * score_prefix_matching(pattern, targets, n, asking)[0]
        )
        nulls[f"null[keeps=position,type={name}]"] = score_prefix_matching(
            mean, targets, n, asking
        )[0]
        nulls[f"null[keeps=content,type={name}]"] = score_prefix_matching(
            pattern, others, n, asking
        )[0]
    return scores, nulls


def score_weights(
    model: ViT, batch: Batch, layer: int, patches: Tensor
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Copying by eigenvalues (null: three standard deviations of random heads), and of labels where cells name classes."""
    _, _, w_v, w_o = model.blocks[layer].attn.head_weights()  # type: ignore[union-attr, operator]
    score, (mean, sd) = (
        score_copying(w_v, w_o).detach(),
        simulate_copying(model.config.d_model, model.config.d_head),
    )
    scores = {"score[type=copy]": score}
    nulls = {"null[keeps=chance,type=copy]": torch.full_like(score, mean + 3 * sd)}
    if (known := find_vocabulary(batch)) is not None and batch.content is not None:
        share = score_copied(
            average_pictures(patches, batch.content, known[0]),
            known[1],
            model,
            ov_circuit(model, layer),
        )
        scores["score[type=copy_labels]"] = share
        nulls["null[keeps=chance,type=copy_labels]"] = torch.full_like(share, 1 / len(known[1]))
    return scores, nulls


def measure_heads(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `heads`: the score of every head for every type, and its nulls.

    Types of place: what the pattern gives when keys are dealt to other places, for each query on its own and for all of them
    alike (`keeps=content`, the 95th percentile of 50 draws). Types of content, on the first 256 images: what the pattern's mean
    over images gives (`keeps=position`), and what it gives with the content ids shuffled among the patches (`keeps=content`).
    `cls_reader`, `score_uniform` and copying: `keeps=chance`. NaN where a grid, or a mask, has no such place.
    """
    config, n = model.config, model.config.n_prefix
    allowed = (
        model.mask == 0
        if model.mask.numel() > 1
        else torch.ones(config.n_tokens, config.n_tokens, dtype=torch.bool)
    )
    n_allowed = allowed.sum(-1)
    layers: list[dict[str, Tensor]] = []
    for layer in range(config.n_layers):
        pattern = trace[f"blocks.{layer}.attn.pattern"]
        mean = pattern.mean(0)
        scores, nulls = score_places(shuffle_keys(mean, allowed), model, allowed)
        if batch.content is not None:
            more, beside = score_content(pattern[:FEW], batch, model, allowed[n:, n:])
            scores, nulls = scores | more, nulls | beside
        more, beside = score_weights(model, batch, layer, trace["patches"])
        scores, nulls = scores | more, nulls | beside
        scores["score[type=uniform]"] = score_uniform(pattern, n_allowed)
        nulls["null[keeps=chance,type=uniform]"] = torch.full((config.n_heads,), RANDOM_ROWS)
        if config.cls_token:
            tokens = mean[:, n:].mean(1)
            even = (allowed[n:] / n_allowed[n:, None]).mean(0)
            above = (tokens - even) / (1 - even).clamp(min=1e-6)
            scores["score[type=cls_reader]"] = above[:, 0]
            nulls["null[keeps=chance,type=cls_reader]"] = above[:, 1:].amax(-1).clamp(min=0)
        layers.append(scores | nulls)
    return {name: torch.stack([found[name] for found in layers]) for name in layers[0]}


def name_head(
    scores: Mapping[str, float],
    nulls: Mapping[str, float],
    brought: Mapping[str, set[str]],
    margin: float = MARGIN,
) -> list[str]:
    """The types whose score clears the largest of its nulls (and 0) by `margin`, best first.

    Where one type brings another with it (`brought`, from `list_implied`), one of the two stays: the narrow one if its score is at
    least 2/3 of the wide one's. A head that looks one column back is not called a same-row head as well.
    """
    clear = {
        name for name, score in scores.items() if score > max(nulls.get(name, 0.0), 0.0) + margin
    }
    out = set(clear)
    for narrow, wide in (
        (one, other) for one in clear for other in brought.get(one, set()) & clear
    ):
        out.discard(wide if scores[narrow] >= scores[wide] * NARROW else narrow)
    return sorted(out, key=lambda name: -scores[name])


def split_nulls(found: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Scores and the largest null of each type, from what `measure_heads` returns."""
    scores = {
        name.split("type=")[1][:-1]: value
        for name, value in found.items()
        if name.startswith("score")
    }
    nulls: dict[str, Tensor] = {}
    for name, value in found.items():
        if name.startswith("null"):
            kind = name.split("type=")[1][:-1]
            nulls[kind] = (
                value.nan_to_num(-1)
                if kind not in nulls
                else torch.maximum(nulls[kind], value.nan_to_num(-1))
            )
    return scores, nulls


def name_heads(
    found: Mapping[str, Tensor], grid: Grid, margin: float = MARGIN
) -> dict[tuple[int, int], list[str]]:
    """(layer, head) -> its names, from what `measure_heads` returns."""
    (scores, nulls), brought = split_nulls(found), list_implied(grid)
    n_layers, n_heads = next(iter(scores.values())).shape
    return {
        (layer, head): name_head(
            {name: value[layer, head].item() for name, value in scores.items()},
            {name: value[layer, head].item() for name, value in nulls.items()},
            brought,
            margin,
        )
        for layer in range(n_layers)
        for head in range(n_heads)
    }
