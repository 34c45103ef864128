"""Figures drawn by matplotlib: how blocks, titles and captions are laid out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Patch

from toyvit.config.whole_files import write_atomically
from toyvit.report.matplotlib_colours import add_colour_bar
from toyvit.report.matplotlib_panels import draw_panel, finish_panel
from toyvit.report.matplotlib_words import map_words, show_plainly
from toyvit.report.panels import (
    Block,
    ColourScale,
    CurvePanel,
    FigureData,
    MapPanel,
    Panel,
)
from toyvit.report.style import COLOURS

DPI = 120
TITLE = 10.0  # points of a letter
CAPTION = 7.5
LINE = 1.25 / 72  # inches of a line for a point of its letters
EDGE = 0.15  # inches left free beside a text
BAR = 1.0  # inches of a colour bar
NARROWEST = 5.5  # inches of a figure
UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}  # what files do not say


def render(data: FigureData, *, captioned: bool = True) -> Figure:
    """A figure; without its caption it is as high as its panels are."""
    data = map_words(data, show_plainly)
    rows = _split(data.blocks, data.across)
    widths = [_find_largest(column, _width) for column in zip(*rows, strict=True)]
    heights = [_find_largest(row, _height) for row in rows]
    bar = BAR if data.scale else 0.0
    width = max(NARROWEST, sum(widths) + bar)
    title = wrap_text(data.title, width - 2 * EDGE, TITLE)
    caption = wrap_text(str(data.caption), width - 2 * EDGE, CAPTION) if captioned else []
    above = LINE * TITLE * len(title) + 0.14
    below = LINE * CAPTION * len(caption) + 0.12

    figure = Figure(figsize=(width, above + sum(heights) + below), layout="constrained")
    ratios = (above, sum(heights), below)
    parts = figure.subfigures(3, 1, squeeze=False, height_ratios=ratios)[:, 0]
    parts[0].text(0.5, 0.4, "\n".join(title), ha="center", va="center", fontsize=TITLE)
    shade = COLOURS["grey"]
    parts[2].text(EDGE / width, 1, "\n".join(caption), va="top", fontsize=CAPTION, color=shade)
    body = _set_bar_aside(parts[1], data.scale, width)
    grid = body.subfigures(
        len(rows), data.across, squeeze=False, width_ratios=widths, height_ratios=heights
    )
    for row, subfigures in zip(rows, grid, strict=True):
        for block, subfigure in zip(row, subfigures, strict=True):
            if block:
                _draw_block(subfigure, block)
    return figure


def _set_bar_aside(figure: SubFigure, scale: ColourScale | None, width: float) -> SubFigure:
    """What is left of a figure beside its colour bar, if it has one."""
    if scale is None:
        return figure
    ratios = (width - BAR, BAR)
    rest, side = figure.subfigures(1, 2, squeeze=False, width_ratios=ratios)[0]
    add_colour_bar(side, scale)
    return rest


def render_png(data: FigureData, *, captioned: bool = True, dpi: float = DPI) -> bytes:
    """A figure as the bytes of a PNG file."""
    return _encode(render(data, captioned=captioned), "png", dpi)


def save_figure(data: FigureData, file: Path, *, dpi: float = DPI) -> Path:
    """Draw a figure into a file, whole or not at all; the file's ending says which kind it is."""
    write_atomically(file, _encode(render(data), file.suffix[1:], dpi))
    return file


def _encode(figure: Figure, kind: str, dpi: float) -> bytes:
    """The bytes of a file, the same whenever they are made."""
    out = BytesIO()
    with rc_context({"svg.hashsalt": "toyvit"}):
        figure.savefig(out, format=kind, dpi=dpi, metadata=UNDATED.get(kind))
    return out.getvalue()


