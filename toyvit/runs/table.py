"""The table of measures: written once a cell by `measure`, read as one tidy pandas frame.

A cell is (step, checkpoint, analysis, version, digest of settings and evaluation images). Its
numbers are rows: quantity, axes, value. SQLite in WAL mode, so that reading goes on while a sweep
writes; only one process writes.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from itertools import product
from pathlib import Path

import pandas as pd
from torch import Tensor

from toyvit.errors import BadInput, choose
from toyvit.runs.access import check_writable, connect_to_read, is_writable
from toyvit.runs.folder import ManifestEntry, RunFolder

SCHEMA = """
create table if not exists cells (
    id integer primary key, step integer, sha256 text, analysis text, version integer, digest text,
    split text, images integer, unique (step, sha256, analysis, version, digest)
);
create table if not exists places (
    id integer primary key, quantity text, axes text, unique (quantity, axes)
);
create table if not exists numbers (
    cell integer references cells, place integer references places, value real
);
create index if not exists numbers_of_a_cell on numbers (cell);
create table if not exists baselines (
    digest text, name text, value real, unique (digest, name)
);
"""
# Columns of the frame that are neither axes nor tags.
COLUMNS = ("run", "step", "analysis", "quantity", "split", "images", "value")


@dataclass(frozen=True)
class Cell:
    """What is measured once: the identity of a piece of work."""

    step: int
    sha256: str
    analysis: str
    version: int | str
    digest: str


Row = tuple[str, dict[str, str | int], float]


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


class MeasureTable:
    """The open table of one run: `with MeasureTable(folder) as table: ...`; one process writes."""

    def __init__(self, folder: RunFolder) -> None:
        self.path = folder.measures

    def __enter__(self) -> MeasureTable:
        self.is_writable = is_writable(self.path.parent)
        try:
            if not self.is_writable:  # what is measured can be looked up
                self.db = connect_to_read(self.path)
                self.list_done()
                return self
            self.db = sqlite3.connect(self.path, timeout=60)
            self.db.execute("pragma journal_mode=wal")
            self.db.executescript(SCHEMA)
        except sqlite3.DatabaseError as error:
            raise BadInput(f"{self.path} cannot be used as a table of measures: {error}") from None
        return self

    def __exit__(self, *exception: object) -> None:
        self.db.close()

    def check_writable(self) -> None:
        """BadInput where the table can only be read."""
        check_writable(self.path.parent, "measure a copy of it")

    def list_done(self) -> set[Cell]:
        """Every finished cell."""
        rows = self.db.execute("select step, sha256, analysis, version, digest from cells")
        return {Cell(*row) for row in rows}

    def cells_where(self, quantity: str) -> set[Cell]:
        """The finished cells in which a quantity that is 0 or 1 is 1."""
        rows = self.db.execute(
            "select step, sha256, analysis, version, digest from cells"
            " join numbers on numbers.cell = cells.id join places on places.id = numbers.place"
            " where quantity = ? and value = 1",
            (quantity,),
        )
        return {Cell(*row) for row in rows}

    def write(self, cell: Cell, split: str, images: int, rows: Iterable[Row]) -> None:
        """A cell with its rows, all or nothing; one that is there already stays as it is."""
        with self.db:
            added = self.db.execute(
                "insert or ignore into cells"
                " (step, sha256, analysis, version, digest, split, images)"
                " values (?, ?, ?, ?, ?, ?, ?)",
                (*astuple(cell), split, images),
            )
            if not added.rowcount:
                return

            texts = [(quantity, json.dumps(axes), value) for quantity, axes, value in rows]
            self.db.executemany(
                "insert or ignore into places (quantity, axes) values (?, ?)",
                [(quantity, axes) for quantity, axes, _ in texts],
            )
            self.db.executemany(
                "insert into numbers select ?, id, ? from places where quantity = ? and axes = ?",
                [(added.lastrowid, value, quantity, axes) for quantity, axes, value in texts],
            )

    def has_baselines(self, digest: str) -> bool:
        """Whether the baselines of an evaluation are written."""
        query = "select exists (select 1 from baselines where digest = ?)"
        return bool(self.db.execute(query, (digest,)).fetchone()[0])

    def write_baselines(self, digest: str, baselines: Mapping[str, float]) -> None:
        """What predictors that know less score in an evaluation, by name."""
        with self.db:
            lines = [(digest, name, value) for name, value in baselines.items()]
            self.db.executemany("insert or replace into baselines values (?, ?, ?)", lines)


def has_measures(folder: RunFolder) -> bool:
    """Whether a run's table holds any number; BadInput where the file is no table."""
    file = folder.check_exists().measures
    if not file.exists():
        return False

    with _opened(file) as db:
        query = "select count(*) from sqlite_master where name = 'numbers'"
        if not db.execute(query).fetchone()[0]:
            return False
        return bool(db.execute("select exists (select 1 from numbers)").fetchone()[0])


@contextmanager
def _reading(folder: RunFolder) -> Iterator[sqlite3.Connection]:
    """The table of a run, open; BadInput where nothing has been measured."""
    if not has_measures(folder):
        raise BadInput(f"{folder.path} has no measures yet: run `toyvit measure {folder.path}`")
    with _opened(folder.measures) as db:
        yield db


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(connect_to_read(file)) as db:
            yield db
    except (sqlite3.DatabaseError, pd.errors.DatabaseError) as error:
        reason = str(error).splitlines()[-1]
        raise BadInput(f"{file} cannot be read as a table of measures: {reason}") from None


def read_table(folder: RunFolder, entries: Iterable[ManifestEntry]) -> pd.DataFrame:
    """Every measured number of a run, one a row.

    Columns: run, step, analysis, quantity, axes and tags, split, images, value. Axes that a
    quantity does not have are missing (<NA>). Rows of checkpoints that are not among the entries
    are left out. BadInput where nothing is measured, or the file is no table.
    """
    with _reading(folder) as db:
        query = "select id as cell, step, sha256, analysis, split, images from cells"
        cells = pd.read_sql(query, db)
        places = pd.read_sql("select id as place, quantity, axes from places", db)
        numbers = pd.read_sql("select cell, place, value from numbers", db)

    current = {(entry.step, entry.sha256) for entry in entries}
    keep = [pair in current for pair in zip(cells["step"], cells["sha256"], strict=True)]
    axes = _parse_axes(places.pop("axes"))
    places = pd.concat([places, axes], axis=1)

    frame = numbers.merge(cells[keep], on="cell").merge(places, on="place")
    frame.insert(0, "run", folder.path.name)
    order = ["run", "step", "analysis", "quantity", *axes.columns, "split", "images", "value"]
    return frame.sort_values(["step", "cell", "place"], ignore_index=True)[order]


def _parse_axes(texts: pd.Series) -> pd.DataFrame:
    """A column for each axis and tag; <NA> where a place does not have it."""
    axes = pd.DataFrame([json.loads(text) for text in texts], index=texts.index)
    for name in axes:
        if pd.api.types.is_numeric_dtype(axes[name]):
            axes[name] = axes[name].astype("Int64")
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


def read_baselines(folder: RunFolder) -> dict[str, float]:
    """What predictors that know less score on the test images that most cells were measured on.

    By name: `accuracy.NAME` and `loss.NAME`. BadInput where nothing is measured.
    """
    main = (
        "select digest from cells where split = 'test'"
        " group by digest order by count(*) desc limit 1"
    )
    query = f"select name, value from baselines where digest = ({main})"
    with _reading(folder) as db:
        return dict(db.execute(query).fetchall())
