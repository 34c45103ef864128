"""Every figure of the table on small runs: its words, its units, what it is to be compared with,
and that it is plain data.
"""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from tests.report.conftest import CONFIGS
from tests.report.drawn import check_drawn
from toyvit.config import ModelConfig
from toyvit.report import FIGURES, MOST_HEADLINES, select_figures
from toyvit.report.matplotlib_renderer import render
from toyvit.report.panels import Block, CurvePanel, FigureData, MapPanel, PicturePanel
from toyvit.report.plain import to_plain
from toyvit.report.rows import FigureRow, has_figure

# What is counted needs no unit: these are places, or numbers of what they name.
COUNTED = re.compile(r"(training step|step of the sampler|(key |query )?token|iteration)\b|$")
# Figures that no null, chance or baseline is known for: pictures of weights and answers.
WITHOUT_NULL = {"directions", "lens", "reconstruction"}
# Which runs have which figures: all of these, no others.
EXPECTED = {
    "glyphs": {"phase_transition", "query_attention", "heads", "head_ablation", "by_factor"}
    | {"probes", "updates", "attention", "directions", "edges", "patching", "attribution"}
    | {"attention_knockout", "lens", "answer_maps"},
    "digits": {"learning", "heads", "head_ablation", "cls_attention", "by_factor", "probes"}
    | {"updates", "attention", "directions", "attribution", "attention_knockout", "lens"}
    | {"answer_maps"},
    "hidden": {"learning", "reconstruction", "heads", "head_ablation", "cls_attention"}
    | {"probes", "updates", "attention", "directions"},
    "chain": {"learning", "strategies", "heads", "head_ablation", "probes", "updates"}
    | {"attention", "directions", "lens"},
    "sums": {"learning", "grokking", "heads", "head_ablation", "by_factor", "probes", "updates"}
    | {"attention", "directions", "attribution", "lens", "answer_maps"},
}
CASES = [(run, figure) for run, figures in EXPECTED.items() for figure in sorted(figures)]


END_LABEL = 18  # characters that the page has room for behind a curve


def list_units(figure: FigureData) -> list[str]:
    """Labels of all axes and colour bars."""
    labels = []
    for panel in figure.panels():
        if isinstance(panel, CurvePanel | MapPanel):
            labels += [panel.x.label, panel.y.label]
    scales = [figure.scale, *(block.scale for block in figure.blocks)]
    return labels + [scale.label for scale in scales if scale]


def list_comparisons(figure: FigureData) -> list[str]:
    """What the figure's values are to be compared with."""
    names = []
    for panel in figure.panels():
        if isinstance(panel, CurvePanel):
            names += [level.kind for level in panel.levels if level.kind != "reference"]
            names += [curve.label for curve in panel.curves if curve.style == "dense"]
    scales = [figure.scale, *(block.scale for block in figure.blocks)]
    return names + [name for scale in scales if scale for _, name in scale.marks]


def repeats_an_axis(block: Block) -> bool:
    """Whether all maps of a row have one and the same axis y, which is then to be named once."""
    for row in block.panels:
        axes = [to_plain(panel.y) for panel in row if isinstance(panel, MapPanel)]
        if len(axes) > 1 and all(axis == axes[0] for axis in axes):
            return True
    return False


def test_the_small_runs_have_every_figure_between_them():
    assert EXPECTED.keys() == CONFIGS.keys()
    assert set().union(*EXPECTED.values()) == FIGURES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_has_the_figures_that_its_measures_allow(runs, name):
    chosen = select_figures(runs[name])
    assert {row.name for row, _ in chosen} == EXPECTED[name]
    headlines = [is_headline for _, is_headline in chosen]
    assert sum(headlines) == MOST_HEADLINES and headlines == sorted(headlines, reverse=True)
    assert all(row.is_headline for row, is_headline in chosen if is_headline)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "figure"), CASES)
def test_a_figure_says_what_it_shows_and_is_drawn_as_it_is(runs, name, figure):
    data = FIGURES[figure].draw(runs[name], None)
    assert data.name == figure and runs[name].name in data.title
    assert all(
        text.endswith(".") and len(text) > 15 for text in (data.caption.see, data.caption.otherwise)
    )
    for label in list_units(data):
        assert COUNTED.match(label) or re.search(r"\(.+\)", label, re.DOTALL), label
    assert bool(list_comparisons(data)) == (figure not in WITHOUT_NULL)
    for panel in data.panels():
        if isinstance(panel, CurvePanel):
            assert panel.curves and any(len(curve.x) for curve in panel.curves)
            assert all(len(curve.x) == len(curve.y) for curve in panel.curves)
            assert all(len(curve.end_label) <= END_LABEL for curve in panel.curves)

    for block in data.blocks:
        assert min(block.margin) >= 0 < min(block.cell)
        assert block.share_y or not repeats_an_axis(block)

    plain = to_plain(data)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    check_drawn(data, render(data))


