"""What TensorBoard shows first, how few curves it has, and its tab of hyperparameters."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from toyvit.config.run import replace_seed
from toyvit.dynamics.transitions import detect_in_curve
from toyvit.report import tensorboard
from toyvit.report.panels import Block, ColourScale, PicturePanel
from toyvit.report.tags import HEADLINES, build_tag, iterate_curves
from toyvit.runs.events import PERFORMANCE, STRONGEST

AXES = ["factor", "group", "head", "layer", "split"]


def test_a_tag_names_a_place():
    assert build_tag(AXES, "induction", "mass", None, None, 0, 1, None) == (
        "induction/mass/layer 1, head 0"
    )
    assert build_tag(AXES, "probes", "accuracy", "label", "cls", None, 2, None) == (
        "probes/accuracy/factor label group cls layer 2"
    )
    assert build_tag(AXES, "attention", "entropy", None, None, "largest", 1, "train") == (
        "attention/entropy/layer 1 split train, largest over heads"
    )
    assert build_tag(AXES, "performance", "loss", *[None] * 5) == "Performance/loss"
    pair = ["layer", "head", "to_layer", "to_head"]
    assert build_tag(pair, "composition", "q", 0, 1, 2, 0) == (
        "composition/q/layer 0, head 1 to layer 2, head 0"
    )
    assert build_tag(pair, "x", "y", None, 1, 2, None) == "x/y/head 1 to_layer 2"


def test_pictures_are_tiled_edge_to_edge_as_shares_of_colours():
    """Grey ones by their scale, coloured ones as they are; nothing stands for an empty place."""
    values = np.array([[-1.0, 0.0], [1.0, 5.0]])
    grey = PicturePanel(picture=values, scale=ColourScale(kind="ink", low=-1, high=1))
    coloured = PicturePanel(picture=np.arange(12.0).reshape(2, 2, 3) / 12)
    pixels = tensorboard.tile_pictures(Block(panels=((grey, coloured), (coloured, grey, None))))
    assert pixels.shape == (4, 4, 3)
    shares = [[0, 0.5], [1, 1]]
    assert np.array_equal(pixels[:2, :2], np.stack([shares] * 3, -1))
    assert np.array_equal(pixels[:2, 2:], coloured.picture)
    assert np.array_equal(pixels[2:, :2], coloured.picture)
    assert np.array_equal(pixels[2:, 2:], pixels[:2, :2])


@pytest.mark.slow
def test_performance_comes_first_and_heads_do_not_flood(runs):
    """Of a layer's heads the largest: a curve a layer for each of attention's quantities."""
    run = runs["digits"]
    curves = list(iterate_curves(run.table))
    tags = {tag for _, tag, _ in curves}
    assert sorted(tags)[0] == f"{PERFORMANCE}/accuracy"
    attention = [tag for tag in tags if tag.startswith("attention/")]
    rows = run.table[(run.table["analysis"] == "attention") & run.table["head"].notna()]
    n_quantities = rows["quantity"].nunique()
    assert len([tag for tag in attention if "heads" in tag]) == 2 * n_quantities
    assert not any("head 1" in tag for tag in tags)
    rows = rows[(rows["quantity"] == "entropy") & (rows["layer"] == 1)]
    shown = {
        step: value
        for step, tag, value in curves
        if tag == "attention/entropy/layer 1, largest over heads"
    }
    assert shown == rows.groupby("step")["value"].max().to_dict()


@pytest.mark.slow
def test_the_strongest_head_has_one_curve_a_run(runs):
    curves = list(iterate_curves(runs["glyphs"].table))
    for (analysis, quantity), name in HEADLINES.items():
        shown = {step: value for step, tag, value in curves if tag == f"{STRONGEST}/{name}"}
        assert shown == runs["glyphs"].curve(analysis, quantity).to_dict()


@pytest.mark.slow
def test_the_tab_of_hyperparameters_has_the_config_and_the_last_scores(runs):
    run = runs["digits"]
    board = EventAccumulator(str(tensorboard.write(run))).Reload()
    contents = board.PluginTagToContent("hparams")
    start = HParamsPluginData.FromString(contents["_hparams_/session_start_info"])
    settings = start.session_start_info.hparams
    assert settings["model.d_mlp"].number_value == 16
    assert (
        settings["train.steps"].number_value == 20 and settings["recipe"].string_value == "digits"
    )
    assert "train.checkpoints" not in settings
    experiment = HParamsPluginData.FromString(contents["_hparams_/experiment"])
    metrics = {metric.name.tag for metric in experiment.experiment.metric_infos}
    assert {f"{PERFORMANCE}/accuracy", f"{PERFORMANCE}/loss"} <= metrics
    curves = {name for name in metrics if not name.startswith("onsets/")}
    assert curves <= set(board.Tags()["scalars"]), "each is a curve"


def test_the_tab_of_hyperparameters_has_onsets_and_what_differs(runs, tmp_path, monkeypatch):
    """The onset is a value that can be compared; without a change its column stays, empty."""
    run = runs["digits"]
    jump = pd.Series([0.1] * 20 + [0.5] + [0.9] * 20, index=range(0, 410, 10), dtype=float)
    curves = {"performance/accuracy": jump, "performance/loss": jump * 0 + 1}
    monkeypatch.setattr(tensorboard, "watch_curves", lambda run: curves)
    # Without the rates of a run that ended long before.
    monkeypatch.setattr(
        tensorboard, "detect_in_curve", lambda values, train: detect_in_curve(values)
    )
    differing = tensorboard.list_differing([run.config, replace_seed(run.config, 1)])
    assert differing == {"seeds.init", "seeds.data"}
    tensorboard.write(run, tmp_path, differing=differing)

    board = EventAccumulator(str(tmp_path)).Reload()
    (onset,) = board.Scalars("onsets/performance accuracy")
    assert onset.value == pytest.approx(detect_in_curve(jump).onset)
    assert onset.step == round(onset.value)
    assert "onsets/performance loss" not in board.Tags()["scalars"]
    contents = board.PluginTagToContent("hparams")
    experiment = HParamsPluginData.FromString(contents["_hparams_/experiment"]).experiment
    metrics = [metric.name.tag for metric in experiment.metric_infos]
    assert metrics[:2] == [f"{PERFORMANCE}/accuracy", "onsets/performance accuracy"]
    assert "onsets/performance loss" in metrics
    marked = {field.name for field in experiment.hparam_infos if field.differs}
    assert marked == differing
    settings = HParamsPluginData.FromString(contents["_hparams_/session_start_info"])
    assert settings.session_start_info.hparams["model.bias"].string_value == "True"
