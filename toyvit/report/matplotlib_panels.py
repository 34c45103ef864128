"""One panel on one pair of matplotlib axes: the curves, pictures, maps and edges that it holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from toyvit.report.matplotlib_colours import resolve_colour, resolve_scale, show_values
from toyvit.report.matplotlib_pictures import draw_graph, draw_picture
from toyvit.report.panels import (
    Array,
    Axis,
    Curve,
    CurvePanel,
    GraphPanel,
    MapPanel,
    Panel,
    PicturePanel,
)
from toyvit.report.style import COLOURS

LINES = {
    "solid": "-",
    "dashed": "--",
    "dotted": ":",
    "dashdot": "-.",
    "dense": (0, (1, 1)),
    "none": "",
}
MARKERS = {"": None, "dot": ".", "circle": "o", "cross": "x"}


def draw_panel(axes: Axes, panel: Panel) -> None:
    """What a panel holds; `finish_panel` follows when all panels of a block are drawn."""
    match panel:
        case CurvePanel():
            _draw_curves(axes, panel)
        case MapPanel():
            _draw_map(axes, panel)
        case PicturePanel():
            draw_picture(axes, panel)
        case GraphPanel():
            draw_graph(axes, panel)

    if panel.title:
        axes.set_title(panel.title, fontsize="small")


def finish_panel(axes: Axes, panel: Panel, *, names_x: bool, names_y: bool) -> None:
    """Axes and what is written at the edges, once the ends of shared axes are known."""
    if isinstance(panel, CurvePanel | MapPanel):
        set_axis(axes, "x", panel.x, named=names_x)
        set_axis(axes, "y", panel.y, named=names_y)
    if isinstance(panel, CurvePanel):
        write_edge_names(axes, panel)
    if isinstance(panel, MapPanel):
        _draw_groups(axes, panel)


def _draw_curves(axes: Axes, panel: CurvePanel) -> None:
    for curve in panel.curves:
        _draw_curve(axes, curve)
    for span in panel.spans:
        axes.axvspan(
            span.start,
            span.end,
            color=COLOURS[span.colour],
            alpha=0.4,
            lw=0,
            zorder=0,
            label=span.label or None,
        )
    _draw_levels(axes, panel)

    for words in panel.words:
        axes.text(words.x, words.y, words.text, color=COLOURS[words.colour], fontsize=words.size)
    _draw_legend(axes, panel)


def _draw_curve(axes: Axes, curve: Curve) -> None:
    """A line, below the others where it is pale, and its band."""
    colour = resolve_colour(curve.colour)
    axes.plot(
        curve.x,
        curve.y,
        color=colour,
        ls=LINES[curve.style],
        lw=curve.width,
        alpha=curve.opacity,
        marker=MARKERS[curve.marker],
        ms=4,
        label=curve.label or None,
        zorder=1 if curve.colour in ("pale", "faint") else 2,
    )

    if curve.band:
        axes.fill_between(curve.x, *curve.band, color=colour, alpha=0.2, lw=0)


def _draw_levels(axes: Axes, panel: CurvePanel) -> None:
    for level in panel.levels:
        label = level.name if level.in_legend else None
        axes.axhline(level.value, color=COLOURS["grey"], ls=LINES[level.style], lw=1, label=label)

    for mark in panel.marks:
        axes.axvline(
            mark.place,
            color=COLOURS[mark.colour],
            ls=LINES[mark.style],
            lw=0.9,
            label=mark.label or None,
        )


def _draw_legend(axes: Axes, panel: CurvePanel) -> None:
    if panel.legend == "none" or not axes.get_legend_handles_labels()[0]:
        return

    if panel.legend == "inside":
        axes.legend(fontsize=7.5, title=panel.legend_title or None, title_fontsize=7.5)
    else:
        axes.legend(
            fontsize=7,
            title=panel.legend_title or None,
            title_fontsize=7,
            loc="upper left",
            bbox_to_anchor=(1.01, 1),
            frameon=False,
        )


class EdgeName(NamedTuple):
    """A name to the right of a panel: what it names stands at a share of the width, or at x."""

    x: float
    value: float
    name: str
    colour: str
    across: Literal["axes fraction", "data"]


def write_edge_names(axes: Axes, panel: CurvePanel) -> None:
    """Names of levels and of curves' ends to the right of a panel, apart where they would meet."""
    names = list_edge_names(panel)
    heights = [_to_share(axes, name.value) for name in names]
    line = 8.5 / 72 * axes.figure.dpi / axes.get_window_extent().height

    for name, place in zip(names, spread_apart(heights, line), strict=True):
        shade = resolve_colour(name.colour)
        arrow = {"arrowstyle": "-", "lw": 0.4, "shrinkA": 0, "shrinkB": 0, "color": shade}
        arrow["relpos"] = (0, 0.5)  # to where the name begins, not through it
        axes.annotate(
            name.name,
            (name.x, name.value),
            (1.03, place),
            xycoords=(name.across, "data"),
            textcoords="axes fraction",
            arrowprops=arrow,
            va="center",
            fontsize=7,
            color=shade,
        )


