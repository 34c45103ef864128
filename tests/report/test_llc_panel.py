"""The panel of the learning coefficient: what is not converged is hollow, and says why."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tests.report.drawn import check_drawn
from toyvit.analyses.llc import LLC
from toyvit.report.curves import stack_panels
from toyvit.report.grokking import MOST_WORDS, _count_local, _llc_panel, _widen_llc
from toyvit.report.matplotlib_renderer import render
from toyvit.report.panels import Caption, FigureData

WELL = {
    **dict.fromkeys(LLC.quantities, 0.0),
    **{"llc": 50.0, "llc_sd": 2.0, "r_hat": 1.05, "trend": 0.02, "excess": 0.001},
    **{"settled": 1.0, "near": 1.0, "minimum": 1.0, "local": 1.0},
}
NAN = float("nan")
# A checkpoint each, and what is written at its point.
CASES = {
    "converged": ({}, None),
    "R-hat": ({"r_hat": 1.88, "settled": 0.0, "local": 0.0}, "R-hat 1.88"),
    "trend": ({"trend": -0.3, "settled": 0.0}, "trend -30%"),
    "distance": ({"excess": 0.2, "near": 0.0, "local": 0.0}, "excess 20%"),
    "all": (
        {"r_hat": 2.0, "trend": 0.5, "excess": 0.5, "settled": 0.0, "near": 0.0, "local": 0.0},
        "R-hat 2.00, trend +50%, excess 50%",
    ),
    "diverged": (
        {"llc": NAN, "llc_sd": NAN, "diverged": 1.0, "settled": 0.0, "near": 0.0, "local": 0.0},
        None,
    ),
}


def build_rows(changes) -> pd.DataFrame:
    """Rows of a table of measures, a checkpoint each."""
    rows = [
        {"step": 100 * place, "split": "train", "quantity": name, "value": value}
        for place, change in enumerate(changes)
        for name, value in (WELL | change).items()
        if not np.isnan(value)
    ]
    return pd.DataFrame(rows)


def test_points_that_are_not_converged_are_hollow_and_say_why():
    changes, texts = zip(*CASES.values(), strict=True)
    wide = _widen_llc(build_rows(changes))
    panel = _llc_panel(wide)
    _, converged, others, holes, crosses = panel.curves
    assert list(converged.x) == [0] and converged.colour != "white"
    assert list(others.x) == list(holes.x) == [100, 200, 300, 400]
    assert np.array_equal(others.y, holes.y) and (holes.colour, holes.marker) == ("white", "dot")
    assert others.label == "not converged (hollow)" and not holes.label
    assert list(crosses.x) == [500] and crosses.marker == "cross"
    written = {words.x: words.text.strip() for words in panel.words}
    assert written == {100.0 * n: text for n, text in enumerate(texts) if text}
    assert "2 of 6 points are local" in _count_local(wide)


def test_it_is_drawn_as_it_says():
    wide = _widen_llc(build_rows([change for change, _ in CASES.values()]))
    data = FigureData(
        name="llc",
        title="",
        caption=Caption(see="", otherwise=""),
        blocks=stack_panels([_llc_panel(wide)], 2.0),
    )
    check_drawn(data, render(data))


@pytest.mark.parametrize("n", [MOST_WORDS, MOST_WORDS + 1])
def test_many_points_are_hollow_without_words(n):
    panel = _llc_panel(_widen_llc(build_rows([CASES["R-hat"][0]] * n)))
    assert len(panel.words) == (n if n <= MOST_WORDS else 0)
    assert len(panel.curves[2].x) == n and not panel.curves[1].label


def test_what_an_earlier_version_did_not_judge_is_not_called_converged():
    rows = build_rows([{}])
    wide = _widen_llc(rows[rows["quantity"].isin(["llc", "llc_sd", "diverged"])])
    panel = _llc_panel(wide)
    assert list(panel.curves[1].x) == [] and list(panel.curves[2].x) == [0]
