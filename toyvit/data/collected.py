"""Collected pictures: MNIST, scikit-learn's small handwritten digits, and a user's own arrays."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from toyvit.config import ClassifyConfig
from toyvit.data import files
from toyvit.data.random import draw_bits, make_sample_keys
from toyvit.data.task import Task, ask_target, flip_answer, score_class_baselines
from toyvit.data.world import CollectedWorld, World
from toyvit.errors import BadInput


def shuffle_splits(name: str, n: int, cuts: Mapping[str, int]) -> dict[str, NDArray[np.int64]]:
    """Rows 0 to n - 1 in an order that the name fixes, cut into splits that end at the given places."""
    order = draw_bits(make_sample_keys(0, f"{name} split", np.array([0])), "order", n)[0].argsort(
        kind="stable"
    )
    return dict(zip(cuts, np.split(order, list(cuts.values())[:-1]), strict=True))


class Digits(CollectedWorld):
    """1,797 handwritten digits, 8 x 8 (Alpaydin & Kaynak 1998, the copy in scikit-learn): 1,297 / 200 / 300 pictures."""

    name: ClassVar[str] = "digits"

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        data = load_digits()
        splits = shuffle_splits("digits", 1797, {"train": 1297, "validation": 1497, "test": 1797})
        super().__init__(
            data.images.astype(np.uint8), {"class": data.target.astype(np.int64)}, splits, 0, 16
        )


class Mnist(CollectedWorld):
    """Handwritten digits, 28 x 28 (LeCun 1998): 55,000 / 5,000 training and validation pictures, 10,000 test pictures."""

    name: ClassVar[str] = "mnist"

    def __init__(self) -> None:
        root = files.find_mnist()
        if root is None:
            raise BadInput(
                f"MNIST is not here: run `toyvit data mnist` to download it, or {files.describe_mnist_files()}"
            )
        from toyvit.torchvision_guard import torchvision

        parts = [torchvision.datasets.MNIST(str(root), train=train) for train in (True, False)]
        images = np.concatenate([part.data.numpy() for part in parts])
        labels = np.concatenate([part.targets.numpy() for part in parts]).astype(np.int64)
        rows = np.split(np.arange(70000), [55000, 60000])
        super().__init__(
            images,
            {"class": labels},
            dict(zip(("train", "validation", "test"), rows, strict=True)),
            0,
            255,
        )


@lru_cache
def load_small_digits() -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """MNIST at half its size, sums of 2 x 2 pixels (picture 14 14), by split and digit; where each (split digit) begins."""
    mnist = Mnist()
    rows = np.concatenate(list(mnist.splits.values()))
    group = (
        np.repeat(10 * np.arange(len(mnist.splits)), list(map(len, mnist.splits.values())))
        + mnist.known["class"][rows]
    )
    order = group.argsort(kind="stable")
    sums = mnist.images[rows[order]].reshape(-1, 14, 2, 14, 2).sum((2, 4), dtype=np.int16)
    return sums, np.searchsorted(group[order], np.arange(10 * len(mnist.splits) + 1))


class OwnArrays(CollectedWorld):
    """A user's arrays, checked: 80 % / 10 % / 10 % of the pictures, in an order that their number fixes.

    The file holds `images`, (picture, height, width) or (picture, height, width, channel) of uint8 or finite floats; `labels`,
    a class for each, numbered from 0; and any `factor_NAME` like `labels`. What exports call `world_NAME` is not read.
    Floats are shown as they are, uint8 from -1 to +1.
    """

    name: ClassVar[str] = "own"

    def __init__(self, path: Path) -> None:
        arrays = _arrays(path)
        images = arrays.pop("images")
        known = {
            name.removeprefix("factor_"): values.astype(np.int64) for name, values in arrays.items()
        }
        known["class"] = known.pop("labels")
        low, high = (0, 255) if images.dtype == np.uint8 else (-1, 1)
        n = len(images)
        super().__init__(
            images,
            known,
            shuffle_splits("own", n, {"train": 8 * n // 10, "validation": 9 * n // 10, "test": n}),
            low,
            high,
        )


MOST_VALUES = 10_000  # of one factor


def _arrays(path: Path) -> dict[str, NDArray[np.generic]]:
    """`images`, `labels` and `factor_...` of an npz that fits; BadInput that says what does not. Pickles are never loaded."""
    if path.is_file() and not zipfile.is_zipfile(path):
        raise BadInput(f"{path} is not an npz file")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {
                name: archive[name] for name in archive.files if not name.startswith("world_")
            }
    except FileNotFoundError:
        raise BadInput(f"there is no file {path}") from None
    except (ValueError, OSError, zipfile.BadZipFile, AttributeError, EOFError) as error:
        why = (
            "it holds pickled objects, which are never loaded"
            if "pickle" in str(error)
            else str(error).splitlines()[0]
        )
        raise BadInput(f"{path} cannot be read as an npz of plain arrays: {why}") from None
    allowed = "images, labels, and factor_NAME for each further factor"
    for name in ("images", "labels"):
        if name not in arrays:
            raise BadInput(
                f"{path} has no array {name!r}: it holds {', '.join(arrays) or 'nothing'}, wanted are {allowed}"
            )
    images = arrays["images"]
    if (
        images.ndim not in (3, 4)
        or (images.dtype != np.uint8 and images.dtype.kind != "f")
        or 0 in images.shape
    ):
        raise BadInput(
            f"images in {path} must be (picture, height, width) or (picture, height, width, channel) of uint8 or floats, "
            f"got {images.shape} of {images.dtype}"
        )
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[3] > 4:
        raise BadInput(
            f"images in {path} have channels last, (picture, height, width, channel), got {images.shape}"
        )
    with np.errstate(over="ignore"):
        finite = np.isfinite(images.astype(np.float32))
    if not finite.all():
        raise BadInput(
            f"images in {path} hold {np.count_nonzero(~finite)} numbers that are not finite as float32"
        )
    if len(images) < 20:
        raise BadInput(f"{path} holds {len(images)} pictures: at least 20 are needed to split them")
    for name, values in arrays.items():
        if (
            name not in ("images", "labels") and not name.startswith("factor_")
        ) or name == "factor_class":
            raise BadInput(f"{path} holds an array {name!r}: allowed are {allowed}")
        if name != "images" and (values.shape != images.shape[:1] or values.dtype.kind not in "iu"):
            raise BadInput(
                f"{name} in {path} must be {len(images)} whole numbers, one a picture, got {values.shape} of {values.dtype}"
            )
        if name != "images" and not 0 <= values.min() <= values.max() < MOST_VALUES:
            raise BadInput(
                f"{name} in {path} must be numbered 0 to {MOST_VALUES - 1}, got {values.min()} to {values.max()}"
            )
    if arrays["labels"].max() == 0:
        raise BadInput(f"labels in {path} are all 0: at least two classes are needed")
    if missing := np.setdiff1d(np.arange(arrays["labels"].max()), arrays["labels"]).tolist():
        some = ", ".join(map(str, missing[:5])) + " and so on" * bool(missing[5:])
        raise BadInput(
            f"labels in {path} go to {arrays['labels'].max()}, but no picture has {some}: number them from 0 without gaps, "
            "as numpy.unique(labels, return_inverse=True)[1] does"
        )
    return arrays


COLLECTED: dict[str, type[CollectedWorld]] = {"digits": Digits, "mnist": Mnist}


@lru_cache
def load_collected(name: str) -> CollectedWorld:
    """The data set of that name, read once a process."""
    return COLLECTED[name]()  # type: ignore[call-arg]


@lru_cache
def load_own(npz: str) -> CollectedWorld:
    """The user's file, read once a process."""
    return OwnArrays(Path(npz))


def build_naming(config: ClassifyConfig, world: World, known: Iterable[str]) -> Task:
    """The task of naming the value of one factor of a world; `known` are the factors that probes read."""
    return Task(
        config=config,
        world=world,
        n_classes=world.factors[config.factor],
        ask=ask_target(lambda factors: factors[config.factor]),
        probe_factors=lambda factors: {name: factors[name] for name in known},
        baselines=lambda batch: score_class_baselines(batch.target),
        counterfactuals={}
        if isinstance(world, CollectedWorld)
        else {
            config.factor: flip_answer(world, config.factor, lambda factors: factors[config.factor])
        },
    )
