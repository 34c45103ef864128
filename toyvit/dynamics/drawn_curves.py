"""What curves of known kind are made of: rises, smooth curves, noise, schedules of checkpoints."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.special import expit

Array = NDArray[np.float64]

LAST = 2000
# Schedules of checkpoints; the last is like the lab's own.
CLOCKS = (
    np.arange(0.0, LAST + 1, 20),
    np.arange(0.0, LAST + 1, 50),
    np.unique(np.geomspace(1, LAST, 100).round()),
    np.union1d(np.arange(0, LAST + 1, 20), np.geomspace(1, LAST, 80).round()),
)


def rise(t: Array, onset: float, width: float) -> Array:
    """A logistic in step, 0 to 1: 10 % at the onset, 90 % a `width` of it later."""
    return np.asarray(expit(np.log(81) * ((t - onset) / (width * onset) - 0.5)))


def draw_smooth(t: Array, rng: Generator) -> Array:
    """A smooth curve with a range of 1, without noise."""
    start = draw_between(rng, 30, LAST)
    k = np.log(81) / np.log1p(draw_between(rng, 2, 100))
    curves = (
        (1 + t / draw_between(rng, 1, 300)) ** -rng.uniform(0.2, 1.5),
        np.exp(-((t / draw_between(rng, 10, LAST)) ** rng.uniform(0.5, 2))),
        1 / (1 + (start / np.maximum(t, 1e-3)) ** k),
    )
    curve = curves[rng.integers(3)]
    return np.asarray(curve / max(np.ptp(curve), 1e-9))


def add_noise(curve: Array, rng: Generator, most: float = 0.1) -> Array:
    """The curve scaled to a range of 1, rising or falling, with noise.

    Of sd 0.001 to `most` and lag-1 correlation 0 to 0.9.
    """
    drawn = draw_between(rng, 1e-3, most) * draw_correlated(len(curve), rng.uniform(0, 0.9), rng)
    return np.asarray(rng.choice((-1, 1)) * (curve / max(np.ptp(curve), 1e-9) + drawn))


def draw_correlated(n: int, rho: float, rng: Generator) -> Array:
    """Stationary Gaussian noise of sd 1 and lag-1 correlation `rho`."""
    shocks = rng.standard_normal(n) * np.sqrt(1 - rho**2)
    shocks[0] /= np.sqrt(1 - rho**2)
    return np.asarray(lfilter([1], [1, -rho], shocks))


def draw_between(rng: Generator, low: float, high: float) -> float:
    """Log-uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
