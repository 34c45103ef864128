"""TensorBoard's pictures: tiles whose colours are the figure's, with captions; weights, onsets."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import ImageFont
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from toyvit.report import tensorboard
from toyvit.report.attention import draw_attention
from toyvit.report.learning import draw_learning
from toyvit.report.matplotlib_colours import resolve_scale
from toyvit.report.picture_attention import draw_cls_attention
from toyvit.report.tiles import GAP, GREY, LETTERS, NARROWEST, render_panel, render_tiles, wrap_line
from toyvit.runs.events import EVENTS, Events, mask_sum


def read_events(folder):
    files = list(folder.glob(EVENTS))
    assert len(files) == 1
    return list(EventFileLoader(str(files[0])).Load())


def test_a_tile_has_the_colours_of_its_values(runs):
    """Every cell of the first map, at its middle: its colour on the scale, grey where masked."""
    panel = draw_attention(runs["glyphs"], steps=[20]).panels()[0]
    n = len(panel.values)
    pixels = np.asarray(render_panel(panel, 10 * n, 8 * n))
    assert pixels.shape == (8 * n, 10 * n, 3)
    colours, norm = resolve_scale(panel.scale)
    expected = np.array(colours(norm(panel.values)))[..., :3] * 255
    expected[panel.values == 0] = GREY
    assert (panel.values == 0).any()
    np.testing.assert_allclose(pixels[4::8, 5::10], expected, atol=1)


def test_pictures_are_laid_under_attention(runs):
    pixels = render_tiles(draw_cls_attention(runs["digits"], steps=[20]))
    assert pixels.dtype == np.uint8 and pixels.ndim == 3 and len(np.unique(pixels)) > 20


def test_words_are_no_wider_than_tensorboard_shows(runs):
    """A picture is not shrunk for its words: it is as wide as its maps, and higher."""
    figure = draw_attention(runs["glyphs"], steps=[20])
    short = render_tiles(replace(figure, title="short"))
    long = render_tiles(replace(figure, title="word " * 100))
    assert long.shape[1] <= max(short.shape[1], NARROWEST + 2 * GAP)
    assert long.shape[0] > short.shape[0]
    font = ImageFont.load_default(LETTERS)
    line = "attention (share), mean of 128 pictures, logarithmic: 0.0063 to 1"
    lines = wrap_line(line, 150, font)
    assert " ".join(lines) == line and max(map(font.getlength, lines)) <= 150


def test_curves_have_no_tile(runs):
    with pytest.raises(ValueError, match="CurvePanel has no tile"):
        render_tiles(draw_learning(runs["digits"]))


def test_pictures_have_captions(runs, tmp_path):
    """What to see, and what would be there if there were nothing."""
    tensorboard.write(runs["glyphs"], tmp_path)
    described = {
        value.tag.partition("/")[0]: value.metadata.summary_description
        for event in read_events(tmp_path)
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "images"
    }
    assert set(described) == {"attention patterns"}
    assert "If there were nothing to see" in described["attention patterns"]


def test_histograms_are_written_where_they_are_asked_for(runs, tmp_path):
    """Of every weight that has any values, at every checkpoint of a short run."""
    run = runs["digits"]
    tensorboard.write(run, tmp_path / "without")
    tensorboard.write(run, tmp_path / "with", histograms=True)

    def count(folder):
        values = [value for event in read_events(folder) for value in event.summary.value]
        return sum(value.tag.startswith("Histograms/") for value in values)

    n = sum(weights.numel() > 0 for weights in run.weights(0).values())
    assert count(tmp_path / "without") == 0
    assert count(tmp_path / "with") == n * len(run.steps)


def test_sums_are_tensorboards(tmp_path):
    """Ours of any bytes, and a record is read back by TensorBoard's own reader."""
    import google_crc32c

    rng = np.random.default_rng(0)
    for n in (0, 1, 7, 8, 100, 5000):
        content = rng.bytes(n)
        assert mask_sum(google_crc32c.value(content)) == masked_crc32c(content)
    with (tmp_path / "events.out.tfevents.1").open("wb") as file:
        Events(file)
    assert [event.file_version for event in read_events(tmp_path)] == ["brain.Event:2"]
