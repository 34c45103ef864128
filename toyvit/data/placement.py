"""Places for objects: boxes at random pixels that do not overlap, drawn by counter."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np
from numpy.typing import NDArray

from toyvit.data.random import Keys, draw_integers

TRIES = 16  # placings drawn at once


def place_apart(
    keys: Keys,
    n: int,
    grid: tuple[int, int],
    side: int,
    accept: Callable[[NDArray[np.int64]], NDArray[np.bool_]] | None = None,
) -> NDArray[np.int64]:
    """(len(keys), n) corners of boxes of `side` pixels, no two overlapping.

    A corner is row * columns + column on a grid of corners. Each sample draws whole placings until
    one has no overlap (and is accepted): all that are allowed are equally likely.
    """
    corners = np.zeros((len(keys), n), np.int64)
    left = np.arange(len(keys))
    for block in count():
        drawn = draw_integers(keys[left], f"places {block}", TRIES * n, grid[0] * grid[1])
        drawn = drawn.reshape(-1, TRIES, n)
        good = ~find_overlaps(drawn, grid[1], side)
        first = drawn[np.arange(len(left)), good.argmax(1)]

        done = good.any(1)
        if accept is not None:
            done &= accept(first)
        corners[left[done]] = first[done]
        left = left[~done]
        if not len(left):
            return corners
    raise AssertionError


def find_overlaps(corners: NDArray[np.int64], columns: int, side: int) -> NDArray[np.bool_]:
    """Whether any two of the boxes (... box) share a pixel."""
    first, second = np.triu_indices(corners.shape[-1], 1)
    row, column = np.divmod(corners, columns)
    near_rows = abs(row[..., first] - row[..., second]) < side
    near_columns = abs(column[..., first] - column[..., second]) < side
    return np.asarray((near_rows & near_columns).any(-1))


def list_box_pixels(
    corners: NDArray[np.int64], columns: int, side: int, width: int
) -> NDArray[np.int64]:
    """Pixel numbers (... pixel), row * width + column, of boxes.

    Corners are numbers on a grid with `columns` corners a row.
    """
    row, column = np.divmod(corners, columns)
    box = (np.arange(side)[:, None] * width + np.arange(side)).ravel()
    return (row * width + column)[..., None] + box
