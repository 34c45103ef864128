"""Curves in which no abrupt change is to be found, on which the detector is tried.

Each is a pure function of the steps and a generator: smooth curves and noise, also such that grows
or falls, excursions and spikes that return, kinks of a schedule that nobody told, scaling laws made
of many drops, S curves that are slow by the detector's own definition, rises that the run cuts off.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.random import Generator
from scipy.special import expit

from toyvit.dynamics.drawn_curves import (
    LAST,
    Array,
    add_noise,
    draw_between,
    draw_correlated,
    draw_smooth,
    rise,
)

Null = Callable[[Array, Generator], Array]

CUT_WIDTHS = (1 / 16, 1 / 8, 1 / 4)
SLOW = (1.0, 1.2, 1.5, 2.0)


# ---- nulls: smooth ----


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


def power(t: Array, rng: Generator) -> Array:
    """t^a, a 0.5 to 2: it has not begun to level off."""
    return add_noise(t ** rng.uniform(0.5, 2), rng)


def soft_kink(t: Array, rng: Generator) -> Array:
    """Level, then falling ever faster in log step: a softplus."""
    start = draw_between(rng, 100, 1000)
    return add_noise(np.log1p(np.exp(-4 * np.log(np.maximum(t, 1) / start))), rng)


def bowl(t: Array, rng: Generator) -> Array:
    """A parabola in log step: down, and up again."""
    return add_noise(np.log(np.maximum(t, 1) / draw_between(rng, 50, 800)) ** 2, rng)


def counted(t: Array, rng: Generator) -> Array:
    """An accuracy on 512 images that rises from the start and saturates: binomial noise.

    As that of the recipe `counting` does.
    """
    low = rng.uniform(0.02, 0.2)
    high = rng.uniform(0.5, 1)
    rise = -np.expm1(-((t / draw_between(rng, 50, 1000)) ** rng.uniform(0.6, 1.5)))
    return rng.binomial(512, low + (high - low) * rise) / 512


def rounded(t: Array, rng: Generator) -> Array:
    """A smooth curve rounded to 5 to 50 values."""
    n = int(rng.integers(5, 51))
    return np.round(draw_smooth(t, rng) * n + 0.3 * rng.standard_normal(len(t))) / n


def late_kink(t: Array, rng: Generator) -> Array:
    """A smooth curve whose time runs 3 to 30 times faster or slower from 0.3 to 0.85 of the run."""
    at = rng.uniform(0.3, 0.85) * LAST
    speed = draw_between(rng, 3, 30) ** rng.choice((-1, 1))
    time = np.where(t < at, t, at + (t - at) * speed)
    return add_noise(draw_smooth(time / time[-1] * LAST, rng), rng)


def many_drops(t: Array, rng: Generator) -> Array:
    """The mean of 30 to 300 drops at Zipf times, each abrupt: a scaling law."""
    n = int(rng.integers(30, 301))
    ranks = np.arange(1, n + 1) ** rng.uniform(0.7, 1.5)
    times = LAST * draw_between(rng, 0.3, 3) * ranks / ranks[-1]
    times *= np.exp(0.1 * rng.standard_normal(n))
    width = rng.uniform(1 / 16, 1 / 4)
    drops = np.mean([rise(t, time, width) for time in times], axis=0)
    return add_noise(drops, rng, most=0.05)


def slow_rise(t: Array, rng: Generator, width: float) -> Array:
    """One S of a relative width of 1 or more: in step, in log step, an early or a late riser."""
    onset = draw_between(rng, 0.05 * LAST, 0.5 * LAST)
    low = -np.log(0.9)
    high = -np.log(0.1)
    k = np.log(high / low) / np.log1p(width)
    z = np.log(np.maximum(t, 1e-3) / onset) / np.log1p(width)
    shapes = (
        rise(t, onset, width),
        expit(np.log(81) * (z - 0.5)),
        -np.expm1(-low * np.maximum(t / onset, 0) ** k),
        np.exp(-low * (onset * (1 + width) / np.maximum(t, 1e-9)) ** k),
    )
    return add_noise(shapes[rng.integers(4)], rng)


def cut_off(t: Array, rng: Generator) -> Array:
    """An abrupt rise that has come to 98 % when the run ends."""
    width = rng.choice(CUT_WIDTHS)
    way = 0.5 + np.log(0.98 / 0.02) / np.log(81)
    return add_noise(rise(t, t[-1] / (1 + width * way), width), rng, most=0.05)


# ---- nulls: noise ----


def stairs(t: Array, rng: Generator) -> Array:
    """Noise alone, lag-1 correlation 0 to 0.9, each value held for 1 to 5 checkpoints."""
    hold = int(rng.integers(1, 6))
    return np.repeat(draw_correlated(len(t) // hold + 1, rng.uniform(0, 0.9), rng), hold)[: len(t)]


def noise(t: Array, rng: Generator) -> Array:
    """Noise alone, lag-1 correlation 0 to 0.95."""
    return draw_correlated(len(t), rng.uniform(0, 0.95), rng)


def random_walk(t: Array, rng: Generator) -> Array:
    """A sum of normal numbers."""
    return np.asarray(np.cumsum(rng.standard_normal(len(t))))


def growing_noise(t: Array, rng: Generator) -> Array:
    """Noise of sd 0.003 to 0.05 at first and ten times that at last, on a smooth curve or none."""
    return _scale_noise(t, rng, draw_between(rng, 0.003, 0.05), 10)


def falling_noise(t: Array, rng: Generator) -> Array:
    """Noise of sd 0.03 to 0.3 at first and a tenth of that at last, on a smooth curve or none."""
    return _scale_noise(t, rng, draw_between(rng, 0.03, 0.3), 0.1)


def heavy_tails(t: Array, rng: Generator) -> Array:
    """Noise of Student's t with two degrees of freedom, on a smooth curve or none."""
    drawn = draw_between(rng, 0.003, 0.1) * rng.standard_t(2, len(t))
    return draw_smooth(t, rng) * rng.integers(0, 2) + drawn


