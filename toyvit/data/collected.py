"""Collected pictures: MNIST, and scikit-learn's small handwritten digits."""

from __future__ import annotations

from functools import lru_cache
from typing import ClassVar

import numpy as np

from toyvit.config import ClassifyConfig
from toyvit.data import source
from toyvit.data.draws import bits, sample_keys
from toyvit.data.task import Task, asking, class_baselines
from toyvit.data.world import CollectedWorld
from toyvit.errors import BadInput, choose


class Digits(CollectedWorld):
    """1,797 handwritten digits, 8 x 8 (Alpaydin & Kaynak 1998, the copy in scikit-learn): 1,297 / 200 / 300 pictures."""

    name: ClassVar[str] = "digits"

    def __init__(self) -> None:
        from sklearn.datasets import load_digits

        data = load_digits()
        order = bits(sample_keys(0, "digits split", np.array([0])), "order", len(data.target))[0].argsort(kind="stable")
        images, labels = data.images.astype(np.uint8)[order], data.target.astype(np.int64)[order]
        cuts = {"train": slice(0, 1297), "validation": slice(1297, 1497), "test": slice(1497, None)}
        super().__init__({split: (images[cut], labels[cut]) for split, cut in cuts.items()}, scale=16, n_classes=10)


class Mnist(CollectedWorld):
    """Handwritten digits, 28 x 28 (LeCun 1998): 55,000 / 5,000 training and validation pictures, 10,000 test pictures."""

    name: ClassVar[str] = "mnist"

    def __init__(self) -> None:
        root = source.mnist_root()
        if root is None:
            raise BadInput(f"MNIST is not here: run `toyvit data mnist` to download it, or {source.mnist_wanted()}")
        from toyvit.torchvision_guard import torchvision

        train, test = torchvision.datasets.MNIST(str(root), train=True), torchvision.datasets.MNIST(str(root), train=False)
        images, labels = train.data.numpy(), train.targets.numpy().astype(np.int64)
        splits = {
            "train": (images[:55000], labels[:55000]),
            "validation": (images[55000:], labels[55000:]),
            "test": (test.data.numpy(), test.targets.numpy().astype(np.int64)),
        }
        super().__init__(splits, scale=255, n_classes=10)


COLLECTED: dict[str, type[CollectedWorld]] = {"digits": Digits, "mnist": Mnist}


@lru_cache
def collected(name: str) -> CollectedWorld:
    """The data set of that name, read once a process."""
    return COLLECTED[name]()  # type: ignore[call-arg]


def classify(config: ClassifyConfig) -> Task:
    """Which class is it?"""
    world = collected(choose(config.world, COLLECTED, "world of the task classify"))
    return Task(
        config=config,
        world=world,
        n_classes=world.factors["class"],
        question=asking(lambda factors: factors["class"]),
        scalars=lambda factors: {"class": factors["class"]},
        baselines=lambda batch: class_baselines(batch.target),
    )
