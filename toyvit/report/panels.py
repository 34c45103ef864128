"""Figures as data: everything that a figure shows, in numbers and words, before anything draws it.

A figure is `FigureData`: blocks of panels in grids, a title, and a caption in two parts, what to
see and what would be there if there were nothing to see. Panels are curves, maps, pictures and
graphs; `toyvit.report.plain` makes JSON of any of them. Colours are names (`toyvit.report.style`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Scale = Literal["linear", "log", "steps"]  # steps: linear to 10, logarithmic from there, from 0
Dash = Literal["solid", "dashed", "dotted", "dashdot", "dense", "none"]
Marker = Literal["", "dot", "circle", "cross"]
LevelKind = Literal["baseline", "chance", "null", "reference"]
Ramp = Literal["sequential", "heat", "tint", "diverging", "brightness", "ink"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Axis:
    """An axis: its label with its unit, how it is spaced, its ends (None: as the data need)."""

    label: str
    scale: Scale = "linear"
    low: float | None = None
    high: float | None = None
    ticks: tuple[float, ...] | None = None
    names: tuple[str, ...] | None = None  # of the ticks


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """Values over places; a label is for the legend, an end label for its last point."""

    x: Array
    y: Array
    label: str = ""
    end_label: str = ""
    colour: str = "blue"
    style: Dash = "solid"
    marker: Marker = ""
    width: float = 1.5
    opacity: float = 1.0
    band: tuple[Array, Array] | None = None  # its lower and upper edge


@dataclass(frozen=True, kw_only=True, eq=False)
class Level:
    """A value to compare with, across the panel: a baseline, chance, a null, or just a line."""

    value: float
    name: str = ""
    kind: LevelKind = "baseline"
    style: Dash = "dotted"
    in_legend: bool = False  # else its name stands at the right edge


@dataclass(frozen=True, kw_only=True, eq=False)
class Span:
    """A shaded stretch of the horizontal axis."""

    start: float
    end: float
    label: str = ""
    colour: str = "yellow"


@dataclass(frozen=True, kw_only=True, eq=False)
class Mark:
    """A place on the horizontal axis at which something happened."""

    place: float
    label: str = ""
    colour: str = "pink"
    style: Dash = "dashdot"


@dataclass(frozen=True, kw_only=True, eq=False)
class ColourScale:
    """What colours mean: the ramp, the values at its ends, what is measured with its unit."""

    kind: Ramp
    low: float
    high: float
    label: str = ""
    spacing: Literal["linear", "log"] = "linear"
    marks: tuple[tuple[float, str], ...] = ()  # values to find on it: chance, a null


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenGroup:
    """Tokens of one kind, by their places along the axes of a map."""

    name: str
    tokens: tuple[int, ...]
    colour: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """A rectangle on a picture, in pixels from its top left corner."""

    left: float
    top: float
    width: float
    height: float
    colour: str
    weight: float = 2.0
    opacity: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Words:
    """A few words at a place; `size` in points."""

    x: float
    y: float
    text: str
    colour: str = "black"
    size: float = 7.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlay:
    """Values laid over a whole picture (row column), as coarse as they are."""

    values: Array
    scale: ColourScale
    opacity: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Inlay:
    """A small picture (row column) in a part of a larger one, in pixels of that."""

    values: Array
    left: float
    top: float
    width: float
    height: float
    opacity: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class CurvePanel:
    """Curves over one axis, and what they are to be compared with."""

    x: Axis
    y: Axis
    title: str = ""
    curves: tuple[Curve, ...] = ()
    levels: tuple[Level, ...] = ()
    spans: tuple[Span, ...] = ()
    marks: tuple[Mark, ...] = ()
    words: tuple[Words, ...] = ()
    legend: Literal["inside", "right", "none"] = "none"
    legend_title: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class MapPanel:
    """A matrix (row column) in colours: the first row above, unless rows have places on y."""

    x: Axis
    y: Axis
    values: Array
    scale: ColourScale
    title: str = ""
    columns: Array | None = None  # where columns stand on x (None: 0, 1, ...)
    rows: Array | None = None  # where rows stand on y, upward
    groups: tuple[TokenGroup, ...] = ()
    guides: tuple[float, ...] = ()  # places marked on both axes
    square: bool = True  # a cell is as wide as high
    has_bar: bool = False  # a colour bar of its own; else its block or its figure has one


@dataclass(frozen=True, kw_only=True, eq=False)
class PicturePanel:
    """A picture, (row column) in shades or (row column colour) as it is, and what lies on it."""

    picture: Array
    scale: ColourScale | None = None  # None: red, green and blue from 0 to 1
    title: str = ""
    below: str = ""  # words under it
    opacity: float = 1.0
    overlay: Overlay | None = None
    inlays: tuple[Inlay, ...] = ()
    frames: tuple[Frame, ...] = ()
    words: tuple[Words, ...] = ()
    cell: int = 0  # pixels from one tick to the next: where a patch ends and the next begins


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """A part of a model: its name in edges, what is written in its box, where it stands."""

    name: str
    label: str
    x: float
    y: float
    used: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Edge:
    """A connection: from a node's output into a port of another; its weight as a share of the
    largest.
    """

    sender: str
    receiver: str
    port: Literal["q", "k", "v", ""]
    weight: float
    score: float | None  # in the unit of the metric


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphPanel:
    """Nodes and edges from the input below to the output above."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    ports: dict[str, tuple[str, str]]  # those in use: its colour, what it means
    title: str = ""