@pytest.mark.slow
def test_the_plain_data_of_a_figure_holds_its_numbers(runs):
    data = FIGURES["phase_transition"].draw(runs["glyphs"], None)
    plain = json.loads(json.dumps(to_plain(data)))
    panels = [panel for row in plain["blocks"][0]["panels"] for panel in row]
    assert [panel["kind"] for panel in panels] == ["CurvePanel"] * 4
    accuracy = runs["glyphs"].curve("performance", "accuracy")
    assert panels[1]["curves"][0]["x"] == list(accuracy.index)
    assert panels[1]["curves"][0]["y"] == list(accuracy)
    chance = {level["name"]: level["value"] for level in panels[1]["levels"]}
    assert chance["uniform"] == runs["glyphs"].baselines["accuracy.uniform"]


@pytest.mark.slow
def test_patterns_say_which_tokens_are_of_which_kind(runs):
    glyphs = FIGURES["attention"].draw(runs["glyphs"], None).panels()[0]
    groups = {group.name: group.tokens for group in glyphs.groups}
    retrieval = runs["glyphs"].batch("test", 1).retrieval
    assert groups["labels"] == tuple(retrieval.candidates[0].tolist())
    assert groups["the query"] == (int(retrieval.query[0]),)
    digits = FIGURES["attention"].draw(runs["digits"], None).panels()[0]
    assert [(group.name, group.tokens[0]) for group in digits.groups] == [
        ("CLS", 0),
        ("patches, row by row", 1),
    ]


@pytest.mark.slow
def test_a_head_is_called_one_way(runs):
    """In words wherever people read; the short names of nodes in graphs of edges alone, which
    explain them.
    """
    for name in ("heads", "head_ablation", "attribution", "patching", "attention"):
        assert "layer 1, head 0" in json.dumps(to_plain(FIGURES[name].draw(runs["glyphs"], None)))
    for name in EXPECTED["glyphs"]:
        text = json.dumps(to_plain(FIGURES[name].draw(runs["glyphs"], None)))
        has_short_names = re.search(r"a\d\.h\d", text) is not None
        assert has_short_names == (name == "edges"), name
    assert "a1.h0 is layer 1, head 0" in str(FIGURES["edges"].draw(runs["glyphs"], None).caption)


@pytest.mark.slow
def test_the_run_beside_is_drawn_in_another_colour(runs):
    alone = FIGURES["learning"].draw(runs["digits"], None).panels()
    both = FIGURES["learning"].draw(runs["digits"], runs["hidden"]).panels()
    assert {curve.colour for panel in alone for curve in panel.curves} == {"blue"}
    assert [[curve.colour for curve in panel.curves] for panel in both] == [["blue", "orange"]] * 2
    assert np.array_equal(both[0].curves[1].y, runs["hidden"].curve("performance", "loss"))


@pytest.mark.slow
def test_pictures_keep_their_pixels(runs):
    batch = runs["digits"].batch("test", 1)
    panel = FIGURES["cls_attention"].draw(runs["digits"], None).panels()[0]
    assert isinstance(panel, PicturePanel)
    assert np.array_equal(panel.picture, batch.images[0, 0].numpy())
    assert panel.overlay.values.shape == runs["digits"].config.model.grid
    assert panel.overlay.values.sum() < 1 + 1e-6, "attention to the patches, without CLS itself"


def test_a_figure_needs_its_analyses_and_its_model(runs):
    class Opened:
        config = type("Config", (), {"model": ModelConfig(n_layers=1)})

    row = FigureRow(name="none", draw=lambda run, beside: None, needs=frozenset({"lens", "heads"}))
    assert has_figure(row, Opened, frozenset({"lens", "heads", "probes"}))
    assert not has_figure(row, Opened, frozenset({"lens"}))
    lacking = FigureRow(name="none", draw=row.draw, lacks=frozenset({"induction"}))
    assert has_figure(lacking, Opened, frozenset())
    assert not has_figure(lacking, Opened, frozenset({"induction"}))
    deep = FigureRow(name="none", draw=row.draw, fits=lambda config: config.n_layers > 1)
    assert not has_figure(deep, Opened, frozenset())
