"""Omniglot's handwritten characters (Lake, Salakhutdinov & Tenenbaum 2015), in small copies."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toyvit.data import files
from toyvit.errors import BadInput

FULL = 105  # pixels a side of a drawing
SIDE = 15  # and of its small copy
BLOCK = FULL // SIDE
N_DRAWINGS = 20  # of each character, by as many people
# Characters of each part, and the MD5 of the part as one npz file of `images` (character, drawing,
# 105, 105), True for paper.
PARTS = {
    "images_background": (964, "042c0a3e1688c4f4dc9d7213db63ee80"),
    "images_evaluation": (659, "a6277b6770b9241c6906fa797456e652"),
}


def shrink_drawings(ink: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Drawings (..., 15, 15) from -1, paper, to 1, at least half ink.

    By the share of ink in blocks of 7 x 7 pixels.
    """
    lines = ink.view(np.uint8).reshape(*ink.shape[:-2], SIDE, BLOCK, FULL)
    by_column = lines.sum(-2, dtype=np.uint8)  # whole lines first: their pixels lie side by side
    count = by_column.reshape(*ink.shape[:-2], SIDE, SIDE, BLOCK).sum(-1, dtype=np.uint8)
    return np.minimum(4 * count.astype(np.float32) / BLOCK**2, 2) - 1


def read_drawings(folder: Path) -> NDArray[np.float32]:
    """Small drawings (character, drawing, 15, 15) of a folder of PNG files, by number and drawing.

    The files are `folder/ALPHABET/CHARACTER/NUMBER_DRAWING.png`.
    """
    files_by_name = sorted(folder.glob("*/*/*_*.png"), key=lambda path: path.name)
    pictures = [shrink_drawings(~_read_paper(file)) for file in files_by_name]
    return np.array(pictures, np.float32).reshape(-1, N_DRAWINGS, SIDE, SIDE)


def _read_paper(file: Path) -> NDArray[np.bool_]:
    """The picture of a PNG file, True for paper; BadInput where it is no such drawing."""
    from PIL import Image

    try:
        with Image.open(file, formats=["PNG"]) as image:
            if image.size != (FULL, FULL) or len(image.getbands()) != 1:
                raise ValueError(f"{image.size} pixels of {image.mode}, not {(FULL, FULL)} of 1")
            return np.asarray(image, bool)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"{file} is no drawing of Omniglot: {why}") from None


def _read_part(folder: Path, part: str) -> NDArray[np.float32] | None:
    """A part's small drawings from its unpacked folder, or else from its npz file.

    None where neither is there.
    """
    n, expected = PARTS[part]
    if (folder / part).is_dir():
        n_files = len(list((folder / part).glob("*/*/*_*.png")))
        if n_files != n * N_DRAWINGS:
            raise BadInput(
                f"{folder / part} is not whole: {n_files} drawings, expected {n * N_DRAWINGS}; "
                "unpack it again"
            )
        return read_drawings(folder / part)

    file = folder / f"{part}.npz"
    if not file.exists():
        return None
    md5 = files.hash_md5(file)
    if md5 != expected:
        raise BadInput(f"{file} is damaged: its MD5 is {md5}, expected {expected}; fetch it again")
    with np.load(file, allow_pickle=False) as archive:
        return shrink_drawings(~archive["images"])


def _read_parts(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Small drawings of the parts that are in a folder."""
    pictures = {part: _read_part(folder, part) for part in PARTS}
    return {part: drawings for part, drawings in pictures.items() if drawings is not None}


@lru_cache
def load_drawings() -> dict[str, NDArray[np.float32]]:
    """Small drawings (character, drawing, 15, 15) of each part, read once a process.

    BadInput where they are not here.
    """
    here = files.find_prepared("omniglot")
    folders = [here, here / "omniglot-py"]
    if given := os.environ.get("TOYVIT_DATA"):
        folders.insert(0, Path(given) / "omniglot-py")

    for folder in folders:
        parts = _read_parts(folder)
        if len(parts) == len(PARTS):
            return parts

    raise BadInput(
        "Omniglot is not here: put images_background and images_evaluation (as folders of PNG, or "
        f"as npz files) into {here}, or set TOYVIT_DATA to a folder that holds them under "
        "omniglot-py"
    )
