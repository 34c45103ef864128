"""Heads held to a hand-built pattern or output while a model trains: causal claims about learning (after Singh 2024).

A clamp of `PATTERNS` replaces a head's attention pattern in the forward pass (before any dropout), so that nothing flows back
to its queries and keys. `copy` and `carry` are put into the weights (`train/clamps.py`): the head writes what it attends to, as
it is or into directions of its own. Checkpoints hold the bare model; `apply_clamps` gives the model as it was trained, and that is
what is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from toyvit.config import Clamp, ModelConfig
from toyvit.data.tasks import Retrieval
from toyvit.errors import BadInput
from toyvit.model import ViT
from toyvit.model.options import allowed_keys
from toyvit.model.taps import Tap, editing, then, untouched

Seen = Float[Tensor, "image head query key"]
Allowed = Bool[Tensor, "query key"]


def previous(seen: Seen, allowed: Allowed, n_prefix: int, retrieval: Retrieval | None) -> Tensor:
    """Every patch attends to the one before it in raster order; the first patch, CLS and registers attend to themselves."""
    keys = torch.arange(len(allowed), device=seen.device)
    keys[n_prefix + 1 :] -= 1
    return F.one_hot(keys, len(allowed)).to(seen.dtype)


def identity(seen: Seen, allowed: Allowed, n_prefix: int, retrieval: Retrieval | None) -> Tensor:
    """Every token attends to itself."""
    return torch.eye(len(allowed), dtype=seen.dtype, device=seen.device)


def uniform(seen: Seen, allowed: Allowed, n_prefix: int, retrieval: Retrieval | None) -> Tensor:
    """Every token attends evenly to all that the mask allows."""
    share = allowed.to(seen.dtype).to(seen.device)
    return share / share.sum(-1, keepdim=True)


def match(seen: Seen, allowed: Allowed, n_prefix: int, retrieval: Retrieval | None) -> Tensor:
    """The query cell attends to the label that answers, every other token to itself: (image 1 query key)."""
    assert retrieval is not None
    if len(retrieval.target) != len(seen):
        raise ValueError(
            f"the clamp 'match' knows {len(retrieval.target)} pictures, the model was given {len(seen)}"
        )
    pattern, images = (
        identity(seen, allowed, n_prefix, retrieval).repeat(len(seen), 1, 1, 1),
        torch.arange(len(seen)),
    )
    asks, answers = (
        retrieval.query.to(seen.device) + n_prefix,
        retrieval.target.to(seen.device) + n_prefix,
    )
    pattern[images, 0, asks] = F.one_hot(answers, len(allowed)).to(seen.dtype)
    return pattern


def frozen(seen: Seen, allowed: Allowed, n_prefix: int, retrieval: Retrieval | None) -> Tensor:
    """The head's own pattern, taken as given: the forward pass is unchanged, queries and keys stop learning."""
    return seen.detach()


# (the pattern that is seen, what the mask allows, tokens before the patches, pairs) -> what the head is held to.
PATTERNS: dict[str, Callable[[Tensor, Tensor, int, Retrieval | None], Tensor]] = {
    "previous": previous,
    "match": match,
    "uniform": uniform,
    "identity": identity,
    "frozen": frozen,
}
NEED_PAIRS = ("match",)
CLAMPS = (*PATTERNS, "copy", "carry")


def active_clamps(clamps: Sequence[str], step: int) -> list[Clamp]:
    """The clamps that hold a model after `step` updates."""
    return [clamp for clamp in map(Clamp.parse, clamps) if step >= clamp.start]


def needs_retrieval(clamps: Sequence[str]) -> bool:
    """Whether some clamp has to know where each picture's match is."""
    return any(Clamp.parse(text).what in NEED_PAIRS for text in clamps)


def build_clamp_tap(
    clamps: Sequence[str], step: int, config: ModelConfig, retrieval: Retrieval | None
) -> Tap:
    """The tap that puts the patterns in force at `step` in place; of two for one head the later one counts.

    `pairs` are those of the pictures that the model will see, needed by `match` only.
    """
    wanted = [clamp for clamp in active_clamps(clamps, step) if clamp.what in PATTERNS]
    if not wanted:
        return untouched
    allowed, edits = allowed_keys(config), dict[str, Callable[[Tensor], Tensor]]()
    for layer in {clamp.layer for clamp in wanted}:
        here = [clamp for clamp in wanted if clamp.layer == layer]

        def edit(pattern: Tensor, here: list[Clamp] = here) -> Tensor:
            new = pattern.clone()
            for clamp in here:
                heads = clamp.heads
                new[:, heads] = PATTERNS[clamp.what](
                    pattern[:, heads], allowed, config.n_prefix, retrieval
                )
            return new

        edits[f"blocks.{layer}.attn.pattern"] = edit
    return editing(edits)


class ClampedViT(ViT):
    """A model under clamps: every forward pass, whoever makes it, goes through `clamp_tap` before it reaches the caller's tap."""

    clamp_tap: Tap = untouched

    def run_blocks(self, x: Tensor, first: int = 0, tap: Tap = untouched) -> Tensor:
        return super().run_blocks(x, first, then(self.clamp_tap, tap))


def apply_clamps(model: ViT, clamps: Sequence[str], step: int, retrieval: Retrieval | None) -> ViT:
    """The model as it was trained at `step`: itself where no pattern is in force, else a copy under the clamps.

    `pairs` are those of the pictures that it will be shown; with `match` it can be shown no others.
    """
    tap = build_clamp_tap(clamps, step, model.config, retrieval)
    if tap is untouched:
        return model
    if retrieval is None and any(clamp.what in NEED_PAIRS for clamp in active_clamps(clamps, step)):
        raise BadInput(
            "the run was trained under the clamp 'match', but some of these pictures have no match: another --split"
        )
    other = ClampedViT(model.config)
    other.load_state_dict(model.state_dict())
    other.clamp_tap = tap
    return other.eval()
