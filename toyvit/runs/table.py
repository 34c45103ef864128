"""The table of measures: written once a cell by `measure`, read as one tidy pandas frame.

A cell is (step, checkpoint, analysis, version, digest of settings and evaluation images). Its
numbers are rows: quantity, axes, value. SQLite in WAL mode, so that reading goes on while a sweep
writes; only one process writes. Whatever is read is compared with its digests first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

import pandas as pd
from torch import Tensor

from toyvit.errors import BadInput, choose
from toyvit.runs.cells import (
    Contents,
    Row,
    holds_numbers,
    list_evaluations,
    read_baselines,
    read_contents,
    read_part,
)
from toyvit.runs.database import open_to_read
from toyvit.runs.folder import RunFolder
from toyvit.runs.frames import COLUMNS


def build_rows(
    quantity: str, value: Tensor, axes: str, tags: Mapping[str, str] | None = None
) -> list[Row]:
    """A tensor as rows (quantity, {tag: text, axis: position}, number); NaN is left out.

    ValueError where the tensor has not the axes, or a tag has the name of an axis or of a column.

    >>> import torch
    >>> build_rows("accuracy", torch.tensor([torch.nan, 0.5]), "layer", {"factor": "a, b"})
    [('accuracy', {'factor': 'a, b', 'layer': 1}, 0.5)]
    """
    tags = dict(tags or {})
    names = axes.split()
    _check_names(quantity, value, names, tags)

    rows = []
    places = product(*map(range, value.shape))
    numbers = value.double().flatten().tolist()
    for place, number in zip(places, numbers, strict=True):
        if number == number:
            rows.append((quantity, tags | dict(zip(names, place, strict=True)), number))
    return rows


def _check_names(quantity: str, value: Tensor, axes: list[str], tags: Mapping[str, str]) -> None:
    if value.ndim != len(axes):
        raise ValueError(f"{quantity} has axes {axes}, but its tensor {value.ndim} dimensions")
    if taken := tags.keys() & {*axes, *COLUMNS}:
        raise ValueError(f"a tag of {quantity} cannot be called {min(taken)!r}: a column is")


def describe_damage(folder: RunFolder, contents: Contents) -> str:
    """What is damaged in the table of a run, and what makes it again."""
    again = f"`toyvit measure {folder.path}` makes it again"
    if len(contents.damaged):
        first = contents.damaged.iloc[0]
        more = f" and {len(contents.damaged) - 1} more" if len(contents.damaged) > 1 else ""
        place = f"the cell of {first['analysis']} at step {first['step']}{more}"
        names = ",".join(sorted({str(name) for name in contents.damaged["analysis"]}))
        again = f"`toyvit measure {folder.path} --analyses {names}` makes it again"
    elif contents.broken:
        place = f"the baselines of the evaluation {contents.broken[0][:12]}"
    elif contents.stray:
        place = "numbers whose cell is missing"
    else:
        place = "an index or a page"
    return f"is damaged: {place}; {again}"


def has_measures(folder: RunFolder) -> bool:
    """Whether a run's table holds any number; BadInput where the file is no table."""
    with open_to_read(folder.check_exists().measures) as db:
        return db is not None and holds_numbers(db)


def read_whole(folder: RunFolder) -> Contents:
    """All that a run's table holds; BadInput where nothing is measured, or anything is damaged."""
    with open_to_read(folder.check_exists().measures) as db:
        contents = None if db is None else read_contents(db, folder.hash_run())
    return _check_whole(folder, None if contents and contents.is_empty else contents)


def read_analyses(folder: RunFolder, analyses: Sequence[str]) -> Contents:
    """What a run's table holds of some analyses, see `read_part`; BadInput as of `read_whole`."""
    with open_to_read(folder.check_exists().measures) as db:
        contents = None if db is None else read_part(db, folder.hash_run(), analyses)
    return _check_whole(folder, contents)


def _check_whole(folder: RunFolder, contents: Contents | None) -> Contents:
    if contents is None:
        raise BadInput(f"{folder.path} has no measures yet: run `toyvit measure {folder.path}`")
    if not contents.is_whole:
        raise BadInput(f"{folder.measures} {describe_damage(folder, contents)}")
    return contents


def find_baselines(folder: RunFolder) -> dict[str, float] | None:
    """See `select_baselines`, without reading numbers; None where only these can tell.

    That is where test pictures of several evaluations were measured, or those of one that has no
    baselines.
    """
    with open_to_read(folder.check_exists().measures) as db:
        if db is None:
            return None
        evaluations = list_evaluations(db, "test")
        baselines, broken = read_baselines(db, folder.hash_run())
    is_clear = len(evaluations) == 1 and not broken
    return baselines.get(evaluations[0]) if is_clear else None


def select_main_rows(frame: pd.DataFrame, split: str = "test") -> pd.DataFrame:
    """The rows of one split, on as many images as most of them were measured on.

    >>> frame = pd.DataFrame({"split": "test", "images": [512, 512, 64], "value": [1.0, 2.0, 3.0]})
    >>> select_main_rows(frame)["value"].tolist()
    [1.0, 2.0]
    """
    rows = frame[frame["split"] == split]
    return rows[rows["images"] == rows["images"].mode()[0]] if len(rows) else rows


def select_curve(
    frame: pd.DataFrame,
    analysis: str,
    quantity: str,
    how: str = "max",
    split: str = "test",
    **where: object,
) -> pd.Series:
    """One value a step: the strongest head (or another aggregate) of a quantity of a table.

    On most images of a split. `where` keeps the rows with given axes or tags; BadInput for one
    that no quantity of the table has.

    >>> columns = {"step": [0, 0, 9], "analysis": "heads", "quantity": "score", "head": [0, 1, 1]}
    >>> frame = pd.DataFrame(columns | {"split": "test", "images": 512, "value": [0.1, 0.4, 0.9]})
    >>> select_curve(frame, "heads", "score").to_dict()
    {0: 0.4, 9: 0.9}
    >>> select_curve(frame, "heads", "score", head=0).to_dict()
    {0: 0.1}
    """
    rows = frame[(frame["analysis"] == analysis) & (frame["quantity"] == quantity)]
    for axis, value in where.items():
        choose(axis, [name for name in frame.columns if name not in COLUMNS], "axis or tag")
        rows = rows[rows[axis] == value]
    curve = select_main_rows(rows, split).groupby("step")["value"].agg(how)
    curve.index = curve.index.astype("int64")
    return curve


def select_baselines(contents: Contents) -> dict[str, float]:
    """What predictors that know less score on the test images that most cells were measured on.

    By name: `accuracy.NAME` and `loss.NAME`.
    """
    cells = contents.cells
    digests = cells["digest"][cells["split"] == "test"].value_counts()
    return contents.baselines.get(digests.index[0], {}) if len(digests) else {}
