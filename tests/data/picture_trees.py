"""Folders of small pictures for tests: what is in each picture is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

N = 24  # pictures of a folder
SIDE = 8
CLASSES = ("ant", "bee", "cow")


def draw_pixels(number: int, n_channels: int = 3) -> NDArray[np.uint8]:
    """The bytes of a picture, no two alike."""
    shape = (SIDE, SIDE, n_channels) if n_channels > 1 else (SIDE, SIDE)
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


def save_pixels(path: Path, pixels: NDArray[np.generic]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def name_picture(number: int) -> str:
    return f"{CLASSES[number % len(CLASSES)]}/{number:02d}.png"


def plant(folder: Path, n_channels: int = 3) -> Path:
    """A folder of three classes, picture k in class k modulo 3."""
    for number in range(N):
        save_pixels(folder / name_picture(number), draw_pixels(number, n_channels))
    return folder


def draw_mask(number: int) -> NDArray[np.uint8]:
    """Numbers 0 to 3 at random: patches often have equals."""
    return np.random.default_rng(100 + number).integers(0, 4, (SIDE, SIDE), dtype=np.uint8)


def plant_masks(folder: Path) -> Path:
    for number in range(N):
        save_pixels(folder / name_picture(number), draw_mask(number))
    return folder


def plant_pairs(folder: Path, numbers: range = range(N)) -> Path:
    """Of picture k its bytes from 255 down, in the class after its own."""
    for number in numbers:
        label = CLASSES[(number + 1) % len(CLASSES)]
        save_pixels(folder / label / f"{number:02d}.png", 255 - draw_pixels(number))
    return folder
