"""How matplotlib renders the names of colours and the scales of the figures' data."""

from __future__ import annotations

from typing import Literal

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm, Normalize, to_rgba
from matplotlib.figure import SubFigure

from toyvit.report.panels import Array, ColourScale
from toyvit.report.style import COLOURS

BAR = "colour bar"  # the label of its axes
TINT = [to_rgba(COLOURS["green"], 0), to_rgba(COLOURS["green"], 0.85)]  # from clear to colour
RAMPS: dict[str, Colormap] = {
    "sequential": colormaps["viridis"],
    "heat": colormaps["magma"],
    "tint": LinearSegmentedColormap.from_list("tint", TINT),
    "diverging": colormaps["RdBu"],
    "brightness": colormaps["gray"],
    "ink": colormaps["Greys"],
}


def resolve_colour(name: str) -> str | tuple[float, ...]:
    """A colour by its name in the palette, or by its place on a scale: `viridis 0.85`."""
    scale, space, place = name.partition(" ")
    return colormaps[scale](float(place)) if space else COLOURS[name]


def resolve_scale(scale: ColourScale) -> tuple[Colormap, Normalize]:
    """How values become colours."""
    kind = LogNorm if scale.spacing == "log" else Normalize
    return RAMPS[scale.kind], kind(scale.low, scale.high)


def add_colour_bar(figure: SubFigure, scale: ColourScale) -> None:
    """A bar of the colours that fills a narrow figure, with lines at what is marked on it."""
    colours, norm = resolve_scale(scale)
    place = figure.add_axes((0.05, 0.15, 0.2, 0.7), label=BAR)
    bar = figure.colorbar(ScalarMappable(norm, colours), cax=place)
    named = [f"{name}: {value:.2g} (line)" for value, name in scale.marks]
    bar.set_label("\n".join([scale.label, *named]), fontsize="small")
    bar.ax.tick_params(labelsize="small")
    for value, _ in scale.marks:
        bar.ax.axhline(value, color=COLOURS["sky"], lw=1.5)


def show_values(
    axes: Axes,
    values: Array,
    scale: ColourScale | None,
    *,
    extent: tuple[float, float, float, float] | None = None,
    opacity: float = 1.0,
    aspect: Literal["equal", "auto"] = "equal",
) -> None:
    """Values in the colours of a scale, or red, green and blue as they are."""
    colours, norm = resolve_scale(scale) if scale else (None, None)

    axes.imshow(
        values,
        cmap=colours,
        norm=norm,
        alpha=opacity,
        aspect=aspect,
        extent=extent,
        interpolation="nearest",
    )
