"""The table of measures: written once a cell by `measure`, read as one tidy pandas frame.

A cell is (step, checkpoint, analysis, version, digest of settings and evaluation images). Its numbers are rows: quantity,
axes, value. SQLite in WAL mode, so that reading goes on while a sweep writes; only one process writes.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from toyvit.errors import BadInput
from toyvit.runs.folder import ManifestEntry, RunFolder

SCHEMA = """
create table if not exists cells (id integer primary key, step integer, sha256 text, analysis text, version integer,
    digest text, split text, images integer, unique (step, sha256, analysis, version, digest));
create table if not exists places (id integer primary key, quantity text, axes text, unique (quantity, axes));
create table if not exists numbers (cell integer references cells, place integer references places, value real);
create index if not exists numbers_of_a_cell on numbers (cell);
create table if not exists baselines (digest text, name text, value real, unique (digest, name));
"""


@dataclass(frozen=True)
class Cell:
    """What is measured once: the identity of a piece of work."""

    step: int
    sha256: str
    analysis: str
    version: int
    digest: str


Row = tuple[str, dict[str, Any], float]


def build_rows(quantity: str, value: Tensor, axes: str) -> list[Row]:
    """A tensor as rows (quantity, {axis: position}, value). Tags, `accuracy[factor=label]`, join the axes; NaN is left out."""
    name, tags = _untag(quantity)
    names = axes.split()
    if value.ndim != len(names):
        raise ValueError(
            f"{quantity} is declared with axes {names}, but has {value.ndim} dimensions"
        )
    places = product(*(range(size) for size in value.shape))
    numbers = value.double().flatten().tolist()
    pairs = zip(places, numbers, strict=True)
    return [
        (name, {**tags, **dict(zip(names, place, strict=True))}, number)
        for place, number in pairs
        if number == number
    ]


def _untag(quantity: str) -> tuple[str, dict[str, str]]:
    found = re.fullmatch(r"(\w+)(?:\[(.*)\])?", quantity)
    if found is None:
        raise ValueError(f"{quantity!r} is no quantity: name or name[tag=value,...]")
    tags = [tag.split("=", 1) for tag in found[2].split(",")] if found[2] else []
    return found[1], dict(tags)


class MeasureTable:
    """The open table of one run. `with Results(folder) as table: ...`; the writer is one process."""

    def __init__(self, folder: RunFolder) -> None:
        self.path = folder.measures

    def __enter__(self) -> MeasureTable:
        try:
            self.db = sqlite3.connect(self.path, timeout=60)
            self.db.execute("pragma journal_mode=wal")
            self.db.executescript(SCHEMA)
        except sqlite3.DatabaseError as error:
            raise BadInput(f"{self.path} cannot be used as a table of measures: {error}") from None
        return self

    def __exit__(self, *exception: object) -> None:
        self.db.close()

    def list_done(self) -> set[Cell]:
        """Every finished cell."""
        found = self.db.execute("select step, sha256, analysis, version, digest from cells")
        return {Cell(*row) for row in found}

    def cells_where(self, quantity: str) -> set[Cell]:
        """The finished cells in which a quantity that is 0 or 1 is 1."""
        joined = (
            "cells join numbers on numbers.cell = cells.id join places on places.id = numbers.place"
        )
        where = f"select step, sha256, analysis, version, digest from {joined} where quantity = ? and value = 1"
        return {Cell(*row) for row in self.db.execute(where, (quantity,))}

    def write(self, cell: Cell, split: str, images: int, numbers: Iterable[Row]) -> None:
        """A cell with its rows, all or nothing; one that another process has written meanwhile stays as it is."""
        with self.db:
            key = (cell.step, cell.sha256, cell.analysis, cell.version, cell.digest, split, images)
            columns = "step, sha256, analysis, version, digest, split, images"
            made = self.db.execute(
                f"insert or ignore into cells ({columns}) values (?, ?, ?, ?, ?, ?, ?)", key
            )
            if not made.rowcount:
                return
            number = made.lastrowid
            found = [(quantity, json.dumps(axes), value) for quantity, axes, value in numbers]
            self.db.executemany(
                "insert or ignore into places (quantity, axes) values (?, ?)",
                [row[:2] for row in found],
            )
            self.db.executemany(
                "insert into numbers select ?, id, ? from places where quantity = ? and axes = ?",
                [(number, value, quantity, axes) for quantity, axes, value in found],
            )

    def has_baselines(self, digest: str) -> bool:
        return bool(
            self.db.execute(
                "select exists (select 1 from baselines where digest = ?)", (digest,)
            ).fetchone()[0]
        )

    def write_baselines(self, digest: str, baselines: Mapping[str, float]) -> None:
        with self.db:
            lines = [(digest, name, value) for name, value in baselines.items()]
            self.db.executemany("insert or replace into baselines values (?, ?, ?)", lines)


def has_measures(folder: RunFolder) -> bool:
    """Whether a run's table holds any number; BadInput where the file is no table."""
    file = folder.check_exists().measures
    if not file.exists():
        return False
    with _opened(file) as db:
        tables = db.execute("select count(*) from sqlite_master where name = 'numbers'").fetchone()[
            0
        ]
        return bool(tables and db.execute("select exists (select 1 from numbers)").fetchone()[0])


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
        with closing(sqlite3.connect(file, timeout=60)) as db:
            yield db
    except (sqlite3.DatabaseError, pd.errors.DatabaseError) as error:
        raise BadInput(
            f"{file} cannot be read as a table of measures: {str(error).splitlines()[-1]}"
        ) from None


