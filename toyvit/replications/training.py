"""The plain loop in which toys are trained: seeded, and looked at on a schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

import torch
from torch import Tensor, nn


def descend(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[int], Tensor],
    steps: int,
    look: Callable[[int], None] = lambda step: None,
    when: Iterable[int] = (),
) -> None:
    """So many updates on `loss(step)`; `look(step)` at the given steps, 0 (before any update) and the last among them."""
    wanted = set(when)
    for step in range(steps + 1):
        if step in wanted:
            with torch.no_grad():
                look(step)
        if step < steps:
            optimizer.zero_grad()
            loss(step).backward()
            optimizer.step()


def space_steps(steps: int, n: int = 60) -> list[int]:
    """About n steps, logarithmically spaced, with 0, and the last."""
    return sorted({0, steps, *(round(steps ** (k / n)) for k in range(n + 1))})


def find_first(
    steps: Iterable[float], values: Iterable[float], *, over: float = -inf, under: float = inf
) -> float | None:
    """The first step whose value is over one bound and under another; None where none is."""
    return next(
        (step for step, value in zip(steps, values, strict=True) if over < value < under), None
    )
