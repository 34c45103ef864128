"""Numbers edited behind the lab's back, and digests that fit them again."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from toyvit.runs import cells
from toyvit.runs.folder import RunFolder


def edit(folder: RunFolder, *statements: str, restamp: bool = False) -> None:
    """Change a run's table by SQL; with `restamp` its cells get digests of what they are now."""
    with closing(sqlite3.connect(folder.measures)) as db, db:
        for statement in statements:
            db.execute(statement)
        if restamp:
            frame = cells._read_frame(db, "cells", cells.CELLS)
            places = cells._read_frame(db, "places", ("id", "quantity", "axes"))
            numbers = cells._read_numbers(db)
            checks = cells._hash_cells(folder.hash_run(), frame, places, numbers)
            pairs = list(zip(checks, frame["id"], strict=True))
            db.executemany('update cells set "check" = ? where id = ?', pairs)
