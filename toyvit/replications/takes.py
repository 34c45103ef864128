"""What is taken of a curve to compare it: its last value, its onset, when it passes a level."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

from toyvit.config import TrainConfig
from toyvit.dynamics.transitions import detect_in_curve, find_first_step
from toyvit.errors import BadInput, choose

PASSES = "passes"


def take_last(curve: pd.Series, train: TrainConfig) -> float:
    return float(curve.iloc[-1])


def take_first(curve: pd.Series, train: TrainConfig) -> float:
    return float(curve.iloc[0])


def take_highest(curve: pd.Series, train: TrainConfig) -> float:
    return float(curve.max())


def take_lowest(curve: pd.Series, train: TrainConfig) -> float:
    return float(curve.min())


def take_onset(curve: pd.Series, train: TrainConfig) -> float | None:
    """The 10 % point of the largest abrupt change; None where there is none."""
    change = detect_in_curve(curve, train)
    return float(change.onset) if change else None


def take_width(curve: pd.Series, train: TrainConfig) -> float | None:
    """Of the largest abrupt change (end - onset) / onset; None where there is none."""
    change = detect_in_curve(curve, train)
    return float(change.width) if change else None


def take_changes(curve: pd.Series, train: TrainConfig) -> float:
    """1 where the curve changes abruptly, else 0."""
    return float(detect_in_curve(curve, train) is not None)


TAKES: dict[str, Callable[[pd.Series, TrainConfig], float | None]] = {
    "last": take_last,
    "first": take_first,
    "highest": take_highest,
    "lowest": take_lowest,
    "onset": take_onset,
    "width": take_width,
    "changes": take_changes,
}
AT_LAST = ("last",)  # those that need the last checkpoint alone
SHARES = ("changes",)  # those of what happens or not, of which seeds have a share


def parse_take(text: str) -> tuple[str, float]:
    """A key of `TAKES`, or `passes` and its level; BadInput for anything else.

    >>> parse_take("passes 0.95")
    ('passes', 0.95)
    """
    word, _, level = text.partition(" ")
    if word != PASSES:
        return choose(text, [*TAKES, f"{PASSES} LEVEL"], "way to take a number"), math.nan
    try:
        value = float(level)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadInput(f"`{PASSES}` takes a level, `{PASSES} 0.95`, got {text!r}")
    return word, value


def take_number(curve: pd.Series, text: str, train: TrainConfig) -> float | None:
    """The number that a text takes of a curve, None where it never happens.

    >>> take_number(pd.Series([0.1, 0.5, 0.9], [0, 10, 20]), "passes 0.5", TrainConfig())
    10.0
    """
    word, level = parse_take(text)
    if word != PASSES:
        return TAKES[word](curve, train)
    step = find_first_step(curve >= level)
    return None if step is None else float(step)
