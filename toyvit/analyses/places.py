"""The types of heads that are places: where on the grid a head looks, and by chance.

A score is (s - c) / (1 - c): s is the attention that the type's keys get, mean over the patches
that have any, c is what they get from attention spread evenly over all keys that the mask allows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from toyvit.analyses.analysis import Measures, Tagged
from toyvit.analyses.attention import Grid, list_families, list_patch_places
from toyvit.model import ViT

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


def shuffle_keys(
    mean: Float[Tensor, "head query key"], allowed: Bool[Tensor, "query key"]
) -> Float[Tensor, "draw head query key"]:
    """A pattern, and 50 times what is left of it when each query's keys are dealt anew.

    Its attention then goes to other keys that the mask allows it.
    """
    generator = torch.Generator().manual_seed(0)
    allowed_first = (~allowed).int().argsort(dim=-1, stable=True)
    values = mean.gather(-1, allowed_first.expand_as(mean))
    draws = [mean]
    for _ in range(SHUFFLES):
        places = torch.rand(allowed.shape, generator=generator).masked_fill(~allowed, 2).argsort(-1)
        draws.append(torch.zeros_like(mean).scatter(-1, places.expand_as(mean), values))
    return torch.stack(draws)


def score_targets(
    patterns: Float[Tensor, "draw head patch to_patch"],
    targets: Bool[Tensor, "other_draw patch to_patch"],
    n_allowed: Int[Tensor, " patch"],
) -> Float[Tensor, "some_draw head"]:
    """(s - c) / (1 - c) of mean patterns, at most 1. Uniform: 0; all on the targets: 1.

    NaN where no patch has a target, or where the targets are all that it may look at.

    >>> patterns = torch.tensor([[[[0.5, 0.5], [1.0, 0.0]]]])
    >>> targets = torch.tensor([[[False, False], [True, False]]])
    >>> score_targets(patterns, targets, torch.tensor([2, 2]))
    tensor([[1.]])
    """
    n = targets.any(-1).sum(-1)[:, None]
    s = torch.einsum("dhqk,dqk->dh", patterns.double(), targets.double()) / n
    c = (targets.sum(-1) / n_allowed.double()).sum(-1)[:, None] / n
    return torch.where(c < 1 - 1e-6, (s - c) / (1 - c), torch.nan).float()


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


def build_places_scorer(
    patterns: Float[Tensor, "draw head query key"],
    n_prefix: int,
    allowed: Bool[Tensor, "query key"],
) -> Callable[[Targets], Tensor]:
    """What gives the score of a type of place, then those of both kinds of shuffles.

    Of the draws of the pattern (the first is the pattern itself, see `shuffle_keys`), then of the
    pattern with the type's places dealt to other places, for all queries alike.
    """
    n = n_prefix
    rows = patterns.double()  # where 1 - c is small it enlarges what rounding leaves
    among = (rows / rows.sum(-1, keepdim=True))[..., n:, n:]
    visible = allowed[n:, n:]
    n_allowed = allowed[n:].sum(-1)
    generator = torch.Generator().manual_seed(0)
    orders = torch.rand(SHUFFLES, len(visible), generator=generator).argsort(-1)

    def score(targets: Targets) -> Tensor:
        elsewhere = targets[:, orders].transpose(0, 1) & visible
        of_draws = score_targets(among, (targets & visible)[None], n_allowed)
        of_places = score_targets(among[:1], elsewhere, n_allowed)
        return torch.cat([of_draws, of_places])

    return score


def _score_draws(
    patterns: Float[Tensor, "draw head query key"],
    model: ViT,
    allowed: Bool[Tensor, "query key"],
) -> dict[str, Tensor]:
    """Scores of each type: of the pattern first, then of its shuffles."""
    grid = model.config.grid
    score = build_places_scorer(patterns, model.config.n_prefix, allowed)
    rows = {name: score(targets) for name, targets in list_static_types(grid).items()}

    moduli = [score(targets) for targets in list_moduli(grid).values()]
    if moduli:
        of_all = torch.stack(moduli)
        largest = of_all.nan_to_num(-torch.inf).amax(0)
        rows["modulus"] = torch.where(of_all.isnan().all(0), torch.nan, largest)
    return rows | {"sink": score_sink(patterns, allowed)}


def score_places(
    patterns: Float[Tensor, "draw head query key"],
    model: ViT,
    allowed: Bool[Tensor, "query key"],
) -> tuple[Measures, Measures]:
    """Scores and nulls of the types that are places.

    The nulls: keys dealt to other places, for each query on its own and for all alike. Of each kind
    of shuffle the 95th percentile counts, and of the two the larger.
    """
    scores: Measures = {}
    nulls: Measures = {}
    for name, values in _score_draws(patterns, model, allowed).items():
        scores[Tagged("score", type=name)] = values[0]
        shuffles = values[1:].nan_to_num(-1).split(SHUFFLES)
        quantiles = [draws.quantile(QUANTILE, 0) for draws in shuffles]
        nulls[Tagged("null", keeps="content", type=name)] = torch.stack(quantiles).amax(0)
    return scores, nulls
