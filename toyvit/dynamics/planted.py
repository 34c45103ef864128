"""Curves with one, two or three planted abrupt changes, on which the detector is tried."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from toyvit.dynamics.drawn_curves import LAST, Array, draw_between, draw_correlated, rise

WIDTHS = (1 / 16, 1 / 8, 1 / 4)
NOISES = (0.01, 0.03, 0.1)
EARLIEST = 0.05  # of the run
PLATEAU = 4  # checkpoints before any onset: fewer show none
SPIKE = 6  # checkpoints: what lasts less is a spike, by the detector's definition


class Planted(NamedTuple):
    """A curve, the steps of its 10 % points, and their relative width."""

    values: Array
    onsets: tuple[float, ...]
    width: float


Plant = Callable[[Array, Generator], Planted]


def plant_change(t: Array, rng: Generator, width: float, noise: float) -> Planted:
    """An S of height 1 with noise on a drift of up to 0.25, rising or falling."""
    onset = _draw_onset(t, rng, 0.75 / (1 + width))
    return _finish(t, rng, rise(t, onset, width), (onset,), width, noise)


def plant_steps(t: Array, rng: Generator, n: int, equal: bool) -> Planted:
    """Two or three S curves with noise of 1 % of the whole; each 1.6 times as late as the last.

    Of equal or of unequal height (0.2 of the whole at least).
    """
    width = rng.uniform(1 / 16, 1 / 4)
    onsets = np.zeros(n)
    while not (onsets[1:] > 1.6 * onsets[:-1]).all() or not onsets[0]:
        onsets = np.sort([_draw_onset(t, rng, 0.7) for _ in range(n)])
    heights = np.full(n, 1 / n)
    if not equal:
        heights = 0.2 + (1 - 0.2 * n) * rng.dirichlet(np.ones(n))
    curve = heights @ [rise(t, onset, width) for onset in onsets]
    return _finish(t, rng, curve, tuple(onsets.tolist()), width, 0.01)


def plant_crashes(t: Array, rng: Generator) -> Planted:
    """An S, and one to four crashes of one to five checkpoints after it, which recover.

    None begins sooner than SPIKE checkpoints after its end, or lasts beyond 0.9 of the run.
    """
    width = rng.uniform(1 / 16, 1 / 4)
    onset = _draw_onset(t, rng, 0.5)
    curve = rise(t, onset, width)
    first = int(np.searchsorted(t, onset * (1 + width))) + SPIKE
    last = int(np.searchsorted(t, 0.9 * t[-1]))
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(first, max(last - 5, first + 1)))
        curve[at : min(at + int(rng.integers(1, 6)), last)] *= 1 - rng.uniform(0.3, 1)
    return _finish(t, rng, curve, (onset,), width, 0.03)


def plant_relapse(t: Array, rng: Generator) -> Planted:
    """An S that falls back by half or more, soon, for 0.05 to 0.2 of the run, and comes again.

    Not before SPIKE checkpoints after its end.
    """
    width = rng.uniform(1 / 16, 1 / 4)
    onset = _draw_onset(t, rng, 0.4)
    end = onset * (1 + width)
    least = t[min(int(np.searchsorted(t, end)) + SPIKE, len(t) - 1)]
    leaves = max(end * rng.uniform(1.2, 1.6), least)
    again = leaves + rng.uniform(0.05, 0.2) * LAST
    away = rise(t, leaves, 0.08) - rise(t, again, 0.08)
    curve = rise(t, onset, width) - rng.uniform(0.5, 1) * away
    return _finish(t, rng, curve, (onset,), width, 0.03)


def _draw_onset(t: Array, rng: Generator, last: float) -> float:
    """From EARLIEST to `last` of the run, after PLATEAU checkpoints at least."""
    return draw_between(rng, max(EARLIEST * t[-1], t[PLATEAU - 1]), last * t[-1])


def _finish(
    t: Array,
    rng: Generator,
    curve: Array,
    onsets: tuple[float, ...],
    width: float,
    noise: float,
) -> Planted:
    """The planted curve on a drift of up to 0.25, with noise, rising or falling."""
    drift = rng.uniform(0, 0.25) * -np.expm1(-t / draw_between(rng, 10, 1000))
    drawn = noise * draw_correlated(len(t), rng.uniform(0, 0.8), rng)
    return Planted(rng.choice((-1, 1)) * (curve + drift + drawn), onsets, width)


PLANTS: dict[str, Plant] = {
    f"width {width:.3g}, noise {noise}": partial(plant_change, width=width, noise=noise)
    for width, noise in product(WIDTHS, NOISES)
}
PLANTS |= {
    "two steps": partial(plant_steps, n=2, equal=True),
    "two unequal steps": partial(plant_steps, n=2, equal=False),
    "three steps": partial(plant_steps, n=3, equal=True),
    "crashes": plant_crashes,
    "relapse": plant_relapse,
}
