"""The learning rate as a function of the step, and the steps at which it changes abruptly."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

from toyvit.config.run import TrainConfig

# What follows the warm-up: share of the training that is done -> share of the learning rate.
DECAYS: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
}
SHARP = 0.5  # the end of a warm-up is 1


def learning_rate(config: TrainConfig, step: int) -> float:
    """The rate used by the update that leads to `step` (1, 2, ...).

    >>> learning_rate(TrainConfig(learning_rate=0.1, warmup=10), 5)
    0.05
    """
    if step <= config.warmup:
        return config.learning_rate * step / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * DECAYS[config.decay](done)


def find_rate_changes(config: TrainConfig) -> tuple[int, ...]:
    """The steps at which the rate jumps or bends so sharply that a change near them may be its own.

    Where d rate / d ln step, in units of the full rate, changes by more than a half from one step
    to the next: at the end of a warm-up (by 1) and at any jump (by the jump times the step).
    Nowhere on a smooth decay, which is spread over the steps left.
    """
    full = config.learning_rate
    rates = [learning_rate(config, step) / full for step in range(1, config.steps + 1)]
    slopes = [step * (after - before) for step, (before, after) in enumerate(pairwise(rates), 1)]

    sharp = [
        step
        for step in range(2, len(slopes) + 1)
        if abs(slopes[step - 1] - slopes[step - 2]) > SHARP
    ]
    return tuple(step for step in sharp if step - 1 not in sharp)  # a jump has two bends
