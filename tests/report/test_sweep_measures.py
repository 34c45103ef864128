"""A measure over the settings of a sweep: median and ends over seeds, chance, and a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.report.planted import CHECKPOINTS, PERFORMANCE, plant, shrink, train, write_arrays
from toyvit.__main__ import main
from toyvit.errors import BadInput
from toyvit.report import draw_measure
from toyvit.report.sweep_measures import draw_sweep_measure, parse_measure, tabulate_measure
from toyvit.report.sweeps import open_settings
from toyvit.runs.handle import Run

VALUES = {"one": (0.1, 0.5, 0.3), "two": (0.6, 0.6, 0.9)}  # of each seed, by setting


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two settings of three seeds; one head has a value of its own, the other a lower one."""
    place = tmp_path_factory.mktemp("sweep")
    config = shrink(write_arrays(place / "own.npz"))
    runs = []
    for setting, values in VALUES.items():
        for seed, value in enumerate(values):
            run = train(place / setting / f"seed-{seed}", config)
            corner = [("corner", {"layer": 0, "head": head}, value - 0.1 * head) for head in (0, 1)]
            chance = [("corner_chance", {"layer": 0, "head": 0}, 0.05)]
            plant(run, {"attention": corner + chance, "performance": PERFORMANCE})
            runs.append(run)
    return runs


def test_the_band_goes_from_the_least_seed_to_the_most(runs):
    """Of the strongest head; chance beside it, once."""
    figure = draw_sweep_measure(open_settings(runs), "attention", "corner")
    curves = figure.panels()[0].curves
    assert [curve.label for curve in curves] == [
        "one, 3 seeds",
        "chance under the mask",
        "two, 3 seeds",
    ]
    for curve, values in zip(curves[::2], VALUES.values(), strict=True):
        assert curve.x.tolist() == list(CHECKPOINTS)
        np.testing.assert_allclose(curve.y, np.median(values))
        np.testing.assert_allclose(curve.band[0], min(values))
        np.testing.assert_allclose(curve.band[1], max(values))
    np.testing.assert_allclose(curves[1].y, 0.05)


def test_the_table_has_the_last_values(runs):
    table = tabulate_measure(open_settings(runs), "attention", "corner")
    assert table["setting"].tolist() == ["one", "two"] and table["seeds"].tolist() == [3, 3]
    np.testing.assert_allclose(table["median"], [0.3, 0.6])
    np.testing.assert_allclose(table["least"], [0.1, 0.6])
    np.testing.assert_allclose(table["most"], [0.5, 0.9])


def test_it_is_drawn_into_the_sweeps_folder(runs, tmp_path):
    picture, table = draw_measure(runs, tmp_path, "attention.corner")
    assert picture == tmp_path / "sweep_attention_corner.png" and picture.is_file()
    assert len(table) == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("corner", "a measure is ANALYSIS.QUANTITY, got 'corner'"),
        ("attentoin.corner", "did you mean 'attention'"),
        ("attention.corners", "did you mean 'corner'"),
    ],
)
def test_what_is_no_measure_is_refused(text, problem):
    with pytest.raises(BadInput, match=problem):
        parse_measure(text)


def test_it_is_refused_before_anything_is_trained(tmp_path, capsys):
    words = ["sweep", "induction-smoke", "--runs", str(tmp_path / "runs"), "--plot", "loss"]
    assert main(words) == 2
    assert "a measure is ANALYSIS.QUANTITY" in capsys.readouterr().err
    assert not Path(tmp_path / "runs").exists()


def test_what_no_run_has_is_said(runs):
    with pytest.raises(BadInput, match="toyvit measure RUN --analyses probes"):
        draw_sweep_measure(open_settings(runs), "probes", "accuracy")
