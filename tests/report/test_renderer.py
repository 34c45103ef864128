"""The renderer draws exactly the data: curves, maps, pictures and graphs made by hand."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from tests.report.drawn import check_drawn, list_axes
from toyvit.report.matplotlib_colours import BAR, resolve_colour, resolve_scale
from toyvit.report.matplotlib_panels import find_stretches, spread_apart
from toyvit.report.matplotlib_renderer import DPI, render, render_png, wrap_text
from toyvit.report.panels import (
    Axis,
    Block,
    Caption,
    ColourScale,
    Curve,
    CurvePanel,
    Edge,
    FigureData,
    Frame,
    GraphPanel,
    Inlay,
    Level,
    MapPanel,
    Mark,
    Node,
    Overlay,
    PicturePanel,
    Span,
    TokenGroup,
    Words,
)
from toyvit.report.style import COLOURS

STEPS = np.arange(6.0)
HEAT = ColourScale(kind="heat", low=0, high=30, label="attention (share)", marks=((3.0, "even"),))
CURVES = CurvePanel(
    x=Axis(label="training step", scale="steps"),
    y=Axis(label="loss (nats)", low=0, high=4),
    title="a title",
    curves=(
        Curve(x=STEPS, y=STEPS**0.5, label="root", band=(STEPS**0.5 - 1, STEPS**0.5 + 1)),
        Curve(x=STEPS[:1], y=STEPS[:1], colour="viridis 0.5", marker="circle", end_label="end"),
    ),
    levels=(Level(value=1.5, name="chance", kind="chance"), Level(value=1.6, name="null")),
    spans=(Span(start=1, end=2, label="rise"),),
    marks=(Mark(place=3, label="bend"),),
    words=(Words(x=1, y=1, text="here"),),
    legend="right",
    legend_title="what",
)
MAP = MapPanel(
    x=Axis(label="key token"),
    y=Axis(label="query token"),
    values=np.arange(9.0).reshape(3, 3),
    scale=HEAT,
    groups=(TokenGroup(name="CLS", tokens=(0,), colour="pink"),),
    guides=(1.0,),
)
PICTURE = PicturePanel(
    picture=np.arange(16.0).reshape(4, 4),
    scale=ColourScale(kind="ink", low=0, high=15),
    overlay=Overlay(values=np.ones((2, 2)), scale=replace(HEAT, kind="tint")),
    inlays=(Inlay(values=np.eye(3), left=0, top=1, width=2, height=3, opacity=0.5),),
    frames=(Frame(left=0, top=0, width=2, height=2, colour="blue"),),
    words=(Words(x=1, y=2, text="7", colour="green"),),
    below="seven",
    cell=2,
)
GRAPH = GraphPanel(
    nodes=(
        Node(name="input", label="input", x=0, y=0, used=True),
        Node(name="a0.h0", label="layer 0,\nhead 0", x=0, y=1, used=True),
        Node(name="m0", label="layer 0,\nMLP", x=1, y=1, used=False),
        Node(name="logits", label="logits", x=0, y=2, used=True),
    ),
    edges=(
        Edge(sender="input", receiver="a0.h0", port="v", weight=1.0, score=-2.0),
        Edge(sender="input", receiver="logits", port="", weight=0.5, score=1.0),
    ),
    ports={"v": ("green", "into values"), "": ("pink", "into the logits")},
)


def put(*rows, **options) -> FigureData:
    return FigureData(
        name="made",
        title="a figure made by hand",
        caption=Caption(see="Four panels.", otherwise="none."),
        blocks=(Block(panels=rows, **options),),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "panel",
    [
        CURVES,
        MAP,
        PICTURE,
        GRAPH,
        replace(MAP, columns=np.array([1.0, 2, 4]), rows=np.array([1.0, 2, 4]), has_bar=True),
        replace(PICTURE, picture=np.full((4, 4, 3), 0.5), scale=None, cell=0),
    ],
    ids=["curves", "map", "picture", "graph", "mesh", "colours"],
)
def test_a_panel_is_drawn_as_it_is(panel):
    data = put((panel, panel), (panel, None), share_x=True)
    check_drawn(data, render(data))


def test_curves_have_their_colours_and_lines():
    axes = list_axes(render(put((CURVES,))))[0]
    root, point, chance, *_ = axes.lines
    assert root.get_color() == COLOURS["blue"] and point.get_marker() == "o"
    assert point.get_color() == resolve_colour("viridis 0.5") != resolve_colour("viridis 0.6")
    assert chance.get_linestyle() == ":" and axes.get_title() == "a title"
    assert axes.get_xscale() == "symlog" and axes.get_xlim()[0] == 0
    assert axes.get_ylim() == (0, 4) and axes.get_ylabel() == "loss (nats)"
    names = {text.get_text() for text in axes.texts}
    assert names == {"chance", "null", "end", "here"}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["root", "rise", "bend"]


def test_names_at_the_edge_do_not_meet():
    assert spread_apart([0.5, 0.5, 0.53, 0.1], 0.1) == pytest.approx([0.41, 0.51, 0.61, 0.1])
    assert spread_apart([0.01, 0.0], 0.1) == pytest.approx([0.055, -0.045])
    assert spread_apart([0.0, 0.0], 0.2) == pytest.approx([-0.05, 0.15])
    top = spread_apart([1.0, 1.0, 0.99], 0.1)
    assert top == pytest.approx([0.95, 1.05, 0.85])
    assert spread_apart([], 0.1) == []


def test_a_colour_bar_marks_what_is_to_be_compared_with():
    figure = render(put((MAP,), scale=HEAT))
    bar = next(axes for axes in figure.axes if axes.get_label() == BAR)
    assert [line.get_ydata()[0] for line in bar.lines] == [3.0]
    assert bar.get_ylabel() == "attention (share)\neven: 3 (line)"


def test_a_logarithmic_scale_greys_what_has_no_logarithm():
    colours, norm = resolve_scale(replace(HEAT, low=0.1, spacing="log"))
    values = norm(np.array([0.0, 0.1, 30.0]))
    assert values.mask.tolist() == [True, False, False] and values[1:].tolist() == [0, 1]
    assert colours.get_bad()[3] == 0, "the panel's own grey is seen through it"


def test_stretches_of_tokens():
    assert find_stretches((0, 1, 2, 5, 7, 8)) == [(0, 3), (5, 1), (7, 2)]
    assert find_stretches(()) == []


@pytest.mark.slow
@pytest.mark.parametrize("width", [5, 8, 13])
def test_words_of_a_figure_stay_inside_it(width):
    """A long title is wrapped, a caption too, and neither is cut in the file."""
    data = replace(
        put((CURVES,), cell=(width, 2)),
        title="a long title " * 50,
        caption=Caption(see="A long caption of words. " * 40, otherwise="none."),
    )
    figure = render(data)
    figure.savefig(BytesIO(), format="png", dpi=DPI)
    figure.set_dpi(DPI)
    edges = figure.get_window_extent()
    texts = [text for part in figure.subfigs for text in part.texts]
    assert len(texts) == 2 and all(text.get_text().count("\n") > 1 for text in texts)
    for text in texts:
        box = text.get_window_extent()
        assert edges.x0 <= box.x0 and box.x1 <= edges.x1
        assert edges.y0 <= box.y0 and box.y1 <= edges.y1


def test_text_is_wrapped_at_its_width():
    lines = wrap_text("one two three\nfour", 0.4, 10)
    assert lines == ["one", "two", "three", "four"]
    assert wrap_text("one two three\nfour", 9, 10) == ["one two three", "four"]
    assert wrap_text("", 1, 10) == []


@pytest.mark.slow
def test_a_figure_without_its_caption_is_lower():
    data = put((CURVES,))
    whole = render(data)
    assert render(data, captioned=False).get_figheight() < whole.get_figheight()
    assert render_png(data).startswith(b"\x89PNG") and data._repr_png_() == render_png(data)


def test_blocks_stand_side_by_side():
    block = put((MAP,)).blocks[0]
    wide = replace(put(), blocks=(block, block, block), across=2, scale=HEAT)
    figure = render(wide)
    check_drawn(wide, figure)
    left, right, below = list_axes(figure)
    assert left.get_window_extent().y0 == pytest.approx(right.get_window_extent().y0)
    assert below.get_window_extent().y1 < left.get_window_extent().y0


def test_shared_axes_are_named_once():
    grid = put((CURVES, CURVES), (CURVES, None), share_x=True, share_y=True)
    upper, right, lower = list_axes(render(grid))
    assert (upper.get_xlabel(), lower.get_xlabel(), right.get_xlabel()) == (
        "",
        "training step",
        "training step",
    )
    assert upper.get_ylabel() == lower.get_ylabel() == "loss (nats)" and right.get_ylabel() == ""


def names_ticks(axes, which) -> bool:
    side = {"x": "labelbottom", "y": "labelleft"}[which]
    return getattr(axes, f"{which}axis").get_tick_params()[side]


def test_ticks_are_named_where_the_axis_is():
    grid = put((CURVES, CURVES), (CURVES, None), share_x=True, share_y=True)
    upper, right, lower = list_axes(render(grid))
    assert [names_ticks(axes, "x") for axes in (upper, right, lower)] == [False, True, True]
    assert [names_ticks(axes, "y") for axes in (upper, right, lower)] == [True, False, True]
    apart = list_axes(render(replace(grid, blocks=put((CURVES, CURVES), share_x=False).blocks)))
    assert all(names_ticks(axes, which) for axes in apart for which in "xy")


@pytest.mark.parametrize("panel", [CURVES, MAP], ids=["curves", "map"])
def test_an_axis_has_its_ticks_their_names_and_its_ends(panel):
    ticked = Axis(label="a", low=-1, high=3, ticks=(0.0, 1.0, 2.0), names=("none", "some", "all"))
    bare = Axis(label="b", low=0, high=2, ticks=(1.0,))
    for x, y in ((ticked, bare), (bare, ticked)):
        data = put((replace(panel, x=x, y=y),))
        check_drawn(data, render(data))


def test_curves_share_their_ends_where_they_are_said_to_and_maps_never_do():
    short = replace(CURVES, x=Axis(label="step"), y=Axis(label="loss (nats)"))
    long = replace(short, curves=(Curve(x=10 * STEPS, y=10 * STEPS),), spans=(), marks=())
    for shared in (True, False):
        columns = list_axes(render(put((short,), (long,), share_x=shared)))
        rows = list_axes(render(put((short, long), share_y=shared)))
        assert (columns[0].get_xlim() == columns[1].get_xlim()) is shared
        assert (rows[0].get_ylim() == rows[1].get_ylim()) is shared

    large = replace(MAP, values=np.arange(25.0).reshape(5, 5))
    for panels in ([(MAP,), (large,)], [(MAP, large)]):
        drawn = list_axes(render(put(*panels, share_x=True, share_y=True)))
        assert [axes.get_xlim() for axes in drawn] == [(-0.5, 2.5), (-0.5, 4.5)]


def test_headers_stand_above_columns_and_beside_rows():
    named = put((MAP,), (MAP,), column_headers=("head 0",), row_headers=("step 0", "step 10"))
    first, second = list_axes(render(named))
    assert first.get_title() == "head 0" and second.get_title() == ""
    assert [axes.get_ylabel() for axes in (first, second)] == [
        "step 0\nquery token",
        "step 10\nquery token",
    ]


def test_edges_are_as_wide_as_their_weight():
    arrows = list_axes(render(put((GRAPH,))))[0].patches
    strong, weak = [arrow.get_linewidth() for arrow in arrows]
    assert strong > weak and arrows[0].get_edgecolor()[:3] == to_rgba(COLOURS["green"])[:3]
