"""Does a change sharpen with size: planted laws, equal shapes, nulls, refusals."""

from types import SimpleNamespace

import numpy as np
import pytest

from toyvit.dynamics.drawn_curves import draw_correlated, rise
from toyvit.dynamics.finite_size import read_size
from toyvit.dynamics.sharpening import compare_sizes
from toyvit.dynamics.transitions import detect
from toyvit.errors import BadInput
from toyvit.recipes import RECIPES

SIZES = (8.0, 16.0, 32.0, 64.0)


def draw_changes(exponent, n=8, spread=0.1, seed=0):
    """Changes of seeds whose relative length is 0.2 (size / 8)^exponent, with a spread."""
    rng = np.random.default_rng(seed)
    changes = {}
    for size in SIZES:
        lengths = 0.2 * (size / 8) ** exponent * np.exp(spread * rng.standard_normal(n))
        changes[size] = [(100 * size, 100 * size * (1 + length)) for length in lengths.tolist()]
    return changes


@pytest.mark.parametrize(
    ("exponent", "verdict"), [(-0.5, "sharpens"), (0.4, "widens"), (0.0, "stays")]
)
def test_a_planted_law_comes_out(exponent, verdict):
    sharpening = compare_sizes(draw_changes(exponent))
    assert sharpening.verdict == verdict
    assert sharpening.low <= exponent <= sharpening.high
    assert sharpening.slope == pytest.approx(exponent, abs=0.06)
    assert str(sharpening).startswith(f"{verdict}: slope {sharpening.slope:+.2f} (")

    table = sharpening.table
    assert table["onset"].tolist() == [100 * size for size in SIZES]
    expected = 0.2 * (np.array(SIZES) / 8) ** exponent
    assert table["length"].to_numpy() == pytest.approx(expected, rel=0.15)
    assert ((table["low"] < table["length"]) & (table["length"] < table["high"])).all()


def test_much_spread_and_few_seeds_decide_nothing():
    sharpening = compare_sizes(draw_changes(0, n=3, spread=0.8))
    assert sharpening.verdict == "undecided"
    assert sharpening.low < 0 < sharpening.high
    assert sharpening.table["low"].isna().all(), "three seeds have no interval of a median"


@pytest.mark.parametrize("n", [3, 6])
def test_the_interval_holds_the_slope_as_often_as_stated(n):
    """Null: no law. More misses than this would be seen once in a thousand at 95 %."""
    sharpenings = [compare_sizes(draw_changes(0, n, 0.3, seed)) for seed in range(60)]
    misses = sum(not s.low <= 0 <= s.high for s in sharpenings)
    assert misses <= 9


def test_seeds_without_a_change_leave_it_undecided():
    changes = draw_changes(-0.5)
    changes[32.0][:2] = [None, None]
    sharpening = compare_sizes(changes)
    assert sharpening.verdict == "undecided"
    assert sharpening.high < 0
    assert sharpening.table.loc[32.0, ["seeds", "changed"]].tolist() == [8, 6]
    changes[32.0] = changes[32.0][1:]
    changes[32.0] += changes[32.0][-3:]
    assert compare_sizes(changes).verdict == "sharpens"


def test_planted_curves_through_the_detector():
    """S curves whose length goes as size^-0.5, and the same shape at later onsets."""
    steps = np.unique(np.geomspace(1, 4000, 150).round())
    rng = np.random.default_rng(0)
    results = []
    for exponent in (-0.5, 0.0):
        changes = {}
        for size in SIZES:
            width = 0.3 * (size / 8) ** exponent
            curves = [
                rise(steps, 25 * size * rng.uniform(0.9, 1.1), width)
                + 0.01 * draw_correlated(len(steps), 0, rng)
                for _ in range(4)
            ]
            abrupt = [detect(steps, curve) for curve in curves]
            changes[size] = [(change.onset, change.end) for change in abrupt if change]
        results.append(compare_sizes(changes))
    assert [result.verdict for result in results] == ["sharpens", "stays"]
    assert results[0].slope == pytest.approx(-0.5, abs=0.1)


def test_bad_sizes_are_refused():
    changes = draw_changes(0)
    with pytest.raises(BadInput, match="3 sizes or more, got 2"):
        compare_sizes({size: changes[size] for size in SIZES[:2]})
    with pytest.raises(BadInput, match="positive numbers, got 0"):
        compare_sizes(changes | {0.0: changes[8.0]})
    with pytest.raises(BadInput, match="size 16 has 2 of 3 seeds"):
        compare_sizes(changes | {16.0: [*changes[16.0][:2], None]})


def test_a_size_is_a_number_of_the_config():
    run = SimpleNamespace(config=RECIPES["induction"](), path="runs/x")
    assert read_size(run, "model.d_model") == 64
    assert read_size(run, "task.rows") == 5
    for by in ("model.mask", "model.no_such", "d_model"):
        with pytest.raises(BadInput, match=f"no number in {by}"):
            read_size(run, by)