def waves(t: Array, rng: Generator) -> Array:
    """A smooth curve and a sine of period 100 to 2,000 steps."""
    phase = 2 * np.pi * t / draw_between(rng, 100, 2000) + rng.uniform(0, 6)
    return add_noise(draw_smooth(t, rng) + rng.uniform(0.1, 0.5) * np.sin(phase), rng)


# ---- nulls: what returns ----


def excursion(t: Array, rng: Generator) -> Array:
    """An abrupt change that returns before 0.9 of the run, abruptly or slowly: a slingshot."""
    onset = draw_between(rng, 0.1 * LAST, 0.6 * LAST)
    width = rng.uniform(1 / 16, 1 / 4)
    end = onset * (1 + width)
    stay = rng.uniform(0.1, 1) * (0.9 * LAST - end)
    back = np.exp(-np.maximum(t - end, 0) / (stay / 3))
    if rng.random() < 0.5:
        back = 1 - expit(np.log(81) * ((t - end - stay) / (width * onset) + 0.5))
    away = rng.choice((-1, 1)) * rise(t, onset, width) * back
    return add_noise(away + rng.uniform(0, 0.25) * draw_smooth(t, rng), rng, most=0.05)


def spikes(t: Array, rng: Generator) -> Array:
    """One to five spikes of 0.2 to 2 times the range, which recover within a few checkpoints."""
    curve = draw_smooth(t, rng)
    places = np.arange(len(t))
    for _ in range(rng.integers(1, 6)):
        since = places - rng.integers(5, len(t) - 12)
        fall = np.exp(-np.maximum(since, 0) / rng.uniform(0.3, 4))
        curve = curve + rng.uniform(0.2, 2) * fall * (since >= 0)
    return add_noise(curve, rng, most=0.03)


def catapults(t: Array, rng: Generator) -> Array:
    """A smooth curve with a spike every 8 to 24 checkpoints, as at the edge of stability."""
    period = int(rng.integers(8, 25))
    places = np.arange(len(t))
    bumps = np.exp(-(places % period) / 2) * (places > period)
    return add_noise(draw_smooth(t, rng) + rng.uniform(0.1, 0.4) * bumps, rng)


def _scale_noise(t: Array, rng: Generator, sd: float, factor: float) -> Array:
    drawn = sd * factor ** (t / t[-1]) * draw_correlated(len(t), rng.uniform(0, 0.9), rng)
    return draw_smooth(t, rng) * rng.integers(0, 2) + drawn


NULLS: dict[str, Null] = {
    null.__name__: null
    for null in (
        *(power_law, exponential, slow_s, two_speeds, kinked, power, soft_kink, bowl),
        *(counted, rounded, late_kink, many_drops, cut_off),
        *(stairs, noise, random_walk, growing_noise, falling_noise, heavy_tails, waves),
        *(excursion, spikes, catapults),
    )
}
NULLS.update({f"slow_rise {width}": partial(slow_rise, width=width) for width in SLOW})