def read_table(folder: RunFolder, entries: Iterable[ManifestEntry]) -> pd.DataFrame:
    """Every measured number of a run, one a row.

    Columns: run, step, analysis, quantity, axes and tags, split, images, value. Axes that a quantity does not have are
    missing (<NA>). Rows of checkpoints that are not among the entries are left out.
    """
    with _reading(folder) as db:
        cells = pd.read_sql(
            "select id as cell, step, sha256, analysis, split, images from cells", db
        )
        places = pd.read_sql("select id as place, quantity, axes from places", db)
        numbers = pd.read_sql("select cell, place, value from numbers", db)
    current = {(entry.step, entry.sha256) for entry in entries}
    keep = [pair in current for pair in zip(cells["step"], cells["sha256"], strict=True)]
    axes = pd.DataFrame([json.loads(text) for text in places.pop("axes")], index=places.index)
    for name in axes:
        values = axes[name]
        axes[name] = values.astype("Int64") if pd.api.types.is_numeric_dtype(values) else values
    frame = numbers.merge(cells[keep], on="cell").merge(
        pd.concat([places, axes], axis=1), on="place"
    )
    frame.insert(0, "run", folder.path.name)
    order = ["run", "step", "analysis", "quantity", *axes.columns, "split", "images", "value"]
    return frame.sort_values(["step", "cell", "place"], ignore_index=True)[order]


def select_main_rows(frame: pd.DataFrame, split: str = "test") -> pd.DataFrame:
    """The rows of one split, on as many images as most of them were measured on."""
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
    """One value a step: the strongest head (or another aggregate) of a quantity, on most images of a split.

    `where` keeps the rows with given axes or tags: `select_curve(frame, "probes", "accuracy", layer=2, group="cls")`.
    """
    rows = frame[(frame["analysis"] == analysis) & (frame["quantity"] == quantity)]
    for axis, value in where.items():
        rows = rows[rows[axis] == value]
    return select_main_rows(rows, split).groupby("step")["value"].agg(how)


def read_baselines(folder: RunFolder) -> dict[str, float]:
    """What predictors that know less score on the test images that most cells were measured on.

    By name: `accuracy.NAME` and `loss.NAME`.
    """
    main = "select digest from cells where split = 'test' group by digest order by count(*) desc limit 1"
    with _reading(folder) as db:
        return dict(
            db.execute(f"select name, value from baselines where digest = ({main})").fetchall()
        )