def wrap_text(text: str, inches: float, size: float) -> list[str]:
    """Lines of a text in letters of so many points that fit into so many inches.

    As a PNG draws it: its letters stand on pixels, 3 % wider than their outlines.
    """
    font = FontProperties(size=size)
    renderer = RendererAgg(1, 1, DPI)
    lines: list[str] = []

    for part in text.splitlines():
        line = ""
        for word in part.split():
            longer = f"{line} {word}".strip()
            width, _, _ = renderer.get_text_width_height_descent(longer, font, False)
            if line and width > DPI * inches:
                lines.append(line)
                longer = word
            line = longer
        lines.append(line)
    return lines


def _split(blocks: Sequence[Block], across: int) -> list[list[Block | None]]:
    """Rows of so many blocks, the last filled up."""
    rows: list[list[Block | None]] = []
    for first in range(0, len(blocks), across):
        row: list[Block | None] = list(blocks[first : first + across])
        rows.append(row + [None] * (across - len(row)))
    return rows


def _find_largest(blocks: Iterable[Block | None], size: Callable[[Block], float]) -> float:
    return max(size(block) for block in blocks if block)


def _width(block: Block) -> float:
    return block.cell[0] * len(block.panels[0]) + block.margin[0] + BAR * (block.scale is not None)


def _height(block: Block) -> float:
    shares = [height / block.heights[0] for height in block.heights] or [1.0] * len(block.panels)
    headers = 0.22 * bool(block.title) + 0.2 * bool(block.column_headers)
    return block.cell[1] * sum(shares) + block.margin[1] + headers


def _draw_block(figure: SubFigure, block: Block) -> None:
    """All panels of a block, then what depends on all of them: shared axes, names at edges."""
    figure = _set_bar_aside(figure, block.scale, _width(block))
    has_curves = isinstance(block.panels[0][0], CurvePanel)  # maps have the same ends anyway
    grid = figure.subplots(
        len(block.panels),
        len(block.panels[0]),
        squeeze=False,
        sharex=block.share_x and has_curves,
        sharey=block.share_y and has_curves and "row",
        height_ratios=block.heights or None,
    )
    placed = _draw_panels(block, grid)
    for row, column, panel, axes in placed:
        lowest = max(other for other, place, *_ in placed if place == column)
        finish_panel(
            axes,
            panel,
            names_x=not block.share_x or row == lowest,
            names_y=not block.share_y or column == 0,
        )
        _write_headers(axes, block, row, column)

    if block.title:
        figure.suptitle(block.title, fontsize="small")
    _explain_groups(figure, block)


def _draw_panels(
    block: Block, grid: Iterable[Iterable[Axes]]
) -> list[tuple[int, int, Panel, Axes]]:
    """Row, column, panel and axes of every place that has a panel, drawn; the others are hidden."""
    placed = []
    for row, (panels, line) in enumerate(zip(block.panels, grid, strict=True)):
        for column, (panel, axes) in enumerate(zip(panels, line, strict=True)):
            if panel is None:
                axes.set_visible(False)
            else:
                draw_panel(axes, panel)
                placed.append((row, column, panel, axes))
    return placed


def _write_headers(axes: Axes, block: Block, row: int, column: int) -> None:
    """What stands above a column and beside a row, with what the panel itself says there."""
    if row == 0 and block.column_headers:
        parts = [block.column_headers[column], axes.get_title()]
        axes.set_title("\n".join(filter(None, parts)), fontsize="small")
    if column == 0 and block.row_headers:
        parts = [block.row_headers[row], axes.get_ylabel()]
        axes.set_ylabel("\n".join(filter(None, parts)), fontsize="small")


def _explain_groups(figure: SubFigure, block: Block) -> None:
    """A legend of the groups of tokens that stand along the axes of maps, or of a graph's ports."""
    groups: dict[str, str] = {}
    for panels in block.panels:
        for panel in panels:
            if isinstance(panel, MapPanel):
                groups |= {group.name: group.colour for group in panel.groups}

    if groups:
        handles = [
            Patch(color=COLOURS[colour], label=f"{name} (along the axes)")
            for name, colour in groups.items()
        ]
        columns = max(1, int(_width(block) / 1.9))
        figure.legend(
            handles=handles, loc="outside lower center", ncols=columns, fontsize=7, frameon=False
        )
