"""Parts that figures share: curves from the table of measures, baselines, marks, step axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from toyvit.config import find_events, find_task_changes
from toyvit.report.panels import Axis, Block, Curve, Dash, Level, LevelKind, Mark, Panel
from toyvit.report.style import DASHES
from toyvit.runs.handle import Run

STEPS = Axis(label="training step")
EARLY_STEPS = Axis(label="training step (logarithmic from 10)", scale="steps")


def build_curve(
    values: pd.Series,
    label: str = "",
    *,
    colour: str = "blue",
    style: Dash = "solid",
    width: float = 1.5,
    opacity: float = 1.0,
    end_label: str = "",
) -> Curve:
    """A curve over steps; a circle where there is one step only."""
    return Curve(
        x=values.index.to_numpy(float),
        y=values.to_numpy(float),
        label=label,
        end_label=end_label,
        colour=colour,
        style=style,
        marker="circle" if len(values) == 1 else "",
        width=width,
        opacity=opacity,
    )


def compare_runs(run: Run, beside: Run | None, analysis: str, quantity: str) -> tuple[Curve, ...]:
    """One quantity of a run and of the run beside it; a line style for each measured split."""
    curves = []
    for colour, other in (("blue", run), ("orange", beside)):
        if other is None:
            continue
        for split, style in zip(list_splits(other, analysis), DASHES, strict=False):
            values = other.curve(analysis, quantity, split=split)
            name = other.name if split == "test" else f"{other.name}, {split}"
            curves.append(build_curve(values, name, colour=colour, style=style))
    return tuple(curves)


def list_splits(run: Run, analysis: str) -> list[str]:
    """`test`, and the other splits that an analysis was run on at more than one step."""
    rows = run.table[run.table["analysis"] == analysis]
    steps = rows.groupby("split", observed=True)["step"].nunique()
    splits = steps.index[(steps > 1) | (steps.index == "test")]
    return sorted(splits, key=lambda split: (split != "test", split))


def build_levels(values: Mapping[str, float], *, named: bool = True) -> tuple[Level, ...]:
    """Baselines by name."""
    return tuple(
        Level(value=value, name=name if named else "", kind=classify_level(name))
        for name, value in values.items()
    )


def classify_level(name: str) -> LevelKind:
    """`chance` for what needs no picture at all, else `baseline`."""
    return "chance" if name in ("chance", "uniform", "majority", "label prior") else "baseline"


def baseline_levels(run: Run, quantity: str, *, named: bool = True) -> tuple[Level, ...]:
    """What predictors that know less score in `loss` or `accuracy`."""
    parts = [(name.split("."), value) for name, value in run.baselines.items()]
    values = {words[1].replace("_", " "): value for words, value in parts if words[0] == quantity}
    return build_levels(values, named=named)


def schedule_events(run: Run) -> tuple[int, ...]:
    """The steps at which a run's learning rate changes abruptly, or what training shows."""
    return find_events(run.config.train)


def mark_rate_changes(run: Run, last: float) -> tuple[Mark, ...]:
    """Where the learning rate changes abruptly, or the task, up to the last step shown.

    The first of either is named.
    """
    of_task = find_task_changes(run.config.train)
    marks: list[Mark] = []
    for step in schedule_events(run):
        name = "the task changes" if step in of_task else "the learning rate bends or jumps"
        is_named = any(mark.label == name for mark in marks)
        marks.append(Mark(place=step, label="" if is_named else name))
    return tuple(mark for mark in marks if mark.place <= last)


def name_score(run: Run) -> str:
    """What a run's `accuracy` is: `accuracy`, or `R^2` where numbers are asked for."""
    return "R^2" if "accuracy.mean" in run.baselines else "accuracy"


def name_loss(run: Run) -> str:
    """The loss with its unit."""
    return (
        "loss (nats)"
        if name_score(run) == "accuracy"
        else "mean squared error\n(target units, squared)"
    )


def stack_panels(
    panels: Sequence[Panel], height: float, heights: tuple[float, ...] = ()
) -> tuple[Block, ...]:
    """Panels below each other over one axis of steps, with room for names at their right edge."""
    column = tuple((panel,) for panel in panels)
    return (Block(panels=column, cell=(7.2, height), heights=heights, margin=(1.2, 0.3)),)


def score_axis(run: Run) -> Axis:
    """Of the score: a share of pictures, or of variance explained."""
    unit = "share of pictures" if name_score(run) == "accuracy" else "share of variance"
    return Axis(label=f"{name_score(run)} ({unit})")
