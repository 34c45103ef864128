"""Cells of the table of measures: each has a digest of its numbers and of what they are of.

The digest binds the numbers to the run, the checkpoint, the analysis and its version, and to the
evaluation: a cell that was edited, moved or taken from another run's table does not fit its own.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from toyvit.runs.database import TABLES, create_tables
from toyvit.runs.digests import (
    CELLS,
    IDENTITIES,
    Baselines,
    Cell,
    hash_baselines,
    hash_place,
    hash_words,
    read_baselines,
)

AMONG = "(select value from json_each(?))"  # ids, however many
NUMBERS = np.dtype([("cell", "i8"), ("place", "i8"), ("value", "f8")])
WORD = np.dtype("<u8")  # what a digest is of: a word for the place of a number, a word of its value
Row = tuple[str, dict[str, str | int], float]
Line = tuple[str, str, float]  # a row as it is written: quantity, axes as JSON, value


@dataclass(frozen=True)
class Contents:
    """All that a table holds: `cells`, `places` and `numbers` as frames, and which are damaged.

    `damaged` are cells that are not what was written, and `stray` is whether there are numbers of
    no cell; `broken` are evaluations whose baselines are not what was written.
    """

    cells: pd.DataFrame
    places: pd.DataFrame
    numbers: pd.DataFrame
    damaged: pd.DataFrame
    stray: bool
    baselines: Baselines
    broken: list[str]

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever measured."""
        return not (len(self.numbers) or len(self.damaged))

    @property
    def is_whole(self) -> bool:
        """Whether everything is what was written."""
        return not (len(self.damaged) or self.stray or self.broken)


def list_lines(rows: Iterable[Row]) -> list[Line]:
    """Rows as they are written; SQLite has no minus zero."""
    return [(quantity, json.dumps(axes), float(value) + 0.0) for quantity, axes, value in rows]


def hash_cell(run: str, cell: Cell, split: str, images: int, lines: Sequence[Line]) -> str:
    """The digest of a cell, in a run with this hash; the order of its numbers does not matter.

    >>> cell = Cell(10, "c0ffee", "norms", 1, "evaluation")
    >>> hash_cell("run", cell, "test", 16, [("weight", "{}", 1.0), ("weight", '{"layer": 0}', 2.0)])
    '21876544e6c419c9'
    """
    places = np.array([hash_place(*line[:2]) for line in lines], WORD)
    values = np.array([line[2] for line in lines], "<f8")
    order = np.argsort(places, kind="stable")
    return hash_words((run, *astuple(cell), split, images), _pack(places, values, order).tobytes())


