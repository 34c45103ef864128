"""Figures as data: plain JSON of every record, and grids of panels."""

from __future__ import annotations

import json

import numpy as np
import pytest

from toyvit.report.panels import (
    Axis,
    Block,
    Caption,
    Curve,
    CurvePanel,
    FigureData,
    lay_out,
    wrap_rows,
)
from toyvit.report.plain import to_plain

PANEL = CurvePanel(
    x=Axis(label="training step", ticks=(0.0, 1.0), names=("none", "one")),
    y=Axis(label="loss (nats)"),
    curves=(Curve(x=np.array([0.0, 1.0]), y=np.array([np.nan, np.inf], np.float32)),),
)
FIGURE = FigureData(
    name="made",
    title="a figure",
    caption=Caption(see="A curve.", otherwise="nothing."),
    blocks=(Block(panels=((PANEL, None),)),),
)


def test_a_figure_is_plain_json():
    plain = to_plain(FIGURE)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["kind"] == "FigureData" and plain["scale"] is None
    panel, nothing = plain["blocks"][0]["panels"][0]
    assert nothing is None and panel["kind"] == "CurvePanel"
    assert panel["x"] == {
        "kind": "Axis",
        "label": "training step",
        "scale": "linear",
        "low": None,
        "high": None,
        "ticks": [0.0, 1.0],
        "names": ["none", "one"],
    }
    assert panel["curves"][0]["x"] == [0.0, 1.0]
    assert panel["curves"][0]["y"] == [None, None], "JSON has neither NaN nor infinity"


def test_numbers_of_numpy_are_numbers():
    plain = to_plain({"a": np.float32(0.5), "b": np.int64(3), "c": (True, "x", None)})
    assert plain == {"a": 0.5, "b": 3, "c": [True, "x", None]}
    assert to_plain(np.arange(4).reshape(2, 2)) == [[0, 1], [2, 3]]


def test_what_is_no_data_is_refused():
    with pytest.raises(TypeError, match="function has no place in a figure"):
        to_plain({"draw": lambda: None})


def test_a_caption_says_both():
    assert str(FIGURE.caption) == "A curve. If there were nothing to see: nothing."
    assert FIGURE.panels() == [PANEL]


def test_panels_in_rows_and_columns():
    calls = []

    def build(row, column):
        calls.append((row, column))
        return PANEL

    assert lay_out("ab", range(2), build) == ((PANEL, PANEL), (PANEL, PANEL))
    assert calls == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]


@pytest.mark.parametrize(
    ("n", "across", "shape"), [(1, 3, [1]), (3, 3, [3]), (4, 3, [3, 1]), (6, 3, [3, 3])]
)
def test_rows_are_filled_up(n, across, shape):
    rows = wrap_rows([PANEL] * n, across)
    assert [sum(panel is not None for panel in row) for row in rows] == shape
    assert len({len(row) for row in rows}) == 1
