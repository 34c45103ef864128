"""A run in a notebook: the widget, and pictures of one checkpoint."""

from __future__ import annotations

import html
import re

import numpy as np
import pytest

import toyvit
from toyvit.errors import BadInput
from toyvit.model.forward import trace
from toyvit.report import notebook
from toyvit.report.panels import PicturePanel


def test_the_widget_holds_the_page_and_a_fallback(runs):
    """The page of both runs within the notebook's budget; exported, the same page in a frame."""
    widget = toyvit.view(runs["glyphs"], runs["digits"], height=300)
    assert len(widget.page) <= notebook.BUDGET and widget.step == -1
    bundle, _ = widget._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    source = re.search(r'srcdoc="([^"]*)"', bundle["text/html"])[1]
    assert html.unescape(source) == widget.page and "height: 300px" in bundle["text/html"]


def test_a_run_without_measures_can_be_viewed(tmp_path):
    from tests.report.planted import shrink, train, write_arrays

    run = train(tmp_path / "run", shrink(write_arrays(tmp_path / "own.npz")))
    assert "toyvit measure" in toyvit.view(run.path).page


def test_without_the_library_it_says_what_to_install(runs, monkeypatch):
    monkeypatch.setattr(notebook, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"pip install 'toyvit\[notebook\]'"):
        toyvit.view(runs["digits"])


@pytest.mark.parametrize("name", ["glyphs", "digits", "sums"])
def test_attention_is_that_of_the_token(runs, name):
    """A row a layer, a column a head; by default of the query, or of CLS."""
    run = runs[name]
    config = run.config.model
    figure = toyvit.show_attention(run, run.steps[1], picture=2)
    batch = run.batch("test", 3)
    patterns = trace(run.model(run.steps[1]), batch.images, "blocks.*.attn.pattern")
    token = -1 if batch.retrieval is None else config.n_prefix + int(batch.retrieval.query[2])
    if batch.retrieval is None and config.cls_token:
        token = 0
    panels = figure.blocks[0].panels
    assert len(panels) == config.n_layers and len(panels[0]) == config.n_heads
    for layer, row in enumerate(panels):
        for head, panel in enumerate(row):
            assert isinstance(panel, PicturePanel) and panel.overlay is not None
            expected = patterns[f"blocks.{layer}.attn.pattern"][2, head, token, config.n_prefix :]
            shown = panel.overlay.values.flatten()
            np.testing.assert_allclose(shown, expected.numpy(), atol=1e-6)


def test_a_patch_of_any_world_is_framed(runs):
    """The patch that is asked for: the second of the first row."""
    run = runs["digits"]
    config = run.config.model
    figure = toyvit.show_attention(run, token=config.n_prefix + 1)
    frame = figure.panels()[0].frames[0]
    size = config.patch_size
    assert (frame.left, frame.top, frame.width) == (size - 0.5, -0.5, size)
    assert "the patch in row 1, column 2 looks" in figure.title


@pytest.mark.parametrize(
    ("where", "problem"),
    [({"token": 999}, "no token 999"), ({"picture": -1}, "no test picture"), ({"step": 7}, "7")],
)
def test_what_is_not_there_is_said(runs, where, problem):
    with pytest.raises(BadInput, match=problem):
        toyvit.show_attention(runs["digits"], **where)


def test_the_lens_is_that_of_the_step(runs):
    run = runs["digits"]
    figure = toyvit.show_lens(run, run.steps[0], pictures=1)
    assert figure.title.startswith("digits, step 0") and len(figure.panels()) == 3