def list_edge_names(panel: CurvePanel) -> list[EdgeName]:
    """What is named at the edge: levels that are not in the legend, and ends of curves."""
    names = [
        EdgeName(1.0, level.value, level.name, "grey", "axes fraction")
        for level in panel.levels
        if level.name and not level.in_legend
    ]
    for curve in panel.curves:
        if curve.end_label and len(curve.x):
            end = (float(curve.x[-1]), float(curve.y[-1]))
            names.append(EdgeName(*end, curve.end_label, curve.colour, "data"))

    return names


def _to_share(axes: Axes, value: float) -> float:
    """Where a value stands between the lower and the upper edge of a panel, 0 to 1."""
    across = axes.get_xlim()[0]
    place = axes.transData.transform((across, value))
    return float(axes.transAxes.inverted().transform(place)[1])


def spread_apart(heights: Sequence[float], gap: float) -> list[float]:
    """Heights moved apart by at least the gap, as little as possible (least squares), in order.

    All stand between -0.05 and 1.05, a little beyond the panel, while there is room.

    >>> [round(height, 3) for height in spread_apart([0.5, 0.52, 0.9], gap=0.1)]
    [0.46, 0.56, 0.9]
    """
    from scipy.optimize import isotonic_regression  # slow to import

    if not heights:
        return []
    order = np.argsort(heights, kind="stable")
    steps = gap * np.arange(len(order))
    lows = isotonic_regression(np.asarray(heights)[order] - steps).x
    places = np.empty(len(order))
    places[order] = np.clip(lows, -0.05, 1.05 - steps[-1]) + steps
    return places.tolist()


def set_axis(axes: Axes, which: str, axis: Axis, *, named: bool) -> None:
    """Spacing, ends, ticks and label of the axis x or y."""
    if axis.scale == "log":
        axes.set(**{f"{which}scale": "log"})
    if axis.scale == "steps":
        set_step_axis(axes)
    if axis.low is not None or axis.high is not None:
        axes.set(**{f"{which}lim": (axis.low, axis.high)})
    mine = axes.xaxis if which == "x" else axes.yaxis
    if axis.ticks is not None:
        mine.set_ticks(axis.ticks, axis.names)
    elif which == "x" and axis.scale == "linear" and max(np.abs(axes.get_xlim())) >= 1000:
        mine.set_major_locator(MaxNLocator(5))
        mine.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.tick_params(axis="both", labelsize=8)
    axes.tick_params(axis="x" if which == "x" else "y", **{_side(which): named})

    if named:
        axes.set(**{f"{which}label": axis.label})
        mine.label.set_fontsize(8.5)


def _side(which: str) -> str:
    return "labelbottom" if which == "x" else "labelleft"


def set_step_axis(axes: Axes) -> None:
    """A step axis that shows step 0 and spreads the early steps: linear to 10, then logarithmic."""
    axes.set_xscale("symlog", linthresh=10)
    axes.set_xlim(left=0)
    last = axes.get_xlim()[1]
    decades = [10**power for power in range(1, 9) if 10**power <= last]
    axes.set_xticks([0, *decades], [f"{step:,}" for step in (0, *decades)])


def _draw_map(axes: Axes, panel: MapPanel) -> None:
    """Grey where there is no value, or none that a logarithm has."""
    axes.set_facecolor("0.85")
    if panel.columns is None or panel.rows is None:
        show_values(axes, panel.values, panel.scale, aspect="equal" if panel.square else "auto")
    else:
        _draw_mesh(axes, panel, panel.columns, panel.rows)
    for place in panel.guides:
        axes.axvline(place, color="white", ls=":", lw=0.8)
        axes.axhline(place, color="white", ls=":", lw=0.8)


def _draw_mesh(axes: Axes, panel: MapPanel, columns: Array, rows: Array) -> None:
    """Cells whose centres stand at places of their own."""
    colours, norm = resolve_scale(panel.scale)
    mesh = axes.pcolormesh(columns, rows, panel.values, cmap=colours, norm=norm, shading="nearest")
    if panel.square:
        axes.set_aspect("equal")
    if panel.has_bar:
        axes.figure.colorbar(mesh, ax=axes, label=panel.scale.label)


def find_stretches(tokens: Sequence[int]) -> list[tuple[int, int]]:
    """First token and length of each stretch of neighbours."""
    stretches: list[tuple[int, int]] = []
    for token in tokens:
        if stretches and token == sum(stretches[-1]):
            stretches[-1] = (stretches[-1][0], stretches[-1][1] + 1)
        else:
            stretches.append((token, 1))
    return stretches


def _draw_groups(axes: Axes, panel: MapPanel) -> None:
    """A strip of colour along the left and the lower edge: which tokens are of which kind."""
    across = axes.get_xaxis_transform()
    down = axes.get_yaxis_transform()
    thick = 0.045  # of the map's side
    for group in panel.groups:
        look = {"color": COLOURS[group.colour], "lw": 0, "clip_on": False}
        for first, n in find_stretches(group.tokens):
            below = Rectangle((first - 0.5, -thick), n, thick, transform=across)
            beside = Rectangle((-thick, first - 0.5), thick, n, transform=down)
            for strip in (below, beside):
                strip.set(**look)
                axes.add_patch(strip)

    if panel.groups:
        axes.tick_params(length=0, pad=9)
