"""A user's own arrays as a world: read from an npz file and checked."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toyvit.config.foreign_files import hash_file
from toyvit.data.npz_files import check_npz, read_npz
from toyvit.data.world import CollectedWorld, shuffle_splits
from toyvit.errors import BadInput

MOST_VALUES = 10_000  # of one factor
LEAST_PICTURES = 20
USUAL = 3.0  # standardised pixels seldom are further from 0
MOST_NAMED = 5  # in a message
MOST_SHOWN = 80  # characters of a name
ALLOWED = "images, labels, and factor_NAME for each further factor"
# Names stand in tables, titles of figures and lists between commas.
NAME = re.compile(r"\w([\w .-]{0,62}\w)?")
TAKEN = ("class", "row")  # `labels`, and the number of a picture


class OwnArrays(CollectedWorld):
    """A user's arrays, checked: 80 % / 10 % / 10 % of the pictures.

    They are in an order that their number fixes. The file holds `images`, (picture, height, width)
    or (picture, height, width, channel) of uint8 or finite floats; `labels`, a class for each,
    numbered from 0; and any `factor_NAME` like `labels`. What exports call `world_NAME` is not
    read. Floats are shown as they are, uint8 from -1 to +1. `constants` are the factors of one
    value: there is nothing to learn or to probe, they are left out.
    """

    name = "own"

    def __init__(self, path: Path) -> None:
        self.path = path
        images, factors = read_arrays(path)
        self.constants = {
            name: int(values[0]) for name, values in factors.items() if not np.ptp(values)
        }

        n = len(images)
        is_bytes = images.dtype == np.uint8
        super().__init__(
            images=images,
            known={name: values for name, values in factors.items() if name not in self.constants},
            splits=shuffle_splits(
                "own", n, {"train": 8 * n // 10, "validation": 9 * n // 10, "test": n}
            ),
            low=0 if is_bytes else -1,
            high=255 if is_bytes else 1,
        )

    def check_factor(self, name: str) -> None:
        """BadInput for a factor that has one value."""
        if name in self.constants:
            raise BadInput(
                f"task.factor {name!r} is {self.constants[name]} for every picture of {self.path}: "
                "there is nothing to learn"
            )

    def list_notices(self, factor: str) -> list[str]:
        """What is odd about the file where this factor is learned, a line each; it can be trained.

        Factors of one value, classes without a training picture, floats that nobody scaled,
        pictures that are all the same or in training and in test.
        """
        notices = [
            f"factor {name!r} is {value} for every picture: it is left out"
            for name, value in self.constants.items()
        ]
        absent = np.setdiff1d(
            np.arange(self.factors[factor]), self.known[factor][self.splits["train"]]
        )
        if len(absent):
            last = self.factors[factor] - 1
            notices.append(
                f"{factor!r} goes from 0 to {last}, but no training picture has "
                f"{_list_some(absent.tolist())}"
            )
        notices += [*self._describe_pixels(), *self._describe_doubles()]
        return [f"{self.path}: {notice}" for notice in notices]

    def _describe_pixels(self) -> list[str]:
        least, most = self.images.min(), self.images.max()
        if self.images.dtype == np.uint8 or max(-least, most) <= USUAL:
            return []
        return [
            f"images are floats from {least:g} to {most:g}, shown as they are: learning expects "
            "about -1 to 1 (save bytes as uint8, or scale)"
        ]

    def _describe_doubles(self) -> list[str]:
        digests = np.array(
            [hashlib.blake2b(picture, digest_size=16).hexdigest() for picture in self.images]
        )
        if (digests == digests[0]).all():
            return ["all pictures are the same"]

        test = digests[self.splits["test"]]
        n = np.isin(test, digests[self.splits["train"]]).sum()
        if not n:
            return []
        return [f"{n} of {len(test)} test pictures are among the training pictures too"]


def load_own_arrays(npz: str, sha256: str = "") -> OwnArrays:
    """The user's file; BadInput where it is not the one of a SHA-256, if one is given."""
    path = Path(npz)
    check_npz(path)
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
    own = OwnArrays(path)
    if hash_file(path) != sha256:
        raise BadInput(f"{path} was written to while it was read: try again")
    return own


