"""dSprites (Matthey, Higgins, Hassabis & Lerchner 2017): its 737,280 pictures.

Drawn from their factors, or kept in one file.
"""

from __future__ import annotations

import fcntl
import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tqdm import tqdm

from toyvit.config.foreign_files import hash_file
from toyvit.data import files
from toyvit.errors import BadInput

SIDE = 64  # pixels
SHAPES = ("square", "ellipse", "heart")
# Order, values, name and MD5 of the file: github.com/google-deepmind/dsprites-dataset (color, with
# its one value, left out). The last varies fastest.
SIZES = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}
VALUES = {
    "shape": np.arange(1.0, 4.0),
    "scale": np.linspace(0.5, 1, 6),
    "orientation": np.linspace(0, 2 * np.pi, 40),  # both ends: 0 and 39 are the same picture
    "x": np.linspace(0, 1, 32),
    "y": np.linspace(0, 1, 32),
}
N_IMAGES = math.prod(SIZES.values())
N_PLACES = SIZES["x"] * SIZES["y"]
N_BYTES = SIDE * SIDE // 8  # of a packed picture
CHUNK = 1024  # pictures drawn at once: their vertices fit a processor's cache
GRID = 256  # vertices lie on 1/256 pixel, as on a graphics card
# The heart's 150 and the first again; shorter outlines repeat theirs, an edge that crosses nothing.
N_VERTICES = 151
OFFICIAL = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
OFFICIAL_MD5 = "7da33b31b13a06f4b04a70402ce90c2e"


def _check_whole(values: ArrayLike, size: int, what: str) -> NDArray[np.int64]:
    """The values as int64 if they are whole numbers from 0 to size - 1, else BadInput."""
    given = np.asarray(values)
    if given.dtype.kind not in "iu":
        raise BadInput(f"{what} must be whole numbers 0 to {size - 1}, got {given.dtype}")
    if given.size and (given.min() < 0 or given.max() >= size):
        raise BadInput(
            f"{what} must be whole numbers 0 to {size - 1}, got {given.min()} to {given.max()}"
        )
    return given.astype(np.int64)


def decode_factors(indices: ArrayLike) -> dict[str, NDArray[np.int64]]:
    """The factors, numbered from 0, of the pictures with these numbers in the official order.

    Arrays are shaped as `indices`.
    """
    whole = _check_whole(indices, N_IMAGES, "indices of dsprites")
    numbers = np.unravel_index(whole, tuple(SIZES.values()))
    return {name: np.asarray(values, np.int64) for name, values in zip(SIZES, numbers, strict=True)}


def encode_factors(factors: Mapping[str, ArrayLike]) -> NDArray[np.int64]:
    """The numbers of the pictures with these factors: the inverse of `decode_factors`.

    Arrays are broadcast.
    """
    if set(factors) != set(SIZES):
        given = ", ".join(map(str, factors)) or "none"
        raise BadInput(f"the factors of dsprites are {', '.join(SIZES)}, got {given}")
    numbers = [
        _check_whole(factors[name], size, f"factor {name!r} of dsprites")
        for name, size in SIZES.items()
    ]
    return np.asarray(np.ravel_multi_index(numbers, tuple(SIZES.values())), np.int64)


def _polygons() -> Iterator[NDArray[np.float64]]:
    """Square, ellipse and heart (vertex, x or y) at scale 1, upright.

    In pixels from the centre, y downwards. Fitted to genuine pictures; the card says how exact they
    are.
    """
    yield 9.6 * np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    a = 2 * np.pi * np.arange(100) / 100
    yield np.stack([9.6 * 1.33 * np.cos(a), 9.6 / 1.33 * np.sin(a)], 1)
    a = 2 * np.pi * np.arange(150) / 150
    height = 13 * np.cos(a) - 5 * np.cos(2 * a) - 2 * np.cos(3 * a) - np.cos(4 * a)
    yield np.stack([9.6 * np.sin(a) ** 3, -19.2 / 29 * height - 1.44], 1)


