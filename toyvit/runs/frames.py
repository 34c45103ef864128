"""The frame of a table of measures: texts are categories, and whole numbers are small.

A row takes some 60 bytes. Texts of a run are few, and each stands in the frame once; a category is
equal to its text, and categories are sorted as texts are.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.extensions import ExtensionArray

from toyvit.config.foreign_files import parse_object
from toyvit.errors import BadInput, suggest_nearest
from toyvit.runs.cells import Contents
from toyvit.runs.folder import RunFolder
from toyvit.runs.manifest import ManifestEntry

logger = logging.getLogger(__name__)

# Columns of the frame that are neither axes nor tags.
COLUMNS = ("run", "step", "analysis", "quantity", "split", "images", "value")
Column = ExtensionArray | NDArray[np.generic]
Places = NDArray[np.intp]

# As Python's strings, also where pyarrow is installed: names of folders and factors may hold what
# is no UTF-8.
keeping_texts = pd.option_context("mode.string_storage", "python")


@keeping_texts
def build_table(
    folder: RunFolder, contents: Contents, entries: Iterable[ManifestEntry]
) -> pd.DataFrame:
    """Every measured number of a run, one a row.

    Columns: run, step, analysis, quantity, axes and tags, split, images, value. Texts are
    categories. Axes that a quantity does not have are missing (<NA>), tags too (NaN). Rows of
    checkpoints that are not among the entries are left out, and those of an earlier version of an
    analysis, which is said.
    """
    current = {(entry.step, entry.sha256) for entry in entries}
    pairs = zip(contents.cells["step"], contents.cells["sha256"], strict=True)
    is_current = np.array([pair in current for pair in pairs], bool)
    cells = _select_newest(folder, contents.cells[is_current])
    numbers, of_cell, of_place = _order_numbers(cells, contents)

    # Places are parsed and named once, not for each of their numbers.
    used, of_place = np.unique(of_place, return_inverse=True)
    places = contents.places.iloc[used]
    axes = _parse_axes(places, f"{folder.measures}, axes of a number,")
    columns = {name: column.take(of_cell) for name, column in _name_cells(folder, cells).items()}
    columns["quantity"] = _categorize(places["quantity"]).take(of_place)
    columns |= {name: column.take(of_place) for name, column in axes.items()}
    columns["value"] = numbers["value"].to_numpy()

    order = ["run", "step", "analysis", "quantity", *axes, "split", "images", "value"]
    return pd.DataFrame({name: columns[name] for name in order})


def _order_numbers(cells: pd.DataFrame, contents: Contents) -> tuple[pd.DataFrame, Places, Places]:
    """The numbers of these cells by step, cell and place; where each one's cell and place stand."""
    numbers = contents.numbers
    of_cell = pd.Index(cells["id"]).get_indexer(numbers["cell"])
    of_place = pd.Index(contents.places["id"]).get_indexer(numbers["place"])
    is_row = (of_cell >= 0) & (of_place >= 0)
    numbers = numbers[is_row]

    steps = cells["step"].to_numpy("int64")[of_cell[is_row]]
    order = np.lexsort((numbers["place"], numbers["cell"], steps))
    return numbers.iloc[order], of_cell[is_row][order], of_place[is_row][order]


def _name_cells(folder: RunFolder, cells: pd.DataFrame) -> dict[str, Column]:
    """What rows of the frame have of their cell."""
    return {
        "run": _categorize([folder.path.name] * len(cells)),
        "step": _shrink(cells["step"]),
        "analysis": _categorize(cells["analysis"]),
        "split": _categorize(cells["split"]),
        "images": _shrink(cells["images"]),
    }


def _categorize(values: Iterable[str | int | None]) -> Column:
    """Texts as categories in the order of letters; None is missing.

    Those of which one is no UTF-8 stay texts: pandas does not concatenate such categories.
    """
    texts = list(values)
    names = sorted({text for text in texts if text is not None}, key=_rank_name)
    if not all(map(_is_unicode, names)):
        return pd.Series(texts).array
    codes: dict[str | int | None, int] = {name: code for code, name in enumerate(names)}
    kind = pd.CategoricalDtype(names)
    return pd.Categorical.from_codes([codes.get(text, -1) for text in texts], dtype=kind)


def _is_unicode(name: str | int) -> bool:
    try:
        str(name).encode()
    except UnicodeEncodeError:
        return False
    return True


def _rank_name(name: str | int) -> tuple[bool, str | int]:
    """Whole numbers before texts."""
    return isinstance(name, str), name


def _shrink(values: Iterable[int]) -> NDArray[np.generic]:
    """Whole numbers of 32 bits, or of 64 where that is too few."""
    wide = np.array(list(values), "int64")
    narrow = wide.astype("int32")
    return narrow if np.array_equal(narrow, wide) else wide


def _select_newest(folder: RunFolder, cells: pd.DataFrame) -> pd.DataFrame:
    """The cells of the newest version of each analysis: numbers of two are not one curve."""
    newest: dict[str, int] = {}
    versions = set(zip(cells["analysis"], cells["version"], strict=True))
    for name, version in versions:
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


def _parse_axes(places: pd.DataFrame, place: str) -> dict[str, Column]:
    """A column for each axis and tag, in the order in which they come; missing where a place does
    not have it.
    """
    pairs = zip(places["quantity"], places["axes"], strict=True)
    parsed = [_parse_place(*texts, place) for texts in pairs]
    names = dict.fromkeys(name for axes in parsed for name in axes)
    return {name: _build_axis([axes.get(name) for axes in parsed]) for name in names}


def _build_axis(values: Sequence[str | int | None]) -> Column:
    """Positions as 16 bits, or 32, so that a little arithmetic does not overflow; else categories.

    A name that is an axis here and a tag there has both among its categories.
    """
    if any(isinstance(value, str) for value in values):
        return _categorize(values)
    numbers = [value if isinstance(value, int) else pd.NA for value in values]
    is_small = all(value is pd.NA or value < 1 << 15 for value in numbers)
    return pd.array(numbers, dtype="Int16" if is_small else "Int32")


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


@keeping_texts
def select_rows(
    frame: pd.DataFrame,
    where: str,
    analyses: Collection[str] | None = None,
    quantities: Collection[str] | None = None,
) -> pd.DataFrame:
    """The rows of some analyses and quantities, with the axes and the tags that they have.

    BadInput, which says where, for a name that no row has.
    """
    for column, names in (("analysis", analyses), ("quantity", quantities)):
        if names is not None:
            check_names(column, names, frame[column].unique(), where)
            frame = frame[frame[column].isin(names)]
    if analyses is None and quantities is None:
        return frame

    missing = [name for name in frame if name not in COLUMNS and frame[name].isna().all()]
    frame = frame.drop(columns=missing).reset_index(drop=True)
    for name in frame.select_dtypes("category"):
        frame[name] = frame[name].cat.remove_unused_categories()
    return frame


def check_names(column: str, names: Collection[str], measured: Iterable[str], where: str) -> None:
    """BadInput, with the nearest match, unless all names are measured."""
    allowed = list(measured)
    for name in names:
        if name not in allowed:
            listed = ", ".join(allowed) or "none"
            raise BadInput(
                f"{where} has no measures of the {column} {name!r}: measured are {listed}"
                f"{suggest_nearest(name, allowed)}"
            )
