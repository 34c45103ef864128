"""Where collected data comes from: which files, with which checksums, and how they are fetched.

Prepared data lives in `datasets/` of the working folder, or of the nearest folder above that has
one. `TOYVIT_DATA` may name a folder that holds files already; it is only read. Nothing is
downloaded unless the user asks (`toyvit data NAME`).
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toyvit.config.foreign_files import hash_file
from toyvit.errors import BadInput

# MD5 of the unpacked files and of the archives, as torchvision pins them.
MNIST_FILES = {
    "train-images-idx3-ubyte": (
        "6bbc9ace898e44ae57da46a324031adb",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    ),
    "train-labels-idx1-ubyte": (
        "a25bea736e30d166cdddb491f175f624",
        "d53e105ee54ea40749a09fcbcd1e9432",
    ),
    "t10k-images-idx3-ubyte": (
        "2646ac647ad5339dbf082846283269ea",
        "9fb629c4189551a2d022fa330f9573f3",
    ),
    "t10k-labels-idx1-ubyte": (
        "27ae3e4e09519cfbb04c329615203637",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
}


def find_prepared(name: str) -> Path:
    """The folder of a prepared data set."""
    here = Path.cwd()
    candidates = [folder / "datasets" for folder in (here, *here.parents)]
    return next((folder for folder in candidates if folder.is_dir()), candidates[0]) / name


def hash_md5(path: Path) -> str:
    return hash_file(path, "md5")


def verify_md5(path: Path, expected: str) -> Path:
    """The path itself if the file has the expected MD5, else BadInput."""
    md5 = hash_md5(path)
    if md5 != expected:
        raise BadInput(
            f"{path} is damaged: its MD5 is {md5}, expected {expected}; "
            "delete it and run `toyvit data mnist`"
        )
    return path


def find_mnist() -> Path | None:
    """The folder of MNIST/raw, its files verified, or None where they are nowhere.

    Archives under TOYVIT_DATA are unpacked into `datasets/mnist`; nothing is downloaded.
    """
    roots = [find_prepared("mnist")]
    if given := os.environ.get("TOYVIT_DATA"):
        roots.insert(0, Path(given))

    plain = {name: md5 for name, (md5, _) in MNIST_FILES.items()}
    for root in roots:
        if _has_all(root / "MNIST/raw", plain):
            return root
    packed = {f"{name}.gz": md5 for name, (_, md5) in MNIST_FILES.items()}
    for root in roots:
        if _has_all(root / "MNIST/raw", packed):
            return fetch_mnist(root)
    return None


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file in MNIST's format, whose MD5 has been verified.

    Two noughts, the type, the number of axes; their lengths, each four bytes, the highest first;
    then the numbers.
    """
    content = path.read_bytes()
    n_axes = content[3]
    start = 4 + 4 * n_axes
    shape = np.frombuffer(content[4:start], ">u4")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _has_all(folder: Path, md5s: dict[str, str]) -> bool:
    """Whether all files are in the folder; BadInput where one is damaged."""
    if not all((folder / name).exists() for name in md5s):
        return False
    for name, md5 in md5s.items():
        verify_md5(folder / name, md5)
    return True


def fetch_mnist(archives: Path | None = None) -> Path:
    """Unpack MNIST into `datasets/mnist` with torchvision.

    From archives that are here already, or else from the network.
    """
    from toyvit.torchvision_guard import torchvision

    root = find_prepared("mnist")
    raw = root / "MNIST/raw"
    raw.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        if archives is not None and archives != root:
            for name in MNIST_FILES:
                shutil.copyfile(archives / "MNIST/raw" / f"{name}.gz", raw / f"{name}.gz")
        try:
            torchvision.datasets.MNIST(str(root), download=True)
        except (RuntimeError, OSError) as error:
            raise BadInput(
                f"MNIST could not be downloaded ({_first_line(error)}); {describe_mnist_files()}"
            ) from None
        for name, (plain, _) in MNIST_FILES.items():
            verify_md5(raw / name, plain)
    return root


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def describe_mnist_files() -> str:
    """Which files go where."""
    names = ", ".join(f"{name}.gz" for name in MNIST_FILES)
    return (
        f"put {names} into {find_prepared('mnist') / 'MNIST/raw'}, "
        "or set TOYVIT_DATA to a folder that holds them under MNIST/raw"
    )
