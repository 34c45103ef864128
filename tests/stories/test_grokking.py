"""A small sweep of modular additions: its figure."""

from __future__ import annotations

from dataclasses import replace

import pytest
from PIL import Image

from toyvit.__main__ import main
from toyvit.analyses import llc
from toyvit.analyses.llc import LlcConfig, estimate_llc
from toyvit.measuring import measure
from toyvit.report import FIGURES, draw, grokking
from toyvit.runs.handle import Run, load_table

SIZES = ["--task.modulus", "7", "--model.d_model", "16", "--model.n_heads", "2"]
SIZES += ["--model.d_mlp", "16", "--train.batch_size", "16", "--train.n_validation", "4"]
STEPS = ["--train.steps", "40", "--train.checkpoints", "0,5,10,15,20,25,30,35,40"]
MEASURES = ["--analyses", "fourier", "--images", "4"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    words = ["sweep", "addition", "--runs", str(folder), "--name", "addition"]
    words += ["--seeds", "0", "--jobs", "1", *SIZES, *STEPS, *MEASURES]
    assert main(words) == 0
    return folder / "addition"


@pytest.mark.slow
def test_the_figure_of_grokking_has_the_coefficient_where_it_was_measured(runs, monkeypatch):
    """Four panels, and a fifth with the LLC; diverged checkpoints are crosses, not numbers."""
    monkeypatch.setattr("toyvit.report.FIGURES", {"grokking": FIGURES["grokking"]})
    short = replace(llc.DEFAULT, draws=20, burn_in=10)
    monkeypatch.setattr("toyvit.analyses.llc.DEFAULT", short)
    path = runs / "seed-0"
    assert len(grokking.draw_grokking(Run(path)).panels()) == 4
    assert "grokking" in {figure.file.stem for figure in draw(path)}
    steps = Run(path).steps[::4]
    which = {"analyses": ["llc"], "split": "train", "images": 99, "progress": False}
    measure(path, steps=steps[:2], **which)
    monkeypatch.setattr("toyvit.analyses.llc.DEFAULT", replace(short, step_size=1e6))
    measure(path, steps=steps[2:], **which)
    rows = load_table(path).query("analysis == 'llc' and quantity == 'diverged'")
    assert list(rows["step"]) == steps
    assert list(rows["value"]) == [0, 0, 1]

    panels = grokking.draw_grokking(Run(path)).panels()
    assert len(panels) == 5
    crosses = next(curve for curve in panels[4].curves if curve.marker == "cross")
    assert list(crosses.x) == steps[2:]
    picture = next(figure.file for figure in draw(path) if figure.file.stem == "grokking")
    with Image.open(picture) as pixels:
        assert min(pixels.size) > 200


@pytest.mark.slow
def test_traces_of_the_sampler_are_drawn(runs):
    run = Run(runs / "seed-0")
    settings = LlcConfig(step_size=1e-6, localisation=1e4, draws=6, burn_in=4, chains=3)
    estimate = estimate_llc(run.model(40), run.batch("train", 99), settings)
    (panel,) = grokking.draw_traces(estimate).panels()
    chains = [list(curve.y) for curve in panel.curves]
    assert chains == [pytest.approx(trace.tolist()) for trace in estimate.traces]
