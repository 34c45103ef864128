"""The plain loop in which toys are trained: seeded, and looked at on a schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterable

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
    """So many updates on `loss(step)`, and `look(step)` at the given steps.

    Step 0 is before any update.
    """
    wanted = set(when)
    for step in range(steps + 1):
        if step in wanted:
            with torch.no_grad():
                look(step)
        if step < steps:
            optimizer.zero_grad()
            loss(step).backward()
            optimizer.step()


def space_evenly(steps: int, n: int) -> list[int]:
    """0, the last, and the steps between that cut a training into n equal parts.

    >>> space_evenly(100, 4)
    [0, 25, 50, 75, 100]
    """
    return sorted({round(k * steps / n) for k in range(n + 1)})


def space_steps(steps: int, n: int = 60) -> list[int]:
    """About n steps, logarithmically spaced, with 0, and the last.

    >>> space_steps(1000, 6)
    [0, 1, 3, 10, 32, 100, 316, 1000]
    """
    return sorted({0, steps, *(round(steps ** (k / n)) for k in range(n + 1))})
