"""What a matplotlib figure holds, beside what it was to hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toyvit.report.matplotlib_colours import BAR
from toyvit.report.panels import (
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
    """Every panel has its axes, and these hold exactly its lines, pictures and meshes, in order."""
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

        images = [picture.get_array() for picture in axes.images]
        meshes = [mesh.get_array() for mesh in axes.collections if mesh.get_array() is not None]
        pictures = list(list_pictures(panel))
        assert len(images) + len(meshes) == len(pictures)
        for values, wanted in zip([*images, *meshes], pictures, strict=True):
            assert np.array_equal(
                np.ma.filled(values.astype(float), np.nan), wanted, equal_nan=True
            )


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
