"""A user's own arrays as a world: read from an npz file and checked."""

from __future__ import annotations

import zipfile
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toyvit.config.foreign_files import hash_file
from toyvit.data.world import CollectedWorld, shuffle_splits
from toyvit.errors import BadInput

MOST_VALUES = 10_000  # of one factor
LEAST_PICTURES = 20
ALLOWED = "images, labels, and factor_NAME for each further factor"
Arrays = dict[str, NDArray[np.generic]]


class OwnArrays(CollectedWorld):
    """A user's arrays, checked: 80 % / 10 % / 10 % of the pictures.

    They are in an order that their number fixes. The file holds `images`, (picture, height, width)
    or (picture, height, width, channel) of uint8 or finite floats; `labels`, a class for each,
    numbered from 0; and any `factor_NAME` like `labels`. What exports call `world_NAME` is not
    read. Floats are shown as they are, uint8 from -1 to +1.
    """

    name = "own"

    def __init__(self, path: Path) -> None:
        arrays = read_arrays(path)
        images = arrays.pop("images")
        factors = {
            name.removeprefix("factor_"): values.astype(np.int64) for name, values in arrays.items()
        }
        factors["class"] = factors.pop("labels")

        n = len(images)
        is_bytes = images.dtype == np.uint8
        super().__init__(
            images=images,
            known=factors,
            splits=shuffle_splits(
                "own", n, {"train": 8 * n // 10, "validation": 9 * n // 10, "test": n}
            ),
            low=0 if is_bytes else -1,
            high=255 if is_bytes else 1,
        )


def load_own_arrays(npz: str, sha256: str = "") -> OwnArrays:
    """The user's file; BadInput where it is not the one of a SHA-256, if one is given."""
    path = Path(npz)
    _check_file(path)
    digest = hash_file(path)
    if sha256 and digest != sha256:
        raise BadInput(
            f"{path} is not the file that the run was begun with: its SHA-256 is "
            f"{digest[:12]}..., the run's {sha256[:12]}..."
        )
    return _load_once(path, digest)


@lru_cache
def _load_once(path: Path, sha256: str) -> OwnArrays:
    """The file of this content, read once a process."""
    return OwnArrays(path)


def _check_file(path: Path) -> None:
    """BadInput where there is no file, or none that ends."""
    if not path.exists():
        raise BadInput(f"there is no file {path}")
    if not path.is_file():
        raise BadInput(f"{path} is no file of arrays: it is a folder, a pipe or a device")


def read_arrays(path: Path) -> Arrays:
    """`images`, `labels` and `factor_...` of an npz; BadInput that says what does not fit.

    Pickles are never loaded.
    """
    arrays = _open_npz(path)
    for name in ("images", "labels"):
        if name not in arrays:
            raise BadInput(
                f"{path} has no array {name!r}: it holds {', '.join(arrays) or 'nothing'}, "
                f"wanted are {ALLOWED}"
            )

    images = arrays["images"]
    _check_shape(path, images)
    _check_pixels(path, images)
    for name, values in arrays.items():
        if name != "images":
            _check_factor(path, name, values, len(images))
    _check_labels(path, arrays["labels"])
    return arrays


def _open_npz(path: Path) -> Arrays:
    """All arrays of the file but for `world_...`."""
    _check_file(path)
    if not zipfile.is_zipfile(path):
        raise BadInput(f"{path} is not an npz file")

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            names = [name for name in archive.files if not name.startswith("world_")]
            return {name: archive[name] for name in names}
    except FileNotFoundError:
        raise BadInput(f"there is no file {path}") from None
    except (ValueError, OSError, zipfile.BadZipFile, AttributeError, EOFError) as error:
        why = str(error).splitlines()[0]
        if "pickle" in str(error):
            why = "it holds pickled objects, which are never loaded"
        raise BadInput(f"{path} cannot be read as an npz of plain arrays: {why}") from None


def _check_shape(path: Path, images: NDArray[np.generic]) -> None:
    """BadInput where pictures have no shape or type that can be shown."""
    is_shown = images.dtype == np.uint8 or images.dtype.kind == "f"
    if images.ndim not in (3, 4) or not is_shown or 0 in images.shape:
        raise BadInput(
            f"images in {path} must be (picture, height, width) or "
            "(picture, height, width, channel) of uint8 or floats, "
            f"got {images.shape} of {images.dtype}"
        )
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] > 4:
        raise BadInput(
            f"images in {path} have channels last, (picture, height, width, channel), "
            f"got {images.shape}"
        )


def _check_pixels(path: Path, images: NDArray[np.generic]) -> None:
    """BadInput where pictures have values that cannot be shown, or are too few."""
    with np.errstate(over="ignore"):
        finite = np.isfinite(images.astype(np.float32))
    if not finite.all():
        raise BadInput(
            f"images in {path} hold {np.count_nonzero(~finite)} numbers that are not finite "
            "as float32"
        )
    if len(images) < LEAST_PICTURES:
        raise BadInput(
            f"{path} holds {len(images)} pictures: at least {LEAST_PICTURES} are needed to split "
            "them"
        )


def _check_factor(path: Path, name: str, values: NDArray[np.generic], n: int) -> None:
    """BadInput where an array is no factor of n pictures, `labels` among them."""
    is_factor = name == "labels" or name.startswith("factor_")
    if not is_factor or name == "factor_class":
        raise BadInput(f"{path} holds an array {name!r}: allowed are {ALLOWED}")

    if values.shape != (n,) or values.dtype.kind not in "iu":
        raise BadInput(
            f"{name} in {path} must be {n} whole numbers, one a picture, "
            f"got {values.shape} of {values.dtype}"
        )
    if not 0 <= values.min() <= values.max() < MOST_VALUES:
        raise BadInput(
            f"{name} in {path} must be numbered 0 to {MOST_VALUES - 1}, "
            f"got {values.min()} to {values.max()}"
        )


def _check_labels(path: Path, labels: NDArray[np.generic]) -> None:
    """BadInput where there is one class only, or none for a number between others."""
    last = labels.max()
    if last == 0:
        raise BadInput(f"labels in {path} are all 0: at least two classes are needed")

    missing = np.setdiff1d(np.arange(last), labels).tolist()
    if missing:
        some = ", ".join(map(str, missing[:5])) + " and so on" * bool(missing[5:])
        raise BadInput(
            f"labels in {path} go to {last}, but no picture has {some}: "
            "number them from 0 without gaps, as numpy.unique(labels, return_inverse=True)[1] does"
        )
