"""How often the detector is wrong: `python -m toyvit.dynamics.calibration [curves a family]`.

Prints the rates of every family of curves (`nulls`, `planted`), and how true the stated chances
are. What the detector's constants are chosen by is drawn from the stream CHOOSE of seeds; what is
printed from REPORT.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.random import default_rng
from scipy.stats import binomtest, norm
from tqdm import tqdm

from toyvit.dynamics.assessment import LEAST_SCORE
from toyvit.dynamics.drawn_curves import CLOCKS, Array
from toyvit.dynamics.nulls import NULLS
from toyvit.dynamics.planted import PLANTS
from toyvit.dynamics.transitions import Verdict, judge_curve

CHOOSE = 0
REPORT = 1
# Thresholds of which the least is taken that keeps every family under RATE.
THRESHOLDS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 7.0)
RATE = 0.05
FEW = 1000  # curves: so many are judged before workers have started
BINS = (0.0, 0.05, 0.2, 0.6, 0.95, 1.0)  # 500 curves in each, of 1,000 a family


def draw_family(family: str, stream: int, seed: int) -> tuple[Array, Array, tuple[float, ...]]:
    """Steps, values and planted onsets of a curve of a family."""
    clock = CLOCKS[seed % len(CLOCKS)]
    place = [*NULLS, *PLANTS].index(family)
    rng = default_rng([stream, seed, place])
    if family in NULLS:
        return clock, NULLS[family](clock, rng), ()
    planted = PLANTS[family](clock, rng)
    return clock, planted.values, planted.onsets


def judge_families(n: int, stream: int, families: Iterable[str] = ()) -> pd.DataFrame:
    """The verdicts on n curves of each family (default: all), a row a curve.

    planted    how many changes were planted
    score      of the strongest change that stays and is abrupt, however weak; 0 where there is none
    chance     that the detector states
    found      how many changes it finds
    error      |onset - truth| / truth of the change that is named first, NaN where none is found
    is_near    whether that is at most a checkpoint or a tenth of the planted length
    """
    names = list(families) or [*NULLS, *PLANTS]
    work = [(family, stream, seed) for family in names for seed in range(n)]
    parallel = Parallel(n_jobs=-1 if len(work) > FEW else 1, return_as="generator")
    rows = parallel(delayed(_judge_drawn)(*arguments) for arguments in work)
    return pd.DataFrame(tqdm(rows, "curves", len(work), disable=None))


def _judge_drawn(family: str, stream: int, seed: int) -> dict[str, object]:
    steps, values, onsets = draw_family(family, stream, seed)
    verdict = judge_curve(steps, values)
    error, is_near = _measure_error(steps, verdict, onsets)
    return {
        "family": family,
        "planted": len(onsets),
        "score": verdict.score,
        "chance": verdict.chance,
        "found": len(verdict.changes),
        "error": error,
        "is_near": is_near,
    }


def _measure_error(
    steps: Array, verdict: Verdict, onsets: tuple[float, ...]
) -> tuple[float, bool | None]:
    """Relative error of an onset; whether it is within a checkpoint or a tenth of the length."""
    change = verdict.largest
    if change is None or not onsets:
        return float("nan"), None
    truth = min(onsets, key=lambda onset: abs(onset - change.onset))
    after = min(int(np.searchsorted(steps, truth)), len(steps) - 1)
    error = abs(change.onset - truth)
    spacing = steps[after] - steps[after - 1]
    return error / truth, bool(error <= max(spacing, (change.end - change.onset) / 10))


def measure_rates(frame: pd.DataFrame) -> pd.DataFrame:
    """Rates of every family, a row each.

    found      share of curves in which a change is found, low and high its 95 % interval (Clopper
               and Pearson); of a null the rate of false positives
    left_out   the same at the threshold chosen without the family
    counted    share in which as many are found as were planted
    within_20  of those found, the share whose onset is within 20 % of the truth
    near       of those found, within a checkpoint or a tenth of the length
    """
    rows = []
    for family, curves in frame.groupby("family", sort=False):
        hits = int((curves["found"] > 0).sum())
        low, high = binomtest(hits, len(curves)).proportion_ci()
        threshold = choose_threshold(frame[frame["family"] != family])
        row = {"family": family, "found": hits / len(curves), "low": low, "high": high}
        row["left_out"] = float((curves["score"] >= threshold).mean())
        if curves["planted"].iloc[0]:
            row["counted"] = float((curves["found"] == curves["planted"]).mean())
            row["within_20"] = float((curves["error"].dropna() < 0.2).mean())
            row["near"] = float(curves["is_near"].dropna().astype(bool).mean())
        rows.append(row)
    return pd.DataFrame(rows)


def choose_threshold(frame: pd.DataFrame) -> float:
    """The least of THRESHOLDS at which every null is called in at most RATE of its curves."""
    nulls = frame[frame["planted"] == 0]
    for threshold in THRESHOLDS:
        called = (nulls["score"] >= threshold).groupby(nulls["family"]).mean()
        if (called <= RATE).all():
            return threshold
    return THRESHOLDS[-1]


def fit_chances(frame: pd.DataFrame) -> tuple[Array, Array]:
    """Scores and the chance of a planted change at each: an isotonic regression.

    Nulls and planted curves weigh the same, and within each all families.
    """
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0, y_max=1).fit(
        frame["score"], frame["planted"] > 0, sample_weight=_weigh(frame)
    )
    return model.X_thresholds_, model.y_thresholds_


def measure_reliability(frame: pd.DataFrame) -> pd.DataFrame:
    """Stated chance against the share of curves that hold a change, a row a bin of chances.

    bin         of stated chances
    curves      how many there are
    stated      their mean stated chance
    true        the share of them in which a change was planted
    low, high   its 95 % interval (Wilson), for as many curves of equal weight as tell as much

    Means are over the mixture: nulls and planted curves weigh the same, within each all families.
    """
    bins = pd.cut(frame["chance"], BINS, include_lowest=True)
    weights = _weigh(frame)
    rows = []
    for interval, curves in frame.groupby(bins, observed=True):
        weight = weights[curves.index]
        truth = float(np.average(curves["planted"] > 0, weights=weight))
        row = {"bin": str(interval), "curves": len(curves), "true": truth}
        row["stated"] = float(np.average(curves["chance"], weights=weight))
        row["low"], row["high"] = _bound_share(truth, weight.sum() ** 2 / (weight**2).sum())
        rows.append(row)
    return pd.DataFrame(rows, columns=["bin", "curves", "stated", "true", "low", "high"])


def _bound_share(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of n curves."""
    z = norm.isf(0.025)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return float(centre - reach), float(centre + reach)


def _weigh(frame: pd.DataFrame) -> pd.Series:
    """A weight a curve: half of the whole to each of nulls and planted, alike to all families."""
    is_planted = frame["planted"] > 0
    sizes = frame.groupby("family")["family"].transform("size")
    families = frame["family"].groupby(is_planted).transform("nunique")
    return 1 / (2 * sizes * families)


if __name__ == "__main__":
    verdicts = judge_families(int(sys.argv[1]) if sys.argv[1:] else 200, REPORT)
    for table in (measure_rates(verdicts), measure_reliability(verdicts)):
        print(table.round(3).to_string(index=False, na_rep=""), end="\n\n")
    print(f"changes are called at a score of {LEAST_SCORE} or more")