def _pack(
    places: NDArray[np.uint64], values: NDArray[np.float64], order: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """Two words a number, in this order."""
    words = np.empty((len(values), 2), WORD)
    words[:, 0] = places[order]
    words[:, 1] = values.astype("<f8").view(WORD)[order]
    return words


def read_contents(db: sqlite3.Connection, run: str) -> Contents:
    """All that a table of the run with this hash holds, compared with its digests."""
    cells = _read_frame(db, "cells", CELLS)
    numbers = _read_numbers(db)
    stray = not numbers["cell"].isin(cells["id"]).all()
    return _compare(db, run, cells, numbers, stray)


def read_part(db: sqlite3.Connection, run: str, analyses: Sequence[str]) -> Contents | None:
    """The cells of some analyses, compared as `read_contents` does; None where nothing is measured.

    Whose a number is stands in the line of its cell, and that may be what is damaged. So other
    cells that may have been theirs are read and compared too.
    """
    if not holds_numbers(db):
        return None
    ids = _find_ids(db, analyses)
    cells = _read_frame(db, "cells", CELLS, ids)
    numbers = _read_numbers(db, ids)
    return _compare(db, run, cells, numbers, stray=len(cells) < len(ids))


def _find_ids(db: sqlite3.Connection, analyses: Sequence[str]) -> list[object]:
    """The ids of cells of these names, of those with numbers at the same places, and, where a name
    has no cell, of those that are alone with theirs; of numbers without a cell, too.
    """
    names = ", ".join("?" * len(analyses))
    query = f"select id, analysis from cells not indexed where analysis in ({names})"
    asked = dict(db.execute(query, analyses).fetchall())
    ids = [*asked, *_find_neighbours(db, list(asked))]
    if not set(analyses) <= set(asked.values()):
        lonely = "select min(id) from cells not indexed group by analysis having count(*) = 1"
        stray = "select cell from numbers not indexed where cell not in (select id from cells)"
        ids += [number for (number,) in db.execute(f"{lonely} union {stray}")]
    return list(dict.fromkeys(ids))


def _find_neighbours(db: sqlite3.Connection, ids: Sequence[int]) -> list[object]:
    """The ids of all cells that have a number at a place where one of these cells has one."""
    query = f"select distinct place from numbers where cell in {AMONG}"
    places = [place for (place,) in db.execute(query, [_list_ids(ids)]) if type(place) is int]
    if not places:
        return []
    between = "place between ? and ?"  # most numbers are told apart by this alone
    query = f"select distinct cell from numbers not indexed where {between} and place in {AMONG}"
    rows = db.execute(query, [min(places), max(places), _list_ids(places)])
    return [number for (number,) in rows]


def _compare(
    db: sqlite3.Connection, run: str, cells: pd.DataFrame, numbers: pd.DataFrame, stray: bool
) -> Contents:
    """These cells and their numbers, compared with the digests."""
    used = numbers["place"].unique().tolist()
    places = _read_frame(db, "places", ("id", "quantity", "axes"), used)
    checks = np.array(list(_hash_cells(run, cells, places, numbers)), object)
    is_damaged = cells["check"].to_numpy() != checks
    baselines, broken = read_baselines(db, run)
    return Contents(
        cells=cells[~is_damaged],
        places=places,
        numbers=numbers,
        damaged=cells[is_damaged],
        stray=stray,
        baselines=baselines,
        broken=broken,
    )


def _read_frame(
    db: sqlite3.Connection,
    table: str,
    columns: Sequence[str],
    ids: Sequence[object] | None = None,
) -> pd.DataFrame:
    """Lines of a table, all of them or those with some ids."""
    names = ", ".join(f'"{name}"' for name in columns)
    query = f"select {names} from {table} not indexed"
    if ids is None:
        rows = db.execute(query).fetchall()
    else:
        rows = db.execute(f"{query} where id in {AMONG}", [_list_ids(ids)]).fetchall()
    lines = np.array(rows, object).reshape(len(rows), len(columns))
    frame = pd.DataFrame(lines[:, 1:], columns=list(columns[1:]))
    frame.insert(0, columns[0], lines[:, 0].astype("int64"))
    return frame if frame["id"].is_unique else frame.drop_duplicates("id", ignore_index=True)


def _list_ids(ids: Sequence[object]) -> str:
    """For SQL, as `AMONG` reads it; what is no whole number is no id."""
    return json.dumps([number for number in ids if isinstance(number, int)])


def _read_numbers(db: sqlite3.Connection, ids: Sequence[object] | None = None) -> pd.DataFrame:
    """Numbers by the ids of cell and place, of all cells or of some; what is of another type is
    none.
    """
    query = "select cell, place, value from numbers "
    query += "not indexed where true" if ids is None else f"where cell in {AMONG}"
    among = [] if ids is None else [_list_ids(ids)]
    typed = "typeof(cell) = 'integer' and typeof(place) = 'integer' and typeof(value) = 'real'"
    try:
        numbers = np.fromiter(db.execute(query, among), NUMBERS)
    except (TypeError, ValueError):
        numbers = np.fromiter(db.execute(f"{query} and {typed}", among), NUMBERS)
    return pd.DataFrame({name: numbers[name] for name in NUMBERS.fields or ()})


def _hash_cells(
    run: str, cells: pd.DataFrame, places: pd.DataFrame, numbers: pd.DataFrame
) -> Iterator[str]:
    """The digest that each cell should have, from one sorted array of all numbers."""
    hashes = [hash_place(*texts) for texts in zip(places["quantity"], places["axes"], strict=True)]
    known = pd.Index(places["id"]).get_indexer(numbers["place"])
    of_numbers = np.array([*hashes, 0], WORD)[known]  # 0 where there is no such place
    order = np.lexsort((of_numbers, numbers["cell"]))
    words = memoryview(_pack(of_numbers, numbers["value"].to_numpy(), order).tobytes())

    ordered = numbers["cell"].to_numpy()[order]
    size = 2 * WORD.itemsize
    starts = (np.searchsorted(ordered, cells["id"]) * size).tolist()
    ends = (np.searchsorted(ordered, cells["id"], "right") * size).tolist()
    identities = cells[list(CELLS[1:-1])].itertuples(index=False, name=None)
    for identity, start, end in zip(identities, starts, ends, strict=True):
        fits = tuple(map(type, identity)) in IDENTITIES
        yield hash_words((run, *identity), words[start:end]) if fits else ""


def holds_numbers(db: sqlite3.Connection) -> bool:
    """Whether anything was measured."""
    return bool(db.execute("select exists (select 1 from numbers)").fetchone()[0])


def list_evaluations(db: sqlite3.Connection, split: str) -> list[str]:
    """The digests of the evaluations on a split that cells say they are of."""
    query = "select distinct digest from cells not indexed where split = ?"
    return [digest for (digest,) in db.execute(query, [split])]


def write_cell(
    db: sqlite3.Connection, run: str, cell: Cell, split: str, images: int, rows: Iterable[Row]
) -> None:
    """A cell with its rows; one that is there already stays as it is."""
    lines = list_lines(rows)
    check = hash_cell(run, cell, split, images, lines)
    added = db.execute(
        f"insert or ignore into cells values (null{', ?' * (len(CELLS) - 1)})",
        (*astuple(cell), split, images, check),
    )
    if not added.rowcount:
        return
    db.executemany(
        "insert or ignore into places (quantity, axes) values (?, ?)", [line[:2] for line in lines]
    )
    db.executemany(
        "insert into numbers select ?, id, ? from places where quantity = ? and axes = ?",
        [(added.lastrowid, value, quantity, axes) for quantity, axes, value in lines],
    )


def write_baselines(
    db: sqlite3.Connection, run: str, digest: str, values: Mapping[str, float]
) -> None:
    """What predictors that know less score in an evaluation, by name."""
    plain = {name: float(value) + 0.0 for name, value in values.items()}
    check = hash_baselines(run, digest, plain)
    lines = [(digest, name, value, check) for name, value in plain.items()]
    db.executemany("insert or replace into baselines values (?, ?, ?, ?)", lines)


def restore(db: sqlite3.Connection, contents: Contents, run: str) -> None:
    """Write the tables anew with what is whole in them, and no more."""
    cells = contents.cells
    numbers = contents.numbers[contents.numbers["cell"].isin(cells["id"])]
    places = contents.places[contents.places["id"].isin(numbers["place"])]
    for name in TABLES:
        db.execute(f"drop table {name}")
    create_tables(db)
    for name, frame in (("cells", cells), ("places", places), ("numbers", numbers)):
        rows = frame.astype(object).itertuples(index=False, name=None)
        db.executemany(f"insert into {name} values ({', '.join('?' * frame.shape[1])})", rows)
    for digest, values in contents.baselines.items():
        write_baselines(db, run, digest, values)
