"""A user's own arrays: read from an npz file and checked."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toyvit.data.npz_files import Arrays, read_npz
from toyvit.data.own_pictures import MOST_SHOWN, PictureSet, check_number, list_some
from toyvit.data.picture_stack import check_memory
from toyvit.errors import BadInput, escape_text

MOST_VALUES = 10_000  # of one factor
MOST_OBJECTS = 2**16
# Arrays that are no factors; those after the first two may be missing.
ARRAYS = ("images", "labels", "class_names", "masks", "counterfactuals", "counterfactual_labels")
ALLOWED = f"{', '.join(ARRAYS)}, and factor_NAME for each further factor"
# Names stand in tables, titles of figures and lists between commas.
NAME = re.compile(r"\w([\w .-]{0,62}\w)?")
TAKEN = ("class", "row")  # `labels`, and the number of a picture


def read_arrays(path: Path) -> PictureSet:
    """The pictures of an npz file; BadInput that says what does not fit.

    The file holds `images`, (picture, height, width) or (picture, height, width, channel) of uint8
    or finite floats; `labels`, a class for each, numbered from 0, which are the factor `class`; and
    any `factor_NAME` like `labels`. It may hold `class_names`, a text a class; `masks` (picture,
    height, width), whole numbers that say which object a pixel shows, 0 for none; and
    `counterfactuals` like `images` with their `counterfactual_labels`. What exports call
    `world_NAME` is not read.
    """
    return check_arrays(path, read_npz(path, without="world_"))


def check_arrays(path: Path, arrays: Arrays) -> PictureSet:
    """Arrays as the pictures of a file that holds them; BadInput names the file."""
    for name in ARRAYS[:2]:
        if name not in arrays:
            raise BadInput(
                f"{path} has no array {name!r}: it holds {list_some([*arrays]) or 'nothing'}, "
                f"wanted are {ALLOWED}"
            )

    images = _convert_images(path, "images", arrays["images"])
    n = len(images)
    check_number(n, path)
    factors = {"class": _convert_factor(path, "labels", arrays["labels"], n)}
    for name, values in arrays.items():
        if name not in ARRAYS:
            factors[_read_name(path, name)] = _convert_factor(path, name, values, n)
    names = _read_class_names(path, arrays)
    _check_labels(path, factors["class"], names)

    pictures = PictureSet(
        place=path,
        images=images,
        factors=factors,
        class_names=names,
        masks=_convert_masks(path, arrays, images),
    )
    return _add_counterparts(pictures, arrays)


def _convert_images(path: Path, name: str, images: NDArray[np.generic]) -> NDArray[np.generic]:
    """Pictures (picture height width channel) as bytes or float32; BadInput where some cannot be
    shown.
    """
    _check_shape(path, name, images)
    images = images if images.ndim == 4 else images[..., None]
    if images.dtype == np.uint8:
        return images

    with np.errstate(all="ignore"):
        floats = images.astype(np.float32)
    finite = np.isfinite(floats)
    if not finite.all():
        raise BadInput(
            f"{name} in {path} hold {np.count_nonzero(~finite)} numbers that are not finite "
            "as float32"
        )
    return floats


def _check_shape(path: Path, name: str, images: NDArray[np.generic]) -> None:
    """BadInput where pictures have no shape or type that can be shown.

    Long doubles have no one meaning: each type of machine writes its own.
    """
    is_float = images.dtype.kind == "f" and images.dtype.itemsize <= 8
    is_shown = images.dtype == np.uint8 or is_float
    if images.ndim not in (3, 4) or not is_shown or 0 in images.shape:
        raise BadInput(
            f"{name} in {path} must be (picture, height, width) or "
            "(picture, height, width, channel) of uint8 or floats of at most 64 bits, "
            f"got {images.shape} of {images.dtype}"
        )
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] > 4:
        raise BadInput(
            f"{name} in {path} have channels last, (picture, height, width, channel), "
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


def _check_labels(path: Path, labels: NDArray[np.int64], names: tuple[str, ...]) -> None:
    """BadInput where there is one class only, or none for a number between others.

    A class that has a name needs no picture.
    """
    last = int(labels.max())
    if np.ptp(labels) == 0:
        raise BadInput(f"labels in {path} are all {last}: at least two classes are needed")
    if names and last >= len(names):
        raise BadInput(f"labels in {path} go to {last}, but class_names has {len(names)} names")

    missing = np.setdiff1d(np.arange(last), labels).tolist()
    if missing and not names:
        raise BadInput(
            f"labels in {path} go to {last}, but no picture has {list_some(missing)}: "
            "number them from 0 without gaps, as numpy.unique(labels, return_inverse=True)[1] does"
        )


def _read_class_names(path: Path, arrays: Arrays) -> tuple[str, ...]:
    """The names of the classes as they are shown; none where the file has none."""
    names = arrays.get("class_names")
    if names is None:
        return ()
    if names.ndim != 1 or names.dtype.kind != "U" or not 2 <= len(names) <= MOST_VALUES:
        raise BadInput(
            f"class_names in {path} must be 2 to {MOST_VALUES} texts, a name for each class, "
            f"got {names.shape} of {names.dtype}"
        )
    try:
        shown = [escape_text(str(name)) for name in names]
    except (ValueError, SystemError):  # numbers that are no characters
        raise BadInput(f"class_names in {path} hold what is no text") from None
    if "" in shown:
        raise BadInput(f"class_names in {path} hold an empty name")
    return tuple(shown)


def _convert_masks(
    path: Path, arrays: Arrays, images: NDArray[np.generic]
) -> NDArray[np.uint16] | None:
    """The objects of all pixels; BadInput where they do not fit the pictures."""
    masks = arrays.get("masks")
    if masks is None:
        return None
    if masks.shape != images.shape[:3] or masks.dtype.kind not in "biu":
        raise BadInput(
            f"masks in {path} must be whole numbers (picture, height, width), "
            f"{images.shape[:3]} as the images, got {masks.shape} of {masks.dtype}"
        )
    least, most = int(masks.min()), int(masks.max())
    if least < 0 or most >= MOST_OBJECTS:
        raise BadInput(
            f"masks in {path} must be numbers 0 to {MOST_OBJECTS - 1}, got {least} to {most}"
        )
    return masks.astype(np.uint16)


def _add_counterparts(pictures: PictureSet, arrays: Arrays) -> PictureSet:
    """The pictures with those of another class that the file has for them, where it has some."""
    path = pictures.place
    together = [name for name in ARRAYS[4:] if name in arrays]
    if not together:
        return pictures
    if len(together) == 1:
        raise BadInput(f"{path} has {together[0]} alone: {' and '.join(ARRAYS[4:])} go together")

    images = pictures.images
    n = len(images)
    others = _convert_images(path, "counterfactuals", arrays["counterfactuals"])
    if others.shape != images.shape or others.dtype != images.dtype:
        raise BadInput(
            f"counterfactuals in {path} must be {images.shape} of {images.dtype} as the images, "
            f"got {others.shape} of {others.dtype}"
        )
    classes = _convert_factor(path, "counterfactual_labels", arrays["counterfactual_labels"], n)
    n_classes = len(pictures.class_names) or int(pictures.factors["class"].max()) + 1
    if classes.max() >= n_classes:
        raise BadInput(
            f"counterfactual_labels in {path} go to {classes.max()}, labels to {n_classes - 1}"
        )
    check_memory(images.nbytes + others.nbytes, "pictures and their counterfactuals")
    return replace(
        pictures,
        images=np.concatenate([images, others]),
        others=n + np.arange(n),
        other_classes=classes,
    )


def _quote(name: str) -> str:
    return repr(name if len(name) <= MOST_SHOWN else f"{name[:MOST_SHOWN]}...")
