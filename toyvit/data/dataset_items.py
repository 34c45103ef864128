"""What items of another library's data set hold: the image, the label, the names of classes."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray

from toyvit.data.own_pictures import list_some
from toyvit.errors import BadInput, choose

# Columns that are looked for where none is named.
IMAGE_COLUMNS = ("image", "img", "images", "picture", "pixel_values")
LABEL_COLUMNS = ("label", "labels", "class", "target", "fine_label")
Column = int | str


def choose_columns(item: object, image: str, label: str) -> tuple[Column, Column]:
    """Where an item has its image and its label; BadInput where that is not clear."""
    if isinstance(item, Mapping):
        names = [str(name) for name in item]
        return (
            _choose_column(names, "image", image, IMAGE_COLUMNS),
            _choose_column(names, "label", label, LABEL_COLUMNS),
        )
    if not isinstance(item, (tuple, list)) or len(item) < 2:
        raise BadInput(
            f"an item must be (image, label) or have columns, got {describe_value(item)}"
        )
    if image or label:
        raise BadInput("image and label name columns, and the data set's items are (image, label)")
    return 0, 1


def _choose_column(names: list[str], what: str, named: str, usual: Sequence[str]) -> str:
    if named:
        return choose(named, names, "column")
    for name in usual:
        if name in names:
            return name
    raise BadInput(f"no column is called {what}: name one of {list_some(names)} as {what}=...")


def read_column(item: object, column: Column, name: str) -> object:
    """What an item has in a column; BadInput where it has no such column."""
    if isinstance(item, Mapping) and column in item:
        value: object = item[column]
        return value
    if isinstance(item, (tuple, list)) and isinstance(column, int) and column < len(item):
        return item[column]
    raise BadInput(f"{name} of the data set is not like the first: got {describe_value(item)}")


def read_label(value: object, name: str) -> int | str:
    if isinstance(value, str):
        return value
    if isinstance(value, (torch.Tensor, np.ndarray)) and value.ndim == 0:
        value = value.item()
    if not isinstance(value, SupportsIndex) or isinstance(value, np.ndarray):
        raise BadInput(
            f"the label of {name} must be a whole number or a text, got {describe_value(value)}"
        )
    return operator.index(value)


def number_labels(
    labels: list[int | str], names: tuple[str, ...]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels as numbers, and the names of the classes; texts are names themselves."""
    texts = [label for label in labels if isinstance(label, str)]
    if not texts:
        return np.array(labels, np.int64), names
    if len(texts) < len(labels):
        raise BadInput("labels of the data set are both numbers and texts")
    order, numbers = np.unique(texts, return_inverse=True)
    return numbers, tuple(order.tolist())


def find_class_names(dataset: object, column: Column) -> tuple[str, ...]:
    """Names of the classes as the data set has them, or the one that it is a part of."""
    while dataset is not None:
        features = getattr(dataset, "features", None)
        if isinstance(features, Mapping):
            names = getattr(features.get(column), "names", None)
        else:
            names = getattr(dataset, "classes", None)
        if names:
            return tuple(str(name[0] if isinstance(name, tuple) else name) for name in names)
        dataset = getattr(dataset, "dataset", None)
    return ()


def describe_value(value: object) -> str:
    shape = getattr(value, "shape", None)
    kind = type(value).__name__
    return kind if shape is None else f"{kind} {tuple(shape)} of {getattr(value, 'dtype', '?')}"
