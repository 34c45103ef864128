"""Npz files: what may come from elsewhere is read as plain arrays, whole; no code is run."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import IO, BinaryIO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo, is_zipfile

import numpy as np
from numpy.typing import NDArray

from toyvit.errors import BadInput
from toyvit.surroundings import read_free_memory

Arrays = dict[str, NDArray[np.generic]]
ENDING = ".npy"
PIECE = 1 << 24  # bytes that are unpacked at once
MOST_HEADER = 1 << 16  # bytes; numpy takes 10,000 characters
MOST_SAID = 200  # characters of what a reader says
ENCRYPTED, UTF_8 = 0x1, 0x800  # flags of a member of an archive
HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def check_npz(path: Path) -> None:
    """BadInput where there is no file, none that ends, or none that numpy's `savez` writes."""
    if not path.exists():
        raise BadInput(f"there is no file {path}")
    if not path.is_file():
        raise BadInput(f"{path} is no file of arrays: it is a folder, a pipe or a device")
    if not is_zipfile(path):
        raise BadInput(f"{path} is not an npz file")


def read_npz(path: Path, without: str) -> Arrays:
    """All arrays of an npz whose names do not begin so, in C order; BadInput says what is wrong.

    An array is taken where its header, the archive and the bytes that are there agree about its
    size, where its bytes have their checksum, and where the machine has the memory for all of them.
    Pickles are never loaded.
    """
    check_npz(path)
    try:
        with path.open("rb") as file, ZipFile(file) as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's, about headers that Python 2 has written
            members = _list_members(archive, without)
            _check_memory(list(members.values()))
            return {name: _read_member(archive, name, info) for name, info in members.items()}
    except Exception as error:  # whatever a damaged archive does to its readers
        why = (str(error).splitlines() or [type(error).__name__])[0][:MOST_SAID]
        raise BadInput(f"{path} cannot be read as an npz of plain arrays: {why}") from None


def write_npz(place: Path | BinaryIO, arrays: Arrays) -> None:
    """As `numpy.savez_compressed`, which takes arrays as keywords beside options of its own."""
    with ZipFile(place, "w", ZIP_DEFLATED) as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}{ENDING}", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)


def _list_members(archive: ZipFile, without: str) -> dict[str, ZipInfo]:
    """The archive's members by the names of their arrays; ValueError for what `savez` never makes.

    `orig_filename` is the name as it stands in the file: zipfile cuts it at a zero byte.
    """
    chosen = [info for info in archive.infolist() if not info.orig_filename.startswith(without)]
    names = [info.orig_filename.removesuffix(ENDING) for info in chosen]
    for name, n in Counter(names).items():
        if n > 1:
            raise ValueError(f"it holds {n} times {name!r}")
    for info in chosen:
        _check_member(info)
    return dict(zip(names, chosen, strict=True))


def _check_member(info: ZipInfo) -> None:
    name = info.orig_filename
    if not name.endswith(ENDING):
        raise ValueError(f"it holds what is no array, {name!r}")
    if not name.isascii() and not info.flag_bits & UTF_8:
        raise ValueError(f"the name {name!r} is not UTF-8")
    if info.flag_bits & ENCRYPTED:
        raise ValueError(f"{name!r} is encrypted")
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise ValueError(f"{name!r} is compressed in another way than numpy does")


def _check_memory(members: list[ZipInfo]) -> None:
    needed = sum(info.file_size for info in members)
    free = read_free_memory()
    if needed > free:
        raise ValueError(
            f"its arrays need {needed / 1e9:,.1f} GB of memory, but {free / 1e9:,.1f} GB are free"
        )


def _read_member(archive: ZipFile, name: str, info: ZipInfo) -> NDArray[np.generic]:
    with archive.open(info) as stream:
        head = BytesIO(stream.read(MOST_HEADER))
    version = np.lib.format.read_magic(head)
    if version not in HEADERS:
        raise ValueError(f"{name!r} has a header of version {version}")
    shape, is_fortran, dtype = HEADERS[version](head)
    _check_type(name, dtype)

    start = head.tell()
    n_bytes = _count_bytes(shape, dtype)
    if start + n_bytes != info.file_size:
        raise ValueError(
            f"{name!r} says {shape} of {dtype}, {n_bytes} bytes, but holds {info.file_size - start}"
        )
    with archive.open(info) as stream:
        flat = _read_bytes(stream, start, n_bytes).view(dtype)
    values: NDArray[np.generic] = flat.reshape(shape, order="F" if is_fortran else "C")
    return np.ascontiguousarray(values).reshape(shape)


def _check_type(name: str, dtype: np.dtype[np.generic]) -> None:
    if dtype.hasobject:
        raise ValueError(f"{name!r} holds pickled objects, which are never loaded")
    if dtype.names is not None or dtype.subdtype is not None or dtype.itemsize == 0:
        raise ValueError(f"{name!r} is of {dtype}, which is no plain type")


def _count_bytes(shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> int:
    """Bytes of such an array; ValueError where the shape is none."""
    if any(type(size) is not int or size < 0 for size in shape):
        raise ValueError(f"there is no shape {shape}")
    return math.prod(shape) * dtype.itemsize


def _read_bytes(stream: IO[bytes], start: int, n: int) -> NDArray[np.uint8]:
    """The n bytes from `start` on, which are the last: zipfile then compares the checksum."""
    stream.read(start)
    values = np.empty(n, np.uint8)
    place = 0
    while place < n:
        piece = stream.read(min(PIECE, n - place))
        if not piece:
            raise EOFError(f"it ends {n - place} bytes too early")
        values[place : place + len(piece)] = np.frombuffer(piece, np.uint8)
        place += len(piece)
    stream.read(1)
    return values
