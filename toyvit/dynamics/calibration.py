"""How often the detector of transitions is wrong: `python -m toyvit.dynamics.calibration [curves]`.

Prints a table of so many curves a row. Curves are of known kind, each a pure function of the steps
and a generator: smooth ones and noise, in which there is nothing to be found, and planted S curves.
The detector's threshold was chosen on the stream CHOOSE of seeds; the table is made from REPORT.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import expit
from scipy.stats import binomtest
from tqdm import tqdm

from toyvit.dynamics.transitions import detect, score_curve

Array = NDArray[np.float64]
Null = Callable[[Array, Generator], Array]

LAST = 2000
# Schedules of checkpoints; the last is like the lab's own.
CLOCKS = (
    np.arange(0.0, LAST + 1, 20),
    np.arange(0.0, LAST + 1, 50),
    np.unique(np.geomspace(1, LAST, 100).round()),
    np.union1d(np.arange(0, LAST + 1, 20), np.geomspace(1, LAST, 80).round()),
)
CHOOSE = 0
REPORT = 1
WIDTHS = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
NOISES = (0.01, 0.03, 0.1, 0.2)


def power_law(t: Array, rng: Generator) -> Array:
    """(1 + t/tau)^-alpha: tau 1 to 300 steps, alpha 0.2 to 1.5."""
    return add_noise((1 + t / draw_between(rng, 1, 300)) ** -rng.uniform(0.2, 1.5), rng)


def exponential(t: Array, rng: Generator) -> Array:
    """exp(-(t/tau)^k): tau 10 to 2,000 steps, k 0.5 (stretched) to 2 (a rate that warms up)."""
    return add_noise(np.exp(-((t / draw_between(rng, 10, LAST)) ** rng.uniform(0.5, 2))), rng)


def slow_s(t: Array, rng: Generator) -> Array:
    """Logistic in log step: 10 % to 90 % takes 2 to 100 times the steps that came before."""
    k = np.log(81) / np.log1p(draw_between(rng, 2, 100))
    return add_noise(1 / (1 + (draw_between(rng, 30, LAST) / np.maximum(t, 1e-3)) ** k), rng)


def two_speeds(t: Array, rng: Generator) -> Array:
    """A fast and a slow exponential approach, both from the very start.

    Tau 10 to 200 and 200 to 4,000 steps.
    """
    share = rng.uniform(0.2, 0.8)
    fast = draw_between(rng, 10, 200)
    slow = draw_between(rng, 200, 2 * LAST)
    return add_noise(share * np.exp(-t / fast) + (1 - share) * np.exp(-t / slow), rng)


def kinked(t: Array, rng: Generator) -> Array:
    """Level to step 10 to 500, then a straight line in log step, as losses often are."""
    return add_noise(np.log(np.maximum(t / draw_between(rng, 10, 500), 1)), rng)


def counted(t: Array, rng: Generator) -> Array:
    """An accuracy on 512 images that rises from the start and saturates: binomial noise.

    As that of the recipe `counting` does.
    """
    low = rng.uniform(0.02, 0.2)
    high = rng.uniform(0.5, 1)
    rise = -np.expm1(-((t / draw_between(rng, 50, 1000)) ** rng.uniform(0.6, 1.5)))
    return rng.binomial(512, low + (high - low) * rise) / 512


def stairs(t: Array, rng: Generator) -> Array:
    """Noise alone, lag-1 correlation 0 to 0.9, each value held for 1 to 5 checkpoints."""
    hold = int(rng.integers(1, 6))
    return np.repeat(draw_correlated(len(t) // hold + 1, rng.uniform(0, 0.9), rng), hold)[: len(t)]


NULLS: tuple[Null, ...] = (
    power_law,
    exponential,
    slow_s,
    two_speeds,
    kinked,
    counted,
    stairs,
)


def plant_transition(t: Array, rng: Generator, width: float, noise: float) -> tuple[Array, float]:
    """A logistic rise or fall of height 1 with noise, and the step of its 10 % point.

    On a drift of up to 0.25 from the start.
    """
    onset = draw_between(rng, 0.15 * t[-1], 0.75 * t[-1] / (1 + width))
    drift = rng.uniform(0, 0.25) * -np.expm1(-t / draw_between(rng, 10, 1000))
    rise = expit(np.log(81) * ((t - onset) / (width * onset) - 0.5))
    sign = rng.choice((-1, 1))
    correlation = rng.uniform(0, 0.8)
    return sign * (rise + drift + noise * draw_correlated(len(t), correlation, rng)), onset


def add_noise(curve: Array, rng: Generator) -> Array:
    """The curve scaled to a range of 1, rising or falling, with noise.

    Of sd 0.001 to 0.1 and lag-1 correlation 0 to 0.9.
    """
    noise = draw_between(rng, 1e-3, 0.1) * draw_correlated(len(curve), rng.uniform(0, 0.9), rng)
    return np.asarray(rng.choice((-1, 1)) * (curve / max(np.ptp(curve), 1e-9) + noise))


def draw_correlated(n: int, rho: float, rng: Generator) -> Array:
    """Stationary Gaussian noise of sd 1 and lag-1 correlation `rho`."""
    shocks = rng.standard_normal(n) * np.sqrt(1 - rho**2)
    shocks[0] /= np.sqrt(1 - rho**2)
    return np.asarray(lfilter([1], [1, -rho], shocks))


def draw_between(rng: Generator, low: float, high: float) -> float:
    """Log-uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def simulate_nulls(n: int, stream: int = CHOOSE) -> pd.DataFrame:
    """The detector's statistic on n curves of each null family, a column a family."""
    columns = {}
    for draw in tqdm(NULLS, disable=None):
        columns[draw.__name__] = [score_curve(*_draw_null(draw, stream, seed)) for seed in range(n)]
    return pd.DataFrame(columns)


