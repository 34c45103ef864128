"""The reliability diagram: its table is what the calibration gives, and the picture shows it."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from scipy.stats import binomtest

from bench.reliability import PICTURE, TABLE, main
from toyvit.dynamics.calibration import measure_reliability
from toyvit.report.reliability import BAR, draw_reliability

LEAST = 500  # curves a bin


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return pd.read_csv(TABLE)


def draw_verdicts(n: int) -> pd.DataFrame:
    """n curves of a null and of a planted family, of which the stated chances are right."""
    rng = np.random.default_rng(0)
    chances = rng.uniform(size=n)
    planted = rng.uniform(size=n) < chances
    families = np.where(planted, "planted", "null")
    return pd.DataFrame({"family": families, "planted": planted.astype(int), "chance": chances})


def test_the_table_is_what_the_calibration_gives(table):
    fresh = measure_reliability(draw_verdicts(2000))
    assert list(table) == list(fresh)
    assert table["bin"].tolist() == fresh["bin"].tolist()
    assert (table.dtypes == fresh.dtypes).all()


def test_bounds_are_those_of_a_share():
    """Of one family each and as many curves, all weigh about the same: Wilson's interval."""
    row = measure_reliability(draw_verdicts(4000)).iloc[2]
    share = binomtest(round(row["true"] * row["curves"]), int(row["curves"]))
    exact = share.proportion_ci(method="wilson")
    assert (row["low"], row["high"]) == pytest.approx((exact.low, exact.high), abs=0.003)


def test_stated_chances_are_true_in_every_bin(table):
    assert (table["curves"] >= LEAST).all()
    assert ((table["stated"] - table["true"]).abs() <= BAR).all()
    assert ((table["low"] < table["true"]) & (table["true"] < table["high"])).all()


def test_the_picture_shows_the_table(table):
    shares, errors = draw_reliability(table).panels()
    dots = next(curve for curve in shares.curves if curve.marker == "dot")
    off = next(curve for curve in errors.curves if curve.marker == "dot")
    assert dots.x.tolist() == off.x.tolist() == table["stated"].tolist()
    assert dots.y.tolist() == table["true"].tolist()
    assert off.y == pytest.approx((table["true"] - table["stated"]).to_numpy())
    bars = [curve.y.tolist() for curve in shares.curves if len(curve.y) == 2][1:]
    assert bars == table[["low", "high"]].to_numpy().tolist()
    assert [words.text for words in shares.words] == [f"{n:,} curves" for n in table["curves"]]


def test_the_committed_picture_is_of_the_table(tmp_path, monkeypatch):
    """To what fonts differ by from one machine to the next."""
    monkeypatch.setattr("bench.reliability.PICTURE", tmp_path / "again.png")
    main([])
    again, committed = (imread(file).astype(float) for file in (tmp_path / "again.png", PICTURE))
    assert again.shape == committed.shape
    assert np.abs(again - committed).mean() < 0.01
