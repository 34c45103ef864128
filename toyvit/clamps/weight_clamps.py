"""Clamps of a run in training: which can be, and those that are put into the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from toyvit.clamps.patterns import CLAMPS, NEED_PAIRS, PATTERNS, active_clamps
from toyvit.config import Clamp, RunConfig, plan_stages
from toyvit.data.task import Retrieval, build_task
from toyvit.errors import BadInput, choose
from toyvit.model import ViT
from toyvit.model.options import allowed_keys

N_CHECKED = 2048  # training samples that must have a match before anything is trained


def orthonormalize(columns: Float[Tensor, "model feature"]) -> Float[Tensor, "model feature"]:
    """An orthonormal basis of what some columns span."""
    return torch.linalg.qr(columns).Q


# What a clamped head writes (model feature), from what it reads, orthonormal columns P
# (model feature), and from what it wrote so far.
WRITES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "copy": lambda reads, writes: reads,
    "carry": lambda reads, writes: orthonormalize(writes),
}


def check_clamps(run: RunConfig) -> None:
    """BadInput for a clamp that this run (resolved) cannot be under.

    No such name, layer, head or step; no match in some training picture; masked out.
    """
    for clamp in map(Clamp.parse, run.train.clamps):
        choose(clamp.what, CLAMPS, "clamp")
        _check_index(clamp, "layer", clamp.layer, run.model.n_layers)
        _check_index(clamp, "head", clamp.head or 0, run.model.n_heads)
        if clamp.start > run.train.steps:
            raise BadInput(
                f"clamp {str(clamp)!r} starts at step {clamp.start},"
                f" but training ends at step {run.train.steps}"
            )
        if clamp.what in PATTERNS:
            for task in plan_stages(run.task, run.train.curriculum).values():
                _check_pattern(replace(run, task=task), clamp)


def _check_index(clamp: Clamp, what: str, number: int, n: int) -> None:
    if number >= n:
        raise BadInput(
            f"clamp {str(clamp)!r}: there is no {what} {number} in 0 to {n - 1};"
            f" the nearest is {n - 1}"
        )


def _check_pattern(run: RunConfig, clamp: Clamp) -> None:
    """BadInput where there is nothing to match, or where the mask forbids the pattern."""
    retrieval = _draw_retrieval(run) if clamp.what in NEED_PAIRS else None
    if clamp.what in NEED_PAIRS and retrieval is None:
        others = ", ".join(name for name in CLAMPS if name not in NEED_PAIRS)
        raise BadInput(
            f"clamp {str(clamp)!r} needs a matching label in every training picture, which task"
            f" {run.task.name!r} does not have: allowed are {others}"
        )

    allowed = allowed_keys(run.model)
    blank = torch.zeros(1 if retrieval is None else len(retrieval.target), 1, *allowed.shape)
    pattern = PATTERNS[clamp.what](blank, allowed, run.model.n_prefix, retrieval)
    if (pattern.broadcast_to(blank.shape)[:, 0] * ~allowed).any():
        raise BadInput(
            f"clamp {str(clamp)!r} attends where the mask {run.model.mask!r} forbids it:"
            " choose another model.mask"
        )


def _draw_retrieval(run: RunConfig) -> Retrieval | None:
    """Where the first training samples have their matches; None for a task without matches."""
    task = build_task(run.task)
    if not task.retrieval:
        return None
    return task.retrieval(task.world.sample(run.seeds.data, "train", np.arange(N_CHECKED)))


@torch.no_grad()
def start_weight_clamps(model: ViT, clamps: Sequence[str], step: int) -> None:
    """Set the weights of heads whose clamp in `WRITES` starts at `step`.

    W_V = P, W_O = Q^T, biases of v 0, where P is an orthonormal basis of what W_V reads now.
    `copy`, Q = P: W_V W_O is a projection on as many directions as the head is wide, copying score
    1; the identity where it is as wide as the model. `carry`, Q an orthonormal basis of what W_O
    writes now: as much is handed on, by length and angle, into other directions than it came from.
    """
    starting = [clamp for clamp in active_clamps(clamps, step) if clamp.start == step]
    for clamp in starting:
        if clamp.what not in WRITES:
            continue

        for head in range(model.config.n_heads)[clamp.heads]:
            values, *biases, writes = _view_weights(model, clamp.layer, slice(head, head + 1))
            reads = orthonormalize(values.T)
            values.copy_(reads.T)
            writes.copy_(WRITES[clamp.what](reads, writes))
            for bias in biases:
                bias.zero_()


def clear_clamped_gradients(model: ViT, clamps: Sequence[str], step: int) -> None:
    """Set gradients of clamped heads' values and outputs to 0.

    So they do not count when gradients are clipped.
    """
    for gradient in _view_clamped(model, clamps, step, gradients=True):
        gradient.zero_()


@contextmanager
def hold_weight_clamps(model: ViT, clamps: Sequence[str], step: int) -> Iterator[None]:
    """Around an update: what clamped heads read and write is the same after it as before.

    Weight decay and momentum do not move it.
    """
    weights = list(_view_clamped(model, clamps, step))
    before = [weight.clone() for weight in weights]
    yield
    for weight, value in zip(weights, before, strict=True):
        weight.copy_(value)


def _view_clamped(
    model: ViT, clamps: Sequence[str], step: int, gradients: bool = False
) -> Iterator[Tensor]:
    for clamp in active_clamps(clamps, step):
        if clamp.what in WRITES:
            yield from _view_weights(model, clamp.layer, clamp.heads, gradients)


def _view_weights(model: ViT, layer: int, heads: slice, gradients: bool = False) -> list[Tensor]:
    """Views of some heads' W_V^T (head-feature model), their v bias if any, and W_O^T.

    The last is (model head-feature). Or views of their gradients.
    """
    config = model.config
    attention = model.layers[layer].attn
    first, end, _ = heads.indices(config.n_heads)
    columns = slice(first * config.d_head, end * config.d_head)
    rows = slice(2 * config.d_model + columns.start, 2 * config.d_model + columns.stop)

    def view(weight: Tensor) -> Tensor:
        value = weight.grad if gradients else weight.detach()
        assert value is not None
        return value

    packed = [weight for weight in (attention.qkv.weight, attention.qkv.bias) if weight is not None]
    return [*(view(weight)[rows] for weight in packed), view(attention.out.weight)[:, columns]]
