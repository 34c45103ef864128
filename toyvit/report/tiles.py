"""Figures of maps and pictures as pixels, without axes: quick enough to be made at every report.

What TensorBoard shows as images: panels edge to edge in their grids, titles and headers in plain
letters, and in words what the colours mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from toyvit.report.matplotlib_colours import resolve_scale
from toyvit.report.panels import (
    Array,
    Block,
    ColourScale,
    FigureData,
    MapPanel,
    Panel,
    PicturePanel,
)
from toyvit.report.style import COLOURS

Pixels = NDArray[np.uint8]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
INCH = 90  # pixels of a panel's inch
LETTERS = 13  # their height in pixels
LINE = 18
GAP = 6
NARROWEST = 330  # pixels that words have: as wide as TensorBoard shows pictures
GREY = (190, 190, 190)  # where the mask forbids attention


def render_tiles(figure: FigureData) -> Pixels:
    """A figure as pixels (row column colour); ValueError for one that has other panels."""
    font = ImageFont.load_default(LETTERS)
    blocks = [_render_block(block, font) for block in figure.blocks]
    n = max(1, figure.across)
    rows = [blocks[first : first + n] for first in range(0, len(blocks), n)]
    scale = figure.scale or figure.blocks[0].scale
    sizes = list(map(_measure_row, rows))
    across = max(NARROWEST, *(across for across, _ in sizes))
    words: list[str] = []
    for line in [*figure.title.split("\n"), *([describe_scale(scale)] if scale else [])]:
        words += wrap_line(line, across, font)
    longest = max(round(font.getlength(line)) for line in words)
    width = max(longest, across) + 2 * GAP
    height = LINE * len(words) + sum(down for _, down in sizes)

    canvas = Image.new("RGB", (width, height + 2 * GAP), "white")
    pen = ImageDraw.Draw(canvas)
    for place, line in enumerate(words):
        pen.text((GAP, GAP + LINE * place), line, "black", font)
    top = GAP + LINE * len(words)
    for row in rows:
        left = GAP
        for block in row:
            canvas.paste(block, (left, top))
            left += block.width + GAP
        top += max(block.height for block in row) + GAP
    return np.asarray(canvas)


def wrap_line(line: str, width: float, font: Font) -> list[str]:
    """A line as several, each no wider than so many pixels where its words allow it.

    >>> wrap_line("a line of words", 50, ImageFont.load_default(LETTERS))
    ['a line of', 'words']
    """
    lines = [""]
    for word in line.split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _measure_row(blocks: list[Image.Image]) -> tuple[int, int]:
    """Width and height of blocks side by side, with a gap after each and below."""
    width = sum(block.width + GAP for block in blocks)
    return width, max(block.height for block in blocks) + GAP


def describe_scale(scale: ColourScale) -> str:
    """What colours mean, in one line."""
    label = scale.label.replace("\n", " ")
    marks = "".join(f"; {name}: {value:.2g}" for value, name in scale.marks)
    return f"{label}: {scale.low:.2g} to {scale.high:.2g}{marks}"


def _render_block(block: Block, font: Font) -> Image.Image:
    """A block's grid with its title, and headers above and beside it."""
    width, height = (round(inches * INCH) for inches in block.cell)
    columns = max(len(row) for row in block.panels)
    beside = [round(font.getlength(name)) for name in block.row_headers]
    left = max(beside, default=0) + GAP * bool(beside)
    top = LINE * (bool(block.title) + bool(block.column_headers))
    size = (left + columns * (width + GAP), top + len(block.panels) * (height + GAP))
    canvas = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(canvas)

    pen.text((0, 0), block.title, "black", font)
    for column, name in enumerate(block.column_headers):
        pen.text((left + column * (width + GAP), top - LINE), name, "black", font)
    for row, name in enumerate(block.row_headers):
        pen.text((0, top + row * (height + GAP) + height // 2), name, "black", font)
    for row, panels in enumerate(block.panels):
        for column, panel in enumerate(panels):
            if panel is not None:
                place = (left + column * (width + GAP), top + row * (height + GAP))
                canvas.paste(render_panel(panel, width, height), place)
    return canvas


def render_panel(panel: Panel, width: int, height: int) -> Image.Image:
    """One panel, as large as its cell, every value a rectangle."""
    size = (width, height)
    if isinstance(panel, MapPanel):
        return _colour(panel.values, panel.scale).resize(size, Image.Resampling.NEAREST)
    if not isinstance(panel, PicturePanel):
        raise ValueError(f"a {type(panel).__name__} has no tile")
    tile = _colour(panel.picture, panel.scale, panel.opacity)
    tile = tile.resize(size, Image.Resampling.NEAREST)
    if panel.overlay is not None:
        scale = panel.overlay.scale
        over = _shade(panel.overlay.values, scale)
        over[..., 3] *= panel.overlay.opacity
        layer = Image.fromarray((over * 255).round().astype(np.uint8), "RGBA")
        layer = layer.resize(size, Image.Resampling.NEAREST)
        tile.paste(layer, mask=layer)

    pen = ImageDraw.Draw(tile)
    per_pixel = width / panel.picture.shape[1]
    for frame in panel.frames:
        x = (frame.left + 0.5) * per_pixel
        y = (frame.top + 0.5) * per_pixel
        ends = (x, y, x + frame.width * per_pixel - 1, y + frame.height * per_pixel - 1)
        pen.rectangle(ends, outline=COLOURS[frame.colour], width=2)
    return tile


def _colour(values: Array, scale: ColourScale | None, opacity: float = 1.0) -> Image.Image:
    """Values in the colours of a scale, on white; grey where there is none."""
    shares = values if scale is None else _shade(values, scale)[..., :3]
    shares = 1 - opacity * (1 - shares)
    pixels = (shares * 255).round().astype(np.uint8)
    if values.ndim == 2:
        pixels[~np.isfinite(values) | (values == 0) & (scale is not None and scale.low > 0)] = GREY
    return Image.fromarray(pixels, "RGB")


def _shade(values: Array, scale: ColourScale) -> NDArray[np.float64]:
    """Red, green, blue and opacity, from 0 to 1."""
    colours, norm = resolve_scale(scale)
    return np.array(colours(norm(np.nan_to_num(values, nan=scale.low))), np.float64)
