"""What a matplotlib figure holds, beside what it was to hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from toyvit.report.matplotlib_colours import BAR
from toyvit.report.matplotlib_panels import find_stretches
from toyvit.report.panels import (
    Axis,
    CurvePanel,
    FigureData,
    GraphPanel,
    MapPanel,
    Panel,
    PicturePanel,
)


def list_axes(figure: Figure) -> list[Axes]:
    """The axes of panels, without colour bars and empty places."""
    bars = (BAR, "<colorbar>")
    return [axes for axes in figure.axes if axes.get_visible() and axes.get_label() not in bars]


def check_drawn(data: FigureData, figure: Figure) -> None:
    """Every panel has its axes, and these hold exactly what it says, in order: lines, bands, spans,
    pictures, meshes, frames, arrows; and its words, each in its place.
    """
    panels = data.panels()
    places = list_axes(figure)
    assert len(places) == len(panels)
    for axes, panel in zip(places, panels, strict=True):
        lines = [(line.get_xdata(), line.get_ydata()) for line in axes.lines]
        expected = list(list_lines(panel))
        assert len(lines) == len(expected)
        for (x, y), (wanted_x, wanted_y) in zip(lines, expected, strict=True):
            assert np.array_equal(x, wanted_x, equal_nan=True)
            assert np.array_equal(y, wanted_y, equal_nan=True)

        bands = [band for band in axes.collections if isinstance(band, FillBetweenPolyCollection)]
        assert [find_corners(band) for band in bands] == list(list_bands(panel))
        boxes = [box.get_bbox().bounds for box in axes.patches if isinstance(box, Rectangle)]
        assert np.allclose(boxes, list(list_boxes(panel)))
        arrows = [arrow for arrow in axes.patches if isinstance(arrow, FancyArrowPatch)]
        assert len(arrows) == len(getattr(panel, "edges", ()))
        words = {(*text.get_position(), text.get_text()) for text in axes.texts}
        assert set(list_words(panel)) <= words

        if isinstance(panel, CurvePanel | MapPanel):
            check_axis(axes.xaxis, axes.get_xlim(), panel.x)
            check_axis(axes.yaxis, axes.get_ylim(), panel.y)

        images = [picture.get_array() for picture in axes.images]
        meshes = [mesh.get_array() for mesh in axes.collections if mesh.get_array() is not None]
        pictures = list(list_pictures(panel))
        assert len(images) + len(meshes) == len(pictures)
        for values, wanted in zip([*images, *meshes], pictures, strict=True):
            assert np.array_equal(
                np.ma.filled(values.astype(float), np.nan), wanted, equal_nan=True
            )


def check_axis(side: XAxis | YAxis, ends: tuple[float, float], axis: Axis) -> None:
    """Ends, ticks and names are the panel's where it states them."""
    for end, stated in zip(ends, (axis.low, axis.high), strict=True):
        assert stated is None or end == stated
    if axis.ticks is not None:
        assert side.get_ticklocs().tolist() == list(axis.ticks)
    if axis.names is not None:  # they are hidden where another panel has the same
        names = [text.get_text() for text in side.get_ticklabels()]
        assert names == list(axis.names) or not any(names)


def list_lines(panel: Panel) -> Iterator[tuple[object, object]]:
    """x and y of every line: curves, levels, marks, guides, and a legend's handles of a graph."""
    if isinstance(panel, CurvePanel):
        for curve in panel.curves:
            yield curve.x, curve.y
        for level in panel.levels:
            yield [0, 1], [level.value] * 2
        for mark in panel.marks:
            yield [mark.place] * 2, [0, 1]
    if isinstance(panel, MapPanel):
        for place in panel.guides:
            yield [place] * 2, [0, 1]
            yield [0, 1], [place] * 2
    if isinstance(panel, GraphPanel):
        for _ in panel.ports:
            yield [], []


def find_corners(band: FillBetweenPolyCollection) -> set[tuple[float, float]]:
    """The places that a band's outline runs through."""
    return {(float(x), float(y)) for path in band.get_paths() for x, y in path.vertices}


def list_bands(panel: Panel) -> Iterator[set[tuple[float, float]]]:
    """The places on the lower and the upper edge of every band; where it has a gap, it has none."""
    for curve in getattr(panel, "curves", ()):
        if curve.band:
            edges = [
                np.stack(np.broadcast_arrays(np.asarray(curve.x, float), edge), 1)
                for edge in curve.band
            ]
            whole = np.isfinite(edges).all((0, 2))
            yield {(float(x), float(y)) for edge in edges for x, y in edge[whole]}


def list_boxes(panel: Panel) -> Iterator[tuple[float, float, float, float]]:
    """Left, lower edge, width and height of every span, frame, and stretch of a strip of groups."""
    if isinstance(panel, CurvePanel):
        for span in panel.spans:
            yield span.start, 0, span.end - span.start, 1
    if isinstance(panel, PicturePanel):
        for frame in panel.frames:
            yield frame.left, frame.top, frame.width, frame.height
    if isinstance(panel, MapPanel):
        for group in panel.groups:
            for first, n in find_stretches(group.tokens):
                yield first - 0.5, -0.045, n, 0.045
                yield -0.045, first - 0.5, 0.045, n


def list_words(panel: Panel) -> Iterator[tuple[float, float, str]]:
    """Place and text of everything that is written inside a panel."""
    for words in getattr(panel, "words", ()):
        yield words.x, words.y, words.text
    for node in getattr(panel, "nodes", ()):
        yield node.x, node.y, node.label


def list_pictures(panel: Panel) -> Iterator[np.ndarray]:
    """Every array in colours."""
    if isinstance(panel, MapPanel):
        yield panel.values.astype(float)
    if isinstance(panel, PicturePanel):
        yield panel.picture.astype(float)
        if panel.overlay:
            yield panel.overlay.values.astype(float)
        for inlay in panel.inlays:
            yield inlay.values.astype(float)
