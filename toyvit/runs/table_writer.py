"""The table of measures, open to write: what `measure` finds done in it, and adds to it."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import ExitStack

from toyvit.errors import BadInput
from toyvit.runs.access import is_writable
from toyvit.runs.cells import Cell, Row, read_contents, restore, write_baselines, write_cell
from toyvit.runs.database import (
    OldTable,
    find_damage,
    one_moment,
    open_to_read,
    open_to_write,
    refusing,
    set_aside,
    transaction,
)
from toyvit.runs.folder import RunFolder
from toyvit.runs.table import describe_damage

logger = logging.getLogger(__name__)


class MeasureTable:
    """The open table of one run: `with MeasureTable(folder) as table: ...`; one process writes.

    What is damaged in it is taken out when it is opened, and said, so that it is measured again; a
    table of an earlier version is set aside. In a folder that cannot be written to it is only read.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.path = folder.measures
        self.is_read_only = self.path.exists() and not is_writable(folder.path)
        self.run = folder.hash_run()
        self.opened = ExitStack()

    def __enter__(self) -> MeasureTable:
        self.db = self._open()
        with self.opened, refusing(self.path):
            with one_moment(self.db):
                is_whole = self._read()
            if not (is_whole or self.is_read_only):
                self._mend()
            self.opened = self.opened.pop_all()
        return self

    def _open(self) -> sqlite3.Connection:
        if self.is_read_only:
            db = self.opened.enter_context(open_to_read(self.path))
            if db is None:
                raise BadInput(f"{self.path} is empty, and nothing can be written beside it")
            return db
        try:
            return self.opened.enter_context(open_to_write(self.path))
        except OldTable:
            old = "%s is of an earlier version and has no digests: it is %s now, and measured anew"
            logger.warning(old, self.path, set_aside(self.path).name)
            return self.opened.enter_context(open_to_write(self.path))

    def _read(self) -> bool:
        """Read all that there is; whether it is whole."""
        self.contents = read_contents(self.db, self.run)
        return self.contents.is_whole and find_damage(self.db) is None

    def _mend(self) -> None:
        with transaction(self.db):
            if self._read():  # another process was here first
                return
            restore(self.db, self.contents, self.run)
        problem = describe_damage(self.folder, self.contents)
        logger.warning("%s %s; what is damaged was taken out", self.path, problem)

    def __exit__(self, *exception: object) -> None:
        self.opened.close()

    def list_done(self) -> set[Cell]:
        """Every finished cell."""
        rows = self.db.execute("select step, sha256, analysis, version, digest from cells")
        return {Cell(*row) for row in rows}

    def cells_where(self, quantity: str, value: int) -> set[Cell]:
        """The finished cells in which a quantity that is 0 or 1 has a value."""
        rows = self.db.execute(
            "select step, sha256, analysis, version, digest from cells"
            " join numbers on numbers.cell = cells.id join places on places.id = numbers.place"
            " where quantity = ? and value = ?",
            (quantity, value),
        )
        return {Cell(*row) for row in rows}

    def write(self, cell: Cell, split: str, images: int, rows: Iterable[Row]) -> None:
        """One cell with its rows, see `write_all`."""
        self.write_all([(cell, rows)], split, images)

    def write_all(
        self, rows_of_cells: Iterable[tuple[Cell, Iterable[Row]]], split: str, images: int
    ) -> None:
        """Cells with their rows, all of them or none: those of a checkpoint come at once.

        One that is there already stays as it is.
        """
        with refusing(self.path), transaction(self.db):
            for cell, rows in rows_of_cells:
                write_cell(self.db, self.run, cell, split, images, rows)

    def has_baselines(self, digest: str) -> bool:
        """Whether the baselines of an evaluation are written."""
        return digest in self.contents.baselines

    def write_baselines(self, digest: str, baselines: Mapping[str, float]) -> None:
        """What predictors that know less score in an evaluation, by name."""
        with refusing(self.path), transaction(self.db):
            write_baselines(self.db, self.run, digest, baselines)