def read_arrays(path: Path) -> tuple[NDArray[np.generic], dict[str, NDArray[np.int64]]]:
    """Pictures, uint8 or float32, and factors by name; BadInput that says what does not fit.

    `labels` is the factor `class`.
    """
    arrays = read_npz(path, without="world_")
    for name in ("images", "labels"):
        if name not in arrays:
            raise BadInput(
                f"{path} has no array {name!r}: it holds {_list_some([*arrays]) or 'nothing'}, "
                f"wanted are {ALLOWED}"
            )

    images = _convert_images(path, arrays.pop("images"))
    factors = {}
    for name, values in arrays.items():
        factor = "class" if name == "labels" else _read_name(path, name)
        factors[factor] = _convert_factor(path, name, values, len(images))
    _check_labels(path, factors["class"])
    return images, factors


def _convert_images(path: Path, images: NDArray[np.generic]) -> NDArray[np.generic]:
    """Pictures as bytes or float32; BadInput where some cannot be shown, or there are too few."""
    _check_shape(path, images)
    if len(images) < LEAST_PICTURES:
        raise BadInput(
            f"{path} holds {len(images)} pictures: at least {LEAST_PICTURES} are needed to split "
            "them"
        )
    if images.dtype == np.uint8:
        return images

    with np.errstate(all="ignore"):
        floats = images.astype(np.float32)
    finite = np.isfinite(floats)
    if not finite.all():
        raise BadInput(
            f"images in {path} hold {np.count_nonzero(~finite)} numbers that are not finite "
            "as float32"
        )
    return floats


def _check_shape(path: Path, images: NDArray[np.generic]) -> None:
    """BadInput where pictures have no shape or type that can be shown.

    Long doubles have no one meaning: each type of machine writes its own.
    """
    is_float = images.dtype.kind == "f" and images.dtype.itemsize <= 8
    is_shown = images.dtype == np.uint8 or is_float
    if images.ndim not in (3, 4) or not is_shown or 0 in images.shape:
        raise BadInput(
            f"images in {path} must be (picture, height, width) or "
            "(picture, height, width, channel) of uint8 or floats of at most 64 bits, "
            f"got {images.shape} of {images.dtype}"
        )
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] > 4:
        raise BadInput(
            f"images in {path} have channels last, (picture, height, width, channel), "
            f"got {images.shape}"
        )


def _read_name(path: Path, name: str) -> str:
    """The factor that an array holds; BadInput where it has none, or not one that can be used."""
    factor = name.removeprefix("factor_")
    if factor == name:
        raise BadInput(f"{path} holds an array {_quote(name)}: allowed are {ALLOWED}")
    if factor in TAKEN:
        raise BadInput(f"{path} holds a factor {factor!r}: the name is taken, give it another")
    if not NAME.fullmatch(factor):
        raise BadInput(
            f"{path} holds a factor {_quote(factor)}: a name is 1 to 64 letters, digits, spaces "
            "and any of . - _, and ends in a letter, a digit or _"
        )
    return factor


def _convert_factor(
    path: Path, name: str, values: NDArray[np.generic], n: int
) -> NDArray[np.int64]:
    """The array as a factor of n pictures; BadInput where it is none."""
    if values.shape != (n,) or values.dtype.kind not in "biu":
        raise BadInput(
            f"{name} in {path} must be {n} whole numbers, one a picture, "
            f"got {values.shape} of {values.dtype}"
        )
    least, most = int(values.min()), int(values.max())
    if least < 0 or most >= MOST_VALUES:
        raise BadInput(
            f"{name} in {path} must be numbered 0 to {MOST_VALUES - 1}, got {least} to {most}"
        )
    return values.astype(np.int64)


def _check_labels(path: Path, labels: NDArray[np.int64]) -> None:
    """BadInput where there is one class only, or none for a number between others."""
    last = labels.max()
    if last == 0:
        raise BadInput(f"labels in {path} are all 0: at least two classes are needed")

    missing = np.setdiff1d(np.arange(last), labels).tolist()
    if missing:
        raise BadInput(
            f"labels in {path} go to {last}, but no picture has {_list_some(missing)}: "
            "number them from 0 without gaps, as numpy.unique(labels, return_inverse=True)[1] does"
        )


def _quote(name: str) -> str:
    return repr(name if len(name) <= MOST_SHOWN else f"{name[:MOST_SHOWN]}...")


def _list_some(things: Sequence[object]) -> str:
    """The first of them between commas, and whether there are more."""
    some = ", ".join(str(thing)[:MOST_SHOWN] for thing in things[:MOST_NAMED])
    return some + " and so on" * bool(things[MOST_NAMED:])