Row = TypeVar("Row")
Column = TypeVar("Column")
Panel = CurvePanel | MapPanel | PicturePanel | GraphPanel


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """A grid of panels with what stands above its columns and beside its rows."""

    panels: tuple[tuple[Panel | None, ...], ...]
    title: str = ""
    row_headers: tuple[str, ...] = ()
    column_headers: tuple[str, ...] = ()
    share_x: bool = True
    share_y: bool = False
    cell: tuple[float, float] = (4.0, 2.5)  # inches of a panel with its margin, across and down
    margin: tuple[float, float] = (0.6, 0.4)  # inches beside all of them and below
    heights: tuple[float, ...] = ()  # of rows, relative to the first
    scale: ColourScale | None = None  # a colour bar for all of them


@dataclass(frozen=True, kw_only=True)
class Caption:
    """What there is to see in a figure, and what would be there if there were nothing to see."""

    see: str
    otherwise: str

    def __str__(self) -> str:
        return f"{self.see} If there were nothing to see: {self.otherwise}"


@dataclass(frozen=True, kw_only=True, eq=False)
class FigureData:
    """A figure: blocks from left to right and downward, its title, and its caption."""

    name: str
    title: str
    caption: Caption
    blocks: tuple[Block, ...]
    across: int = 1  # blocks side by side
    scale: ColourScale | None = None  # a colour bar for all blocks
    steps: tuple[int, ...] = ()  # the checkpoints that it is of, where it is not of all measured

    def panels(self) -> list[Panel]:
        """All panels, block by block, row by row."""
        rows = chain.from_iterable(block.panels for block in self.blocks)
        return [panel for panel in chain.from_iterable(rows) if panel is not None]

    def __repr__(self) -> str:
        return f"FigureData({self.name!r}: {len(self.panels())} panels)"

    def _repr_png_(self) -> bytes:
        from toyvit.report.matplotlib_renderer import render_png

        return render_png(self)


def lay_out(
    rows: Iterable[Row], columns: Iterable[Column], build: Callable[[Row, Column], Panel]
) -> tuple[tuple[Panel, ...], ...]:
    """A grid of panels: what `build` makes of each row and column."""
    places = list(columns)
    return tuple(tuple(map(partial(build, row), places)) for row in rows)


def wrap_rows(panels: Sequence[Panel], across: int) -> tuple[tuple[Panel | None, ...], ...]:
    """Panels one after the other in rows of at most so many, the last row filled up."""
    across = min(across, len(panels))
    padded = [*panels, *[None] * (-len(panels) % across)]
    return tuple(tuple(padded[first : first + across]) for first in range(0, len(padded), across))