@lru_cache
def _outlines() -> NDArray[np.float32]:
    """Every outline, x and y (2, shape scale orientation, vertex), closed.

    In 1/256 pixel from the centre.
    """
    scale = VALUES["scale"][:, None, None]
    angle = VALUES["orientation"][:, None]
    cos = scale * np.cos(angle)
    sin = scale * np.sin(angle)
    turned = []
    for polygon in _polygons():
        repeated = np.repeat(polygon[:1], N_VERTICES - len(polygon), 0)
        x, y = np.concatenate([polygon, repeated]).T
        turned.append([cos * x + sin * y, cos * y - sin * x])

    outlines = GRID * np.array(turned).transpose(1, 0, 2, 3, 4)
    return outlines.reshape(2, -1, N_VERTICES).astype(np.float32)


@lru_cache
def _centres() -> NDArray[np.float32]:
    """The centre of a shape at each position, in 1/256 pixel."""
    return (GRID * (16 + 32 * VALUES["x"])).astype(np.float32)


def _vertices(indices: NDArray[np.int64]) -> list[NDArray[np.int16]]:
    """x and y (image vertex) in 1/256 pixel: added in float32, rounded, as a graphics card does."""
    outline, place = np.divmod(indices, N_PLACES)
    centres = _centres().take(np.divmod(place, SIZES["y"]))[..., None]
    return [
        np.rint(_outlines()[axis].take(outline, 0) + centres[axis]).astype(np.int16)
        for axis in (0, 1)
    ]


