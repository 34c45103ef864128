"""The types of heads that are places: where on the grid a head looks, and by chance.

A score is (s - c) / (1 - c): s is the attention that the type's keys get, mean over the patches
that have any, c is what they get from attention spread evenly over all keys that the mask allows.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from toyvit.analyses.analysis import Measures, Tagged
from toyvit.analyses.attention import Grid, list_families, list_patch_places
from toyvit.config import ModelConfig
from toyvit.model.options import allowed_keys

SHUFFLES = 50
QUANTILE = 0.95
Targets = Bool[Tensor, "patch to_patch"]
STEPS = {
    "previous_row": (-1, 0),
    "next_row": (1, 0),
    "previous_column": (0, -1),
    "next_column": (0, 1),
    "itself": (0, 0),
}


def list_static_types(grid: Grid) -> dict[str, Targets]:
    """The types that are places: for each the (query, key) patches that it counts.

    `previous_row` looks one row up, `next_column` one column to the right; `local` at the (up to
    eight) patches around.

    >>> list_static_types((1, 3))["next_column"].int()
    tensor([[0, 1, 0],
            [0, 0, 1],
            [0, 0, 0]], dtype=torch.int32)
    """
    rows, columns = list_patch_places(grid)
    down = rows - rows[:, None]
    right = columns - columns[:, None]
    steps = {name: (down == y) & (right == x) for name, (y, x) in STEPS.items()}
    near = torch.maximum(down.abs(), right.abs()) == 1
    return steps | list_families(grid) | {"local": near}


def list_moduli(grid: Grid) -> dict[int, Targets]:
    """The other patches whose raster numbers differ by a multiple of m, m from columns - 1 to 2.

    >>> list(list_moduli((4, 5)))
    [4, 3, 2]
    """
    index = torch.arange(grid[0] * grid[1])
    apart = index - index[:, None]
    return {m: (apart % m == 0) & (apart != 0) for m in range(grid[1] - 1, 1, -1)}


class Places(NamedTuple):
    """The types of places of a grid under a mask, and how they are dealt anew.

    Of each type the targets, and how many patches have some with the share that even attention
    gives them, (type deal): for the type as it is, then for its places dealt to others.
    """

    names: tuple[str, ...]
    targets: Float[Tensor, "place type"]
    n_asking: Float[Tensor, "type deal"]
    chance: Float[Tensor, "type deal"]
    keys: Int[Tensor, "deal query key"]  # to which key each of a query's goes
    orders: Int[Tensor, "deal patch"]  # from which patch all queries take what a patch gets


@lru_cache(16)
def deal_places(config: ModelConfig, n_deals: int) -> Places:
    """The types, `modulus` once for each modulus, and so many deals of both kinds."""
    allowed = allowed_keys(config)
    types = list_static_types(config.grid)
    named = [*types.items()]
    named += [("modulus", targets) for targets in list_moduli(config.grid).values()]
    targets = torch.stack([places for _, places in named])

    keys = []
    generator = torch.Generator().manual_seed(0)
    for _ in range(n_deals):
        drawn = torch.rand(allowed.shape, generator=generator)
        keys.append(drawn.masked_fill(~allowed, 2).argsort(-1))

    generator = torch.Generator().manual_seed(0)
    orders = torch.rand(n_deals, config.n_patches, generator=generator).argsort(-1)
    visible = allowed[config.n_prefix :, config.n_prefix :]
    n_allowed = allowed[config.n_prefix :].sum(-1).double()
    counts = []
    for order in (torch.arange(config.n_patches), *orders):
        n_targets = (targets[:, :, order] & visible).sum(-1)  # type, query
        counts.append(torch.stack([(n_targets > 0).sum(-1), (n_targets / n_allowed).sum(-1)]))
    n_asking, shares = torch.stack(counts, -1)

    return Places(
        names=tuple(name for name, _ in named),
        targets=targets.flatten(1).T.double(),
        n_asking=n_asking,
        chance=shares / n_asking,
        keys=torch.stack(keys),
        orders=orders.argsort(-1),
    )


def shuffle_keys(
    mean: Float[Tensor, "head query key"], config: ModelConfig
) -> Float[Tensor, "draw head query key"]:
    """A pattern, and 50 times what is left of it when each query's keys are dealt anew.

    Its attention then goes to other keys that the mask allows it.
    """
    keys = deal_places(config, SHUFFLES).keys[:, None].expand(-1, len(mean), -1, -1)
    allowed_first = (~allowed_keys(config)).int().argsort(dim=-1, stable=True)
    values = mean.gather(-1, allowed_first.expand_as(mean)).expand(len(keys), -1, -1, -1)
    return torch.cat([mean[None], torch.zeros_like(values).scatter(-1, keys, values)])


def score_sink(
    patterns: Float[Tensor, "draw head query key"], allowed: Bool[Tensor, "query key"]
) -> Float[Tensor, "draw head"]:
    """How much the most attended token gets above its even share, as a share of the rest.

    0 uniform, 1 if all look there.

    >>> score_sink(torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]]), torch.ones(2, 2).bool())
    tensor([[1.]])
    """
    even = (allowed / allowed.sum(-1, keepdim=True)).mean(0)
    above = (patterns.mean(-2) - even) / (1 - even).clamp(min=1e-6)
    return torch.where(even < 1 - 1e-6, above, 0).amax(-1)


def score_draws(
    patterns: Float[Tensor, "draw head query key"], config: ModelConfig
) -> Float[Tensor, "type deal head"]:
    """(s - c) / (1 - c), at most 1, of each type of `deal_places`. Uniform: 0; on targets: 1.

    Of the draws of `shuffle_keys`, then of the first of them with the type's places dealt to other
    places, for all queries alike. NaN where no patch has a target, or where the targets are all
    that it may look at.
    """
    places = deal_places(config, SHUFFLES)
    n = config.n_prefix
    among = patterns[..., n:, n:] * allowed_keys(config)[n:, n:]
    elsewhere = among[0][..., places.orders].permute(2, 0, 1, 3)  # deal, head, query, key

    score = torch.cat([among, elsewhere]).flatten(2) @ places.targets
    first = torch.zeros(len(among), dtype=torch.long)
    deals = torch.cat([first, torch.arange(1, 1 + SHUFFLES)])
    s = score.permute(2, 0, 1) / places.n_asking[:, deals, None]
    c = places.chance[:, deals, None]
    return torch.where(c < 1 - 1e-6, (s - c) / (1 - c), torch.nan).float()


def score_places(
    mean: Float[Tensor, "head query key"], config: ModelConfig
) -> tuple[Measures, Measures]:
    """Scores and nulls of the types that are places, of the mean pattern.

    The nulls: keys dealt to other places, for each query on its own and for all alike. Of each kind
    of shuffle the 95th percentile counts, and of the two the larger.
    """
    rows = mean.double()  # where 1 - c is small it enlarges what rounding leaves
    patterns = shuffle_keys(rows / rows.sum(-1, keepdim=True), config)
    names = deal_places(config, SHUFFLES).names
    types = score_draws(patterns, config)
    draws = dict(zip(names, types, strict=True))
    moduli = types[[name == "modulus" for name in names]]
    if len(moduli):
        largest = moduli.nan_to_num(-torch.inf).amax(0)
        draws["modulus"] = torch.where(moduli.isnan().all(0), torch.nan, largest)

    of_types = torch.stack(list(draws.values()))
    shuffles = of_types[:, 1:].nan_to_num(-1).unflatten(1, (2, SHUFFLES))
    null = shuffles.quantile(QUANTILE, 2).amax(1)  # type, head
    sink = score_sink(patterns, allowed_keys(config)).float()

    scores: Measures = {Tagged("score", type=name): score[0] for name, score in draws.items()}
    nulls: Measures = {
        Tagged("null", keeps="content", type=name): level
        for name, level in zip(draws, null, strict=True)
    }
    scores[Tagged("score", type="sink")] = sink[0]
    nulls[Tagged("null", keeps="content", type="sink")] = sink[1:].quantile(QUANTILE, 0)
    return scores, nulls
