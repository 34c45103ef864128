"""Whether a model has a transition: loss and order parameter change together, seed after seed.

One curve changes abruptly or not (`transitions`). A transition is more: the loss and the measure
that the recipe names before it is run (`recipes.ORDER_PARAMETERS`) change abruptly within half a
width of each other, in at least 8 of 10 seeds, and the verdict on a seed does not depend on where
its run ends: cut at 1.1, 1.5 and 2 onsets it is the same, or the change is not yet over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from toyvit.config import TrainConfig
from toyvit.dynamics.assessment import SETTLED
from toyvit.dynamics.contrast import LEAST_POINTS
from toyvit.dynamics.order import median_interval
from toyvit.dynamics.transitions import AbruptChange, detect_in_curve, judge_series
from toyvit.errors import BadInput
from toyvit.recipes import ORDER_PARAMETERS

if TYPE_CHECKING:
    from toyvit.runs.handle import Run

ANSWERS = {"transition": "yes", "none": "no", "undecided": "undecided"}
LEAST_SEEDS = 10
LEAST_TOGETHER = 0.8
CUTS = (1.1, 1.5, 2.0)  # onsets
SAME = 0.2  # of the onset
MARGIN = 1.1  # the window in which a change is seen is a little longer than the change


class Seed(NamedTuple):
    """Two curves of one run over the same steps."""

    loss: pd.Series
    order: pd.Series


class Pair(NamedTuple):
    """An abrupt change of the order parameter, and the one of the loss that goes with it."""

    order: AbruptChange
    loss: AbruptChange


@dataclass(frozen=True)
class Transition:
    """What ten or more seeds say together.

    verdict      "transition", "none" or "undecided" (fewer than ten seeds)
    n_seeds      how many were judged
    together     seeds in which loss and order parameter change abruptly within half a width
    stable       of these, those whose verdict is the same wherever the run ends
    onset        median step of the 10 % point of the order parameter over them, NaN without any
    low, high    its interval in 95 % (`median_interval`); NaN for fewer than six
    width        median of (end - onset) / onset
    loss_width   the same of the loss
    order_alone  seeds in which the order parameter changes abruptly and the loss does not
    loss_alone   the other way round
    apart        seeds in which both do, further apart than half a width
    """

    verdict: str
    n_seeds: int
    together: int
    stable: int
    onset: float
    low: float
    high: float
    width: float
    loss_width: float
    order_alone: int
    loss_alone: int
    apart: int

    def __str__(self) -> str:
        answer = (
            f"{ANSWERS[self.verdict]}: {self.together} of {self.n_seeds} seeds change together, "
            f"{self.stable} of them wherever the run ends"
        )
        return answer + self._tell_where() + self._tell_others()

    def _tell_where(self) -> str:
        if not self.together:
            return ""
        bounds = f" ({self.low:,.0f} to {self.high:,.0f})" if np.isfinite(self.low) else ""
        widths = f"width {self.width:.2f} of it, in the loss {self.loss_width:.2f}"
        return f"; onset {self.onset:,.0f}{bounds}, {widths}"

    def _tell_others(self) -> str:
        """Which of the two changed in the seeds in which they do not change together."""
        neither = self.n_seeds - self.together - self.order_alone - self.loss_alone - self.apart
        counts = {
            "the order parameter alone": self.order_alone,
            "the loss alone": self.loss_alone,
            "both, but apart": self.apart,
            "neither": neither,
        }
        texts = [f"{what} in {count}" for what, count in counts.items() if count]
        return f"; of the others {', '.join(texts)}" if texts else ""


def judge_transition(seeds: Sequence[Seed], train: TrainConfig | None = None) -> Transition:
    """Whether the seeds have a transition; `train` gives the learning rates they were trained at.

    BadInput without seeds, or where one has its curves over different steps.
    """
    if not seeds:
        raise BadInput("a transition is asked of seeds, and there are none")
    if not all(seed.loss.index.equals(seed.order.index) for seed in seeds):
        raise BadInput("loss and order parameter of a seed must be over the same steps")

    pairs = [(seed, match_pair(seed, train)) for seed in seeds]
    matched = [(seed, pair) for seed, pair in pairs if pair]
    others = Counter(_tell_changes(seed, train) for seed, pair in pairs if pair is None)
    stable = sum(is_stable(seed, pair.order, train) for seed, pair in matched)
    onsets = [pair.order.onset for _, pair in matched]
    low, high = median_interval(onsets)

    verdict = "undecided"
    if len(seeds) >= LEAST_SEEDS:
        verdict = "transition" if stable >= LEAST_TOGETHER * len(seeds) else "none"
    return Transition(
        verdict=verdict,
        n_seeds=len(seeds),
        together=len(matched),
        stable=stable,
        onset=_take_median(onsets),
        low=low,
        high=high,
        width=_take_median([pair.order.width for _, pair in matched]),
        loss_width=_take_median([pair.loss.width for _, pair in matched]),
        order_alone=others[True, False],
        loss_alone=others[False, True],
        apart=others[True, True],
    )


def _take_median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else float("nan")


def read_seed(run: Run) -> Seed | None:
    """Loss and order parameter of a run; None without one, or where they are not of the same steps.

    The order parameter is the one that the recipe names before it is run.
    """
    if run.config.recipe not in ORDER_PARAMETERS:
        return None
    analysis, quantity = ORDER_PARAMETERS[run.config.recipe]
    seed = Seed(run.curve("performance", "loss"), run.curve(analysis, quantity))
    return seed if len(seed.loss) and seed.loss.index.equals(seed.order.index) else None


def match_pair(seed: Seed, train: TrainConfig | None = None) -> Pair | None:
    """The largest change of the order parameter and the loss's within half a width of it."""
    change = detect_in_curve(seed.order, train)
    if change is None:
        return None
    try:
        others = judge_series(seed.loss, train).changes
    except BadInput:
        return None

    spacing = float(np.diff(seed.loss.index.to_numpy(float)).max())
    for other in others:
        lengths = max(change.end - change.onset, other.end - other.onset)
        if abs(_middle(change) - _middle(other)) <= max(lengths / 2, spacing):
            return Pair(change, other)
    return None


def _tell_changes(seed: Seed, train: TrainConfig | None) -> tuple[bool, bool]:
    """Whether the order parameter changes abruptly, and whether the loss does."""
    order = detect_in_curve(seed.order, train)
    loss = detect_in_curve(seed.loss, train)
    return order is not None, loss is not None


def match_changes(seed: Seed, train: TrainConfig | None = None) -> AbruptChange | None:
    """The largest change of the order parameter, if the loss changes within half a width of it."""
    pair = match_pair(seed, train)
    return pair.order if pair else None


def is_stable(seed: Seed, change: AbruptChange, train: TrainConfig | None = None) -> bool:
    """Whether a run that ends earlier says the same of the change, or that it is not yet over.

    A cut that leaves too few checkpoints for a verdict tells nothing.
    """
    needed = change.end * (change.end / change.onset) ** SETTLED
    for cut in CUTS:
        end = cut * change.onset
        shorter = Seed(seed.loss.loc[:end], seed.order.loc[:end])
        if end > seed.order.index[-1] or len(shorter.order) < LEAST_POINTS:
            continue
        other = match_changes(shorter, train)
        is_same = other is not None and abs(other.onset - change.onset) <= SAME * change.onset
        if not is_same and (other is not None or end > MARGIN * needed):
            return False
    return True


def _middle(change: AbruptChange) -> float:
    return (change.onset + change.end) / 2
