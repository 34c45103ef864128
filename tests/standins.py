"""Stand-ins for collected data, in the same file formats and as many pictures: drawn from random
numbers in two seconds.

They lie in one folder of the checkout, made by whichever process comes first. `use` points
TOYVIT_DATA there, and a process that finds TOYVIT_DATA pointing there takes their checksums for the
genuine ones with `trust`.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import shutil
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toyvit.data import files
from toyvit.data.worlds.omniglot import drawings as omniglot

SOURCE = Path(__file__)
MADE_BY = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
FOLDER = SOURCE.parents[1] / ".pytest_cache/standins" / MADE_BY
CHECKSUMS = FOLDER / "checksums.json"
N_TRAINING = 60_000
PARTS = (55_000, 5_000, 10_000)  # pictures of digits that MNIST's three splits show


def use() -> None:
    """Make the stand-ins where they are missing, and let this process and those it starts find
    them.
    """
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with (FOLDER.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not CHECKSUMS.exists():
            make()
    os.environ["TOYVIT_DATA"] = str(FOLDER)
    trust()


def trust() -> None:
    """Where TOYVIT_DATA names the stand-ins, files are held to their checksums."""
    if os.environ.get("TOYVIT_DATA") != str(FOLDER):
        return
    checksums = json.loads(CHECKSUMS.read_text())
    for name in files.MNIST_FILES:
        files.MNIST_FILES[name] = (checksums[name], checksums[f"{name}.gz"])
    for part, (n_characters, _) in omniglot.PARTS.items():
        omniglot.PARTS[part] = (n_characters, checksums[part])


def make() -> None:
    """All files, the checksums last."""
    for older in FOLDER.parent.iterdir():
        if older.is_dir():
            shutil.rmtree(older)

    raw, characters = FOLDER / "MNIST/raw", FOLDER / "omniglot-py"
    raw.mkdir(parents=True)
    characters.mkdir()
    generator = np.random.default_rng(0)
    checksums = write_digits(raw, generator) | write_characters(characters, generator)
    CHECKSUMS.write_text(json.dumps(checksums))


def write_digits(raw: Path, generator: np.random.Generator) -> dict[str, str]:
    """MNIST's four files, plain and packed; MD5 by name."""
    images, labels = digits(generator)
    parts = {"train": slice(N_TRAINING), "t10k": slice(N_TRAINING, None)}
    checksums = {}
    for part, rows in parts.items():
        for name, values in (
            (f"{part}-images-idx3-ubyte", images[rows]),
            (f"{part}-labels-idx1-ubyte", labels[rows]),
        ):
            plain, packed = raw / name, raw / f"{name}.gz"
            plain.write_bytes(idx(values))
            packed.write_bytes(gzip.compress(plain.read_bytes(), 1, mtime=0))
            checksums |= {file.name: files.hash_md5(file) for file in (plain, packed)}
    return checksums


def digits(generator: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pictures (70000, 28, 28), no two the same: a digit's own blocks of 4 x 4, bright, and six
    specks; and their digits.
    """
    labels = np.concatenate([generator.permutation(np.arange(n) % 10) for n in PARTS]).astype(
        np.uint8
    )
    blocks = 200 * (generator.random((10, 7, 7)) < 0.35).astype(np.uint8)
    images = np.kron(blocks, np.ones((4, 4), np.uint8))[labels]
    flat = images.reshape(len(images), -1)
    for _ in range(6):
        place = generator.integers(0, flat.shape[1], len(flat))
        flat[np.arange(len(flat)), place] = generator.integers(1, 256, len(flat))
    return images, labels


def idx(values: NDArray[np.uint8]) -> bytes:
    """MNIST's format: two noughts, the type of unsigned bytes, the axes and their lengths, then the
    numbers.
    """
    return (
        struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()
    )


def write_characters(folder: Path, generator: np.random.Generator) -> dict[str, str]:
    """Omniglot's two parts as npz, True for paper; MD5 by part."""
    checksums = {}
    for part, (n_characters, _) in omniglot.PARTS.items():
        file = folder / f"{part}.npz"
        np.savez_compressed(file, images=~drawings(n_characters, generator))
        checksums[part] = files.hash_md5(file)
    return checksums


def drawings(n_characters: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Ink (character, 20, 105, 105): a character's own blocks of 7 x 7, one in fifty of them
    changed in each drawing.
    """
    side = omniglot.SIDE
    character = generator.random((n_characters, 1, side, side)) < 0.25
    changed = generator.random((n_characters, omniglot.N_DRAWINGS, side, side)) < 0.02
    return (character ^ changed).repeat(omniglot.BLOCK, 2).repeat(omniglot.BLOCK, 3)
