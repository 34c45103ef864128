"""What a training does at which step: its learning rate, its checkpoints and its states."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

from toyvit.config.curriculum import read_changes
from toyvit.config.run import TrainConfig
from toyvit.errors import BadInput

# What follows the warm-up: share of the training that is done -> share of the learning rate.
DECAYS: dict[str, Callable[[float], float]] = {
    "constant": lambda done: 1.0,
    "linear": lambda done: 1 - done,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
}
SHARP = 0.5  # the end of a warm-up is 1
N_KEPT_STATES = 10


def learning_rate(config: TrainConfig, step: int) -> float:
    """The rate used by the update that leads to `step` (1, 2, ...).

    >>> learning_rate(TrainConfig(learning_rate=0.1, warmup=10), 5)
    0.05
    """
    if step <= config.warmup:
        return config.learning_rate * step / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * DECAYS[config.decay](done)


def sum_rates(config: TrainConfig, steps: Iterable[float]) -> list[float]:
    """The sum of the learning rates up to each step, in steps at the full rate.

    The time that a training has had, whatever its schedule. The last step's where one is later.

    >>> sum_rates(TrainConfig(warmup=4), [0, 4, 5, 10])
    [0, 2.5, 3.5, 8.5]
    """
    last = config.steps
    rates = (learning_rate(config, step) / config.learning_rate for step in range(1, last + 1))
    sums = list(accumulate(rates, initial=0))
    return [sums[min(int(step), last)] for step in steps]


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


def find_task_changes(config: TrainConfig) -> tuple[int, ...]:
    """The steps at which the curriculum changes what training shows.

    >>> find_task_changes(TrainConfig(curriculum=("alike=0.8", "alike=0.5@1440")))
    (1440,)
    """
    starts = {change.start for change in read_changes(config.curriculum)}
    return tuple(sorted(starts - {0}))


def find_events(config: TrainConfig) -> tuple[int, ...]:
    """The steps at which the training itself changes: its rate, abruptly, or its task.

    A change of a measure that begins near one may be that event's own.
    """
    return tuple(sorted({*find_rate_changes(config), *find_task_changes(config)}))


def find_rate_difference(config: TrainConfig, longer: TrainConfig) -> int | None:
    """The first step of a training at which another would have another rate; None for the same.

    >>> config = TrainConfig(steps=200, warmup=10, decay="linear")
    >>> find_rate_difference(config, TrainConfig(steps=400, warmup=10, decay="linear"))
    11
    """
    steps = range(1, config.steps + 1)
    rates = ((step, learning_rate(config, step), learning_rate(longer, step)) for step in steps)
    return next((step for step, rate, other in rates if rate != other), None)


def plan_checkpoints(config: TrainConfig, ends: Sequence[int] = ()) -> tuple[int, ...]:
    """Steps that keep a checkpoint, ascending.

    Step 0 (before any update) and the last always; powers of two to 512; about 24 a decade; never
    more than a hundredth of the run apart. Or the config's explicit list. Of a run that was
    lengthened, `ends` are its earlier last steps: up to each the steps are those planned then.

    >>> plan_checkpoints(TrainConfig(steps=300))[-3:]
    (294, 297, 300)
    >>> plan_checkpoints(TrainConfig(steps=300), ends=[299])[-3:]
    (298, 299, 300)
    """

    def plan(end: int) -> Iterable[int]:
        return _plan_once(replace(config, steps=end))

    return tuple(sorted(_join_plans(plan, config.steps, ends)))


def _plan_once(config: TrainConfig) -> Iterable[int]:
    """The steps of a run that was never lengthened."""
    n = config.steps
    if config.checkpoints is not None:
        late = [step for step in config.checkpoints if step > n]
        if late:
            raise BadInput(f"train.checkpoints has step {late[0]}, but training ends at step {n}")
        return {0, n, *config.checkpoints}

    spacing = max(1, n // 100)
    steps = {0, n, *range(0, n, spacing), *(2**power for power in range(10))}
    decades = (round(10 ** (place / 24)) for place in range(24 * len(str(n))))
    return {step for step in steps.union(decades) if step <= n}


def plan_states(n_steps: int, ends: Sequence[int] = ()) -> set[int]:
    """Steps whose state is kept for good: 0, every tenth of the run, and the last.

    `ends` as of `plan_checkpoints`.
    """

    def plan(end: int) -> Iterable[int]:
        return (round(end * part / N_KEPT_STATES) for part in range(N_KEPT_STATES + 1))

    return _join_plans(plan, n_steps, ends)


def _join_plans(
    plan: Callable[[int], Iterable[int]], n_steps: int, ends: Sequence[int]
) -> set[int]:
    """Up to each end the steps that were planned while the run was to end there."""
    starts = (-1, *ends)
    return {
        step
        for start, end in zip(starts, (*ends, n_steps), strict=True)
        for step in plan(end)
        if step > start
    }
