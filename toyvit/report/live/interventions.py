"""What a question changes in a forward pass, as one tap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, reduce

import torch
from jaxtyping import Float
from torch import Tensor

from toyvit.circuits.patching import forbid_edges
from toyvit.config import ModelConfig
from toyvit.model.taps import Tap, editing, untouched
from toyvit.report.live.question import Head, Question

HEADS = "blocks.{}.attn.z"
PATTERNS = "blocks.{}.attn.pattern"
BLOCKS = "blocks.{}.resid_post"
Edit = Callable[[Tensor], Tensor]
Written = Float[Tensor, "_ token head feature"]


def build_tap(
    question: Question,
    config: ModelConfig,
    means: Mapping[str, Tensor],
    source: Mapping[str, Tensor],
) -> Tap:
    """The tap that does what is asked; `untouched` where nothing is.

    `means` and `source` have `attn.z` of each layer: its mean over pictures, and what it is on the
    picture that is patched from, of which there is `resid_post` of the patched blocks too.
    """
    edits: dict[str, list[Edit]] = {}
    for head in question.heads:
        site = HEADS.format(head[0])
        new = means[site] if question.ablation == "mean" else None
        edits.setdefault(site, []).append(partial(set_head, head=head, new=new))

    for head in question.patched_heads:
        site = HEADS.format(head[0])
        edits.setdefault(site, []).append(partial(set_head, head=head, new=source[site]))

    for layer in sorted({edge[0] for edge in question.edges}):
        cut = torch.zeros(1, config.n_heads, config.n_tokens, config.n_tokens, dtype=torch.bool)
        for _, number, query, key in (edge for edge in question.edges if edge[0] == layer):
            cut[0, number, query, key] = True
        edits[PATTERNS.format(layer)] = [partial(forbid_edges, cut=cut)]

    for block in question.patched_blocks:
        site = BLOCKS.format(block)
        edits[site] = [partial(put, new=source[site])]
    if not edits:
        return untouched
    return editing({site: partial(follow, edits=parts) for site, parts in edits.items()})


def set_head(z: Written, head: Head, new: Written | None) -> Written:
    """What the heads of a layer write, with one head's replaced; by zero where there is no new."""
    z = z.clone()
    z[:, :, head[1]] = 0 if new is None else new[:, :, head[1]]
    return z


def put(value: Tensor, new: Tensor) -> Tensor:
    """The new value in place of the old one."""
    return new.expand_as(value)


def follow(value: Tensor, edits: list[Edit]) -> Tensor:
    """A value after one edit after another."""
    return reduce(lambda old, edit: edit(old), edits, value)