def calibrate(n: int, stream: int = REPORT) -> pd.DataFrame:
    """Share of n curves a row in which a transition is found, with its 95 % interval.

    The interval is Clopper and Pearson's. For nulls the share is the false-positive rate (5 % at
    most is wanted). For planted curves it is the power, by relative width and by the noise's sd as
    a share of the height; `onset_error` is the median of |onset - truth| / truth over those found.
    """
    rows = []
    for draw in tqdm(NULLS, "nulls", disable=None):
        errors = [_detect_null(draw, stream, seed) for seed in range(n)]
        rows.append(_summarize_errors(draw.__name__, None, None, errors))
    for width, noise in tqdm(list(product(WIDTHS, NOISES)), "planted", disable=None):
        errors = [_measure_error(width, noise, stream, seed) for seed in range(n)]
        rows.append(_summarize_errors("planted", width, noise, errors))
    return pd.DataFrame(rows)


def _draw_null(draw: Null, stream: int, seed: int) -> tuple[Array, Array]:
    """Steps and values of a null curve."""
    clock = CLOCKS[seed % len(CLOCKS)]
    return clock, draw(clock, default_rng([stream, seed, NULLS.index(draw)]))


def _detect_null(draw: Null, stream: int, seed: int) -> float:
    """0 where a transition is found in a null curve, else NaN."""
    return 0.0 if detect(*_draw_null(draw, stream, seed)) else np.nan


def _measure_error(width: float, noise: float, stream: int, seed: int) -> float:
    """Relative error of the onset of a planted transition; NaN where none is found."""
    clock = CLOCKS[seed % len(CLOCKS)]
    rng = default_rng([stream, seed, len(NULLS), round(1000 * width), round(1000 * noise)])
    values, onset = plant_transition(clock, rng, width, noise)
    transition = detect(clock, values)
    return abs(transition.onset - onset) / onset if transition else np.nan


def _summarize_errors(
    curve: str, width: float | None, noise: float | None, errors: list[float]
) -> dict[str, object]:
    """A row of the table; an error that is not finite is a transition that was not found."""
    n_found = int(np.isfinite(errors).sum())
    low, high = binomtest(n_found, len(errors)).proportion_ci()

    return {
        "curve": curve,
        "width": width,
        "noise": noise,
        "curves": len(errors),
        "found": n_found / len(errors),
        "low": low,
        "high": high,
        "onset_error": np.nanmedian(errors) if width and n_found else np.nan,
    }


if __name__ == "__main__":
    frame = calibrate(int(sys.argv[1]) if sys.argv[1:] else 150)
    print(frame.round(3).to_string(index=False, na_rep=""))