def _crossings(
    x: NDArray[np.int16], y: NDArray[np.int16]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Where outlines (image vertex) cross the middle of a row.

    As image * 64 + row, and the first column not left of the crossing. Column and row c have their
    middle at 256 c + 128. All in whole numbers, so that ties fall as documented.
    """
    passed = (y + GRID // 2) >> 8  # how many rows have their middle at or above the vertex
    crosses = np.zeros(y.shape, bool)
    np.not_equal(passed[:, 1:], passed[:, :-1], out=crosses[:, :-1])

    edge = np.flatnonzero(crosses)  # named by its first vertex
    ends = passed.ravel().take([edge, edge + 1]).astype(np.int64)
    times = np.abs(ends[1] - ends[0])
    row = np.repeat(ends.min(0) - times.cumsum() + times, times) + np.arange(times.sum())
    image = np.repeat(edge // N_VERTICES, times)
    edge = np.repeat(edge, times)

    (x0, x1), (y0, y1) = (axis.ravel().take([edge, edge + 1]).astype(np.int32) for axis in (x, y))
    down = GRID * row.astype(np.int32) + GRID // 2 - y0
    past = (GRID // 2 - x0) * (y1 - y0) - down * (x1 - x0)
    return image * SIDE + row, -(past // (GRID * (y1 - y0)))


def _draw(indices: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Packed pictures (image 512).

    A row is one 64-bit word, and every crossing flips all columns from it on (even-odd).
    """
    row, column = _crossings(*_vertices(indices))
    words = np.zeros(len(indices) * SIDE, "<u8")
    np.bitwise_xor.at(words, row, ~np.uint64(0) << column.astype(np.uint64))
    return words.view(np.uint8).reshape(-1, N_BYTES)


def draw_packed(indices: ArrayLike) -> NDArray[np.uint8]:
    """Pictures (..., 512) with these numbers, in any order, eight pixels a byte.

    As `np.packbits(..., bitorder="little")` packs them.
    """
    numbers = _check_whole(indices, N_IMAGES, "indices of dsprites")
    flat = numbers.ravel()
    if flat.size <= CHUNK:
        return _draw(flat).reshape(*numbers.shape, N_BYTES)

    pictures = np.empty((flat.size, N_BYTES), np.uint8)
    for start in range(0, flat.size, CHUNK):
        pictures[start : start + CHUNK] = _draw(flat[start : start + CHUNK])
    return pictures.reshape(*numbers.shape, N_BYTES)


def unpack_bits(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels (..., 64, 64) of 0 and 1 of packed pictures (..., 512)."""
    pixels = np.unpackbits(pictures, axis=-1, bitorder="little")
    return pixels.reshape(*pictures.shape[:-1], SIDE, SIDE)


def draw_images(indices: ArrayLike) -> NDArray[np.uint8]:
    """Pictures (..., 64, 64) of 0 and 1 with these numbers in the official order.

    Drawn, or read from the authors' file where the user has it, see `find_official`; all but about
    one in 10,000 pictures are the same bit for bit.
    """
    official = _load_official()
    if official is None:
        return unpack_bits(draw_packed(indices))
    return unpack_bits(official[_check_whole(indices, N_IMAGES, "indices of dsprites")])


@lru_cache
def _load_official() -> NDArray[np.uint8] | None:
    """All pictures of the authors' file, sought once a process."""
    path = find_official()
    return None if path is None else load_all(path)


def find_official() -> Path | None:
    """The authors' npz where the user has it, its MD5 verified; else None.

    It is sought under TOYVIT_DATA and in `datasets/dsprites`.
    """
    folders = [files.find_prepared("dsprites")]
    if given := os.environ.get("TOYVIT_DATA"):
        folders.insert(0, Path(given) / "dsprites")
    path = next((folder / OFFICIAL for folder in folders if (folder / OFFICIAL).exists()), None)
    if path is None:
        return None

    md5 = files.hash_md5(path)
    if md5 != OFFICIAL_MD5:
        raise BadInput(
            f"{path} is damaged: its MD5 is {md5}, expected {OFFICIAL_MD5}; "
            "delete it or fetch it again"
        )
    return path


def _genuine(path: Path) -> Iterator[NDArray[np.uint8]]:
    """`imgs` of the authors' npz, packed, a chunk at a time.

    3 GB are never held, and its pickled fields are never read.
    """
    with zipfile.ZipFile(path) as archive, archive.open("imgs.npy") as file:
        np.lib.format.read_magic(file)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if (shape, fortran, dtype) != ((N_IMAGES, SIDE, SIDE), False, np.uint8):
            raise BadInput(
                f"{path} must hold imgs {(N_IMAGES, SIDE, SIDE)} of uint8 in C order, "
                f"got {shape} of {dtype}"
            )

        while chunk := file.read(CHUNK * SIDE * SIDE):
            pictures = np.frombuffer(chunk, np.uint8).reshape(-1, SIDE * SIDE)
            yield np.packbits(pictures, axis=1, bitorder="little")


def _rendered() -> Iterator[NDArray[np.uint8]]:
    """All pictures in order, packed, a chunk at a time."""
    return (
        draw_packed(np.arange(start, min(start + CHUNK, N_IMAGES)))
        for start in range(0, N_IMAGES, CHUNK)
    )


def prepare_images(genuine: Path | None = None) -> Path:
    """The file of all pictures, packed: rendered, or read from the authors' npz.

    Written where it is missing or damaged: beside and renamed, with its SHA-256 in a second file;
    whoever comes second waits for the first.
    """
    path = files.find_prepared("dsprites") / ("genuine.npy" if genuine else "rendered.npy")
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_intact(path):
            _write(path, _genuine(genuine) if genuine else _rendered())
    return path


def load_all(genuine: Path | None = None) -> NDArray[np.uint8]:
    """All pictures (737280, 512), packed, in a file that is read as needed.

    `unpack_bits(load_all()[indices])`; see `prepare_images`.
    """
    return np.load(prepare_images(genuine), mmap_mode="r", allow_pickle=False)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _sha256(path: Path) -> str:
    """A line as `sha256sum` writes it."""
    return f"{hash_file(path)}  {path.name}\n"


def _is_intact(path: Path) -> bool:
    """Whether the file is there with the right size and the checksum beside it.

    The header has 128 bytes.
    """
    is_whole = path.exists() and path.stat().st_size == 128 + N_IMAGES * N_BYTES
    return is_whole and _beside(path).exists() and _beside(path).read_text() == _sha256(path)


def _write(path: Path, chunks: Iterator[NDArray[np.uint8]]) -> None:
    """Write the chunks as one array (image 512); the file appears whole or not at all."""
    partial = path.with_name(f"{path.name}.partial")
    with (
        partial.open("wb") as file,
        tqdm(desc=path.stem, total=N_IMAGES, unit_scale=True, disable=None) as bar,
    ):
        header = {"descr": "|u1", "fortran_order": False, "shape": (N_IMAGES, N_BYTES)}
        np.lib.format.write_array_header_1_0(file, header)

        for chunk in chunks:
            file.write(chunk.data)
            bar.update(len(chunk))
    partial.replace(path)
    _beside(path).write_text(_sha256(path))
