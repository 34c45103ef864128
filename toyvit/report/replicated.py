"""The picture of a replication, from its records alone: thin lines are seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from toyvit.report.curves import build_levels
from toyvit.report.panels import (
    Axis,
    Block,
    Caption,
    ColourScale,
    Curve,
    CurvePanel,
    FigureData,
    MapPanel,
    Marker,
    Panel,
    Scale,
    Span,
)
from toyvit.report.style import CYCLE

Stored = Mapping[str, Any]  # a panel as records of replications hold it
COLOURS = (*CYCLE, "grey", "black")
FEW_POINTS = 20  # a curve of fewer has dots
# How records call the spacing of an axis.
SCALES: dict[str, Scale] = {"linear": "linear", "log": "log", "symlog": "steps"}


REPLICATION_CAPTION = Caption(
    see="Thin lines are seeds, bold ones their median; dotted: the source, or chance.",
    otherwise="curves of different colours lie on each other, or at the dotted lines.",
)


CLAIM_CAPTION = Caption(
    see=(
        "Dots are the seeds that followed from the record, one above the other; shaded: the margin "
        "that was committed before they were run."
    ),
    otherwise="dots lie outside what is shaded, or on both sides of its end.",
)
PER_ROW = 2


def draw_margins(
    numbers: Sequence[tuple[str, Sequence[float], tuple[float, float]]], title: str
) -> FigureData:
    """Of each number its name, the values of the seeds, and the margin in which it is to lie."""
    panels: list[Panel | None] = [_margin_panel(*number) for number in numbers]
    if len(panels) > PER_ROW:
        panels += [None] * (-len(panels) % PER_ROW)
    rows = [tuple(panels[start : start + PER_ROW]) for start in range(0, len(panels), PER_ROW)]

    return FigureData(
        name="claim",
        title=title,
        caption=CLAIM_CAPTION,
        blocks=(Block(panels=tuple(rows), share_x=False, cell=(5.0, 1.7), margin=(0.6, 0.3)),),
    )


def _margin_panel(name: str, values: Sequence[float], margin: tuple[float, float]) -> CurvePanel:
    """The seeds as dots over the margin; a bound that there is not lies beyond the picture."""
    inside = [bound for bound in margin if np.isfinite(bound)]
    least = min([*values, *inside])
    most = max([*values, *inside])
    room = 0.1 * (most - least) or 0.1 * abs(most) or 0.1
    low = least - room
    high = most + room
    count = np.arange(1.0, len(values) + 1)
    dots = Curve(x=np.array(sorted(values)), y=count, style="none", marker="dot")

    return CurvePanel(
        x=Axis(label=name, low=low, high=high),
        y=Axis(label="seeds", low=0, high=len(values) + 1, ticks=()),
        curves=(dots,),
        spans=(Span(start=max(margin[0], low), end=min(margin[1], high)),),
    )


def draw_replication(seeds: Sequence[Sequence[Stored]], title: str = "") -> FigureData:
    """One figure of all seeds' panels; a map is shown for the first seed only."""
    panels = [KINDS[parts[0]["kind"]](parts) for parts in zip(*seeds, strict=True)]

    return FigureData(
        name="replication",
        title=title or "a published result, run again",
        caption=REPLICATION_CAPTION,
        blocks=(
            Block(
                panels=(tuple(panels),),
                share_x=False,
                cell=(5.2, 3.6),
                margin=(0.6, 0.3),
            ),
        ),
    )


def _curve_panel(parts: Sequence[Stored]) -> Panel:
    """The curves of all seeds, and the median of each."""
    first = parts[0]
    many = len(parts) > 1
    curves: list[Curve] = []
    for colour, name in zip(COLOURS, first["curves"], strict=False):
        seeds = [np.array(part["curves"][name], float) for part in parts if name in part["curves"]]
        curves += _seed_curves(seeds, name, colour)

    return CurvePanel(
        x=Axis(label=first["x"], scale=SCALES[first["scale"]]),
        y=Axis(label=first["y"], scale=first["height"]),
        title=first["title"],
        curves=tuple(curves),
        levels=build_levels(first["levels"]),
        legend="inside",
        legend_title=f"{len(parts)} seeds, median in bold" if many else "",
    )


def _seed_curves(seeds: Sequence[np.ndarray], name: str, colour: str) -> list[Curve]:
    """Thin lines of the seeds and their median, on the first one's places."""
    alone = len(seeds) == 1
    width = 1.6 if alone else 0.7
    opacity = 1.0 if alone else 0.6
    curves = [Curve(x=x, y=y, colour=colour, width=width, opacity=opacity) for x, y in seeds]
    x = seeds[0][0]
    median = np.median([np.interp(x, *seed) for seed in seeds], axis=0)
    marker: Marker = "dot" if len(x) < FEW_POINTS else ""
    curves.append(Curve(x=x, y=median, label=name, colour=colour, width=1.8, marker=marker))
    return curves


def _map_panel(parts: Sequence[Stored]) -> Panel:
    """The colours of the first seed."""
    first = parts[0]

    return MapPanel(
        x=Axis(label=first["x"], scale="log"),
        y=Axis(label=first["y"], scale="log"),
        title=first["title"],
        values=np.array(first["values"], float),
        scale=ColourScale(kind="sequential", low=0, high=1, label=first["value"]),
        columns=np.array(first["columns"], float),
        rows=np.array(first["rows"], float),
        square=False,
        has_bar=True,
    )


KINDS = {"lines": _curve_panel, "grid": _map_panel}
