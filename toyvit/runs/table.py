"""The table of measures: written once a cell by `measure`, read as one tidy pandas frame.

A cell is (step, checkpoint, analysis, version, digest of settings and evaluation images). Its
numbers are rows: quantity, axes, value. SQLite in WAL mode, so that reading goes on while a sweep
writes; only one process writes. Whatever is read is compared with its digests first.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from itertools import product

import pandas as pd
from torch import Tensor

from toyvit.config.foreign_files import parse_object
from toyvit.errors import BadInput, choose
from toyvit.runs.cells import Contents, Row, read_contents
from toyvit.runs.database import open_to_read
from toyvit.runs.folder import RunFolder
from toyvit.runs.manifest import ManifestEntry

logger = logging.getLogger(__name__)

# Columns of the frame that are neither axes nor tags.
COLUMNS = ("run", "step", "analysis", "quantity", "split", "images", "value")


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
        query = "select exists (select 1 from numbers)"
        return db is not None and bool(db.execute(query).fetchone()[0])


def read_whole(folder: RunFolder) -> Contents:
    """All that a run's table holds; BadInput where nothing is measured, or anything is damaged."""
    with open_to_read(folder.check_exists().measures) as db:
        contents = None if db is None else read_contents(db, folder.hash_run())
    if contents is None or contents.is_empty:
        raise BadInput(f"{folder.path} has no measures yet: run `toyvit measure {folder.path}`")
    if not contents.is_whole:
        raise BadInput(f"{folder.measures} {describe_damage(folder, contents)}")
    return contents


# As Python's strings, also where pyarrow is installed: names of folders and factors may hold what
# is no UTF-8.
keeping_texts = pd.option_context("mode.string_storage", "python")


@keeping_texts
def build_table(
    folder: RunFolder, contents: Contents, entries: Iterable[ManifestEntry]
) -> pd.DataFrame:
    """Every measured number of a run, one a row.

    Columns: run, step, analysis, quantity, axes and tags, split, images, value. Axes that a
    quantity does not have are missing (<NA>). Rows of checkpoints that are not among the entries
    are left out, and those of an earlier version of an analysis, which is said.
    """
    cells = contents.cells
    current = {(entry.step, entry.sha256) for entry in entries}
    is_current = [pair in current for pair in zip(cells["step"], cells["sha256"], strict=True)]
    cells = _select_newest(folder, cells[is_current])

    numbers = contents.numbers.merge(_name_columns(cells), on="cell")
    places = contents.places.rename(columns={"id": "place"})
    places = places[places["place"].isin(numbers["place"])].infer_objects()
    axes = _parse_axes(places, f"{folder.measures}, axes of a number,")
    places = pd.concat([places.drop(columns="axes"), axes], axis=1)

    frame = numbers.merge(places, on="place")
    frame.insert(0, "run", folder.path.name)
    order = ["run", "step", "analysis", "quantity", *axes.columns, "split", "images", "value"]
    return frame.sort_values(["step", "cell", "place"], ignore_index=True)[order]


def _name_columns(cells: pd.DataFrame) -> pd.DataFrame:
    """What rows of the frame have of their cell."""
    columns = cells[["id", "step", "analysis", "split", "images"]].rename(columns={"id": "cell"})
    return columns.infer_objects()


def _select_newest(folder: RunFolder, cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of the newest version of each analysis: numbers of two are not one curve."""
    newest: dict[str, int] = {}
    versions = cells[["analysis", "version"]].drop_duplicates()
    for name, version in versions.itertuples(index=False, name=None):
        newest[name] = max(newest.get(name, 0), _rank_version(version))
    if len(newest) == len(versions):
        return cells

    numbers = cells["version"].map(_rank_version)
    is_old = numbers < cells["analysis"].map(newest)
    if is_old.any():
        names = ",".join(sorted(set(cells["analysis"][is_old])))
        logger.warning(
            "%s: %d cells of an earlier version of an analysis are left out:"
            " `toyvit measure %s --analyses %s` measures them again where that is not done",
            folder.measures,
            is_old.sum(),
            folder.path,
            names,
        )
    return cells[~is_old]


def _rank_version(version: int | str) -> int:
    """The number in a version: that of an analysis from outside names its package too.

    >>> _rank_version(2), _rank_version("2 toyvit-stripes 0.1.0")
    (2, 2)
    """
    number = str(version).partition(" ")[0]
    return int(number) if number.isdecimal() and len(number) < 10 else 0


def _parse_axes(places: pd.DataFrame, place: str) -> pd.DataFrame:
    """A column for each axis and tag; <NA> where a place does not have it."""
    pairs = zip(places["quantity"], places["axes"], strict=True)
    parsed = [_parse_place(*texts, place) for texts in pairs]
    axes = pd.DataFrame(parsed, index=places.index)
    for name in axes:
        if pd.api.types.is_numeric_dtype(axes[name]):
            axes[name] = axes[name].astype("Int64")
    return axes


def _parse_place(quantity: object, text: object, place: str) -> dict[str, str | int]:
    """Axes and tags of a number; BadInput unless they are texts and small whole numbers."""
    if not (isinstance(quantity, str) and isinstance(text, str)):
        raise BadInput(f"{place} are damaged: they are no text")
    axes = parse_object(text, place)
    for name, value in axes.items():
        is_number = type(value) is int and 0 <= value < 1 << 31
        if name in COLUMNS or not (is_number or isinstance(value, str)):
            raise BadInput(f"{place} are damaged: {name!r} cannot be {str(value)[:40]!r}")
    return axes


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
    return select_main_rows(rows, split).groupby("step")["value"].agg(how)


def select_baselines(contents: Contents) -> dict[str, float]:
    """What predictors that know less score on the test images that most cells were measured on.

    By name: `accuracy.NAME` and `loss.NAME`.
    """
    cells = contents.cells
    digests = cells["digest"][cells["split"] == "test"].value_counts()
    return contents.baselines.get(digests.index[0], {}) if len(digests) else {}
