"""The picture of a replication, drawn from its records alone: panels side by side, a colour a curve, thin lines the seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from toyvit.report.figures import BLUE, GREEN, GREY, ORANGE, PINK, SKY, YELLOW, mark_levels

COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, YELLOW, GREY, "black")


def draw_replication(seeds: Sequence[Sequence[Mapping[str, Any]]]) -> Figure:
    """One figure of all seeds: `seeds` are the panels of each; a panel of colours is shown for the first seed only."""
    n = len(seeds[0])
    figure = Figure(figsize=(5.2 * n + 0.8, 3.9), layout="constrained")
    for axes, panels in zip(
        figure.subplots(1, n, squeeze=False)[0], zip(*seeds, strict=True), strict=True
    ):
        KINDS[panels[0]["kind"]](axes, panels)
        axes.set(xlabel=panels[0]["x"], ylabel=panels[0]["y"])
        axes.set_title(panels[0]["title"], fontsize="medium")
    return figure


def _lines(axes: Axes, panels: Sequence[Mapping[str, Any]]) -> None:
    first = panels[0]
    for colour, name in zip(COLOURS, first["curves"], strict=False):
        known = [
            np.array(panel["curves"][name], dtype=float)
            for panel in panels
            if name in panel["curves"]
        ]
        for x, y in known:
            axes.plot(
                x,
                y,
                color=colour,
                lw=0.7 if len(known) > 1 else 1.6,
                alpha=0.6 if len(known) > 1 else 1,
            )
        x, y = _median(known)
        axes.plot(x, y, color=colour, lw=1.8, label=name, marker="." if len(x) < 20 else None)
    if first["scale"] == "symlog":
        axes.set_xscale("symlog", linthresh=10)
        axes.set_xlim(left=0)
    else:
        axes.set_xscale(first["scale"])
    if first["scale"] == "linear" and axes.get_xlim()[1] > 1000:
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_yscale(first["height"])
    mark_levels(axes, first["levels"])
    seeds = f"{len(panels)} seeds, median in bold" if len(panels) > 1 else None
    axes.legend(fontsize="small", title=seeds, title_fontsize="small")


def _median(known: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The median curve, on the first one's places."""
    x = known[0][0]
    return x, np.median([np.interp(x, *curve) for curve in known], axis=0)


def _grid(axes: Axes, panels: Sequence[Mapping[str, Any]]) -> None:
    first = panels[0]
    mesh = axes.pcolormesh(
        first["columns"],
        first["rows"],
        np.array(first["values"], float),
        cmap="cividis",
        vmin=0,
        vmax=1,
    )
    axes.set(xscale="log", yscale="log")
    axes.figure.colorbar(mesh, ax=axes, label=first["value"])


KINDS = {"lines": _lines, "grid": _grid}
