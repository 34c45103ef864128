"""The SQLite file of a table of measures: its schema, and how it is opened.

A file that may come from elsewhere is compared with the schema before anything is read of it or
written to it: a view, a trigger or another column makes it a foreign one.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

from toyvit.errors import BadInput
from toyvit.runs.access import is_writable

APPLICATION = 0x546F7956  # "ToyV": tells a table of measures from other SQLite files
VERSION = 1  # of the schema; tables of versions 0.1 and 0.2 of the lab have none, and no digests
TABLES = ("numbers", "places", "cells", "baselines")
SCHEMA = """
create table cells (
    id integer primary key, step integer, sha256 text, analysis text, version integer, digest text,
    split text, images integer, "check" text, unique (step, sha256, analysis, version, digest)
);
create table places (
    id integer primary key, quantity text, axes text, unique (quantity, axes)
);
create table numbers (
    cell integer references cells, place integer references places, value real
);
create index numbers_of_a_cell on numbers (cell);
create table baselines (
    digest text, name text, value real, "check" text, unique (digest, name)
);
"""
# What SQLite says of a disk, as the system says it.
DISK = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
}
OF_FILE = (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ)  # not of the disk
SECONDS = 60  # to wait for another process that writes
Objects = dict[tuple[str, str], str | None]  # SQL by type and name


class OldTable(BadInput):
    """A table of measures of an earlier version, whose numbers have no digests."""


@contextmanager
def refusing(file: Path) -> Iterator[None]:
    """BadInput, which names the file, for whatever SQLite does not like about it.

    OSError, as of any other file, where it is the disk.
    """
    try:
        yield
    except sqlite3.OperationalError as error:  # a disk; a lock, foreign text
        code = getattr(error, "sqlite_errorcode", 0)
        number = DISK.get(code & 0xFF)
        if number is not None and code not in OF_FILE:
            raise OSError(number, os.strerror(number), str(file)) from None
        raise BadInput(f"{file} cannot be used now as a table of measures: {error}") from None
    except (sqlite3.Error, sqlite3.Warning, UnicodeDecodeError) as error:
        raise _foreign(file, str(error).splitlines()[0]) from None


@contextmanager
def open_to_read(file: Path) -> Iterator[sqlite3.Connection | None]:
    """The table of one moment, read only; None where there is no file or nothing in it.

    BadInput for a file that is no table of measures of today.
    """
    if not file.exists():
        yield None
        return
    with refusing(file), closing(_connect(file, _choose_mode(file))) as db:
        db.execute("pragma query_only = on")
        with one_moment(db):
            yield db if check_schema(db, file) else None


@contextmanager
def open_to_write(file: Path) -> Iterator[sqlite3.Connection]:
    """The table, made where there is none; one of an earlier version is BadInput too."""
    with refusing(file), closing(_connect(file, "mode=rwc")) as db:
        check_schema(db, file)
        _keep_log(db)
        with transaction(db):
            if not check_schema(db, file):
                create_tables(db)
        yield db


def _keep_log(db: sqlite3.Connection) -> None:
    """Switch to WAL mode; SQLite does not wait here by itself for another that does so."""
    end = time.monotonic() + SECONDS
    while True:
        try:
            db.execute("pragma journal_mode = wal")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, and nobody else writes meanwhile."""
    db.execute("begin immediate")
    try:
        yield
    except BaseException:
        db.rollback()
        raise
    db.commit()


@contextmanager
def one_moment(db: sqlite3.Connection) -> Iterator[None]:
    """All that is read is of one moment, whoever writes meanwhile."""
    if db.in_transaction:
        yield
        return
    db.execute("begin")
    try:
        yield
    finally:
        db.rollback()


def create_tables(db: sqlite3.Connection) -> None:
    """The empty tables, marked as the lab's."""
    for statement in SCHEMA.split(";\n"):
        db.execute(statement)
    db.execute(f"pragma application_id = {APPLICATION}")
    db.execute(f"pragma user_version = {VERSION}")


def check_schema(db: sqlite3.Connection, file: Path) -> bool:
    """Whether there are tables; BadInput unless they are exactly those of today, or none at all."""
    with one_moment(db):
        (application,) = db.execute("pragma application_id").fetchone()
        (version,) = db.execute("pragma user_version").fetchone()
        objects = _list_objects(db)
    if not (objects or application or version):
        return False
    if application == APPLICATION and version > VERSION:
        raise BadInput(
            f"{file} was written by a newer version of the lab: its schema is {version},"
            f" this version reads {VERSION}"
        )

    expected = _list_expected()
    if (application, version) == (0, 0) and objects.keys() == expected.keys():
        raise OldTable(
            f"{file} is of an earlier version, its numbers have no digests:"
            f" `toyvit measure {file.parent}` makes it again"
        )
    if (application, version, objects) != (APPLICATION, VERSION, expected):
        strange = [name for kind, name in objects if (kind, name) not in expected]
        raise _foreign(file, f"it holds {strange[0]!r}" if strange else "its tables are others")
    return True


def find_damage(db: sqlite3.Connection) -> str | None:
    """What SQLite finds wrong with the pages and the indices of a file, or None."""
    try:
        (verdict,) = db.execute("pragma integrity_check(1)").fetchone()
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        verdict = str(error)
    return None if verdict == "ok" else str(verdict).splitlines()[-1]


def set_aside(file: Path) -> Path:
    """Give a table of an earlier version another name, beside; BadInput where that is taken."""
    aside = file.with_name(f"{file.stem}.old{file.suffix}")
    with refusing(file), closing(_connect(file, "mode=rw")) as db:
        db.execute("pragma journal_mode = delete")  # what its log holds goes into it
        db.execute("begin exclusive")
        if aside.exists():
            raise BadInput(f"{file} is of an earlier version, and {aside} is there: move one away")
        os.replace(file, aside)
    return aside


def _connect(file: Path, mode: str) -> sqlite3.Connection:
    """Text that is not UTF-8 is read too: it is then not what the digests are of."""
    if file.exists() and not file.is_file():
        raise BadInput(f"{file} is no file: it is a folder, a pipe or a device")
    uri = f"{file.absolute().as_uri()}?{mode}"
    db = sqlite3.connect(uri, uri=True, timeout=SECONDS, isolation_level=None)
    db.text_factory = _decode
    return db


def _choose_mode(file: Path) -> str:
    """Where nothing may be written SQLite needs to hear that nobody does.

    A log beside it is read where there is one: who writes may have been killed.
    """
    if is_writable(file.parent) and is_writable(file):
        return "mode=rw"
    log = file.with_name(f"{file.name}-wal")
    has_log = log.exists() and log.stat().st_size > 0
    return "mode=ro" if has_log else "mode=ro&immutable=1"


def _decode(content: bytes) -> str:
    return content.decode(errors="replace")


def _list_objects(db: sqlite3.Connection) -> Objects:
    rows = db.execute("select type, name, sql from sqlite_master").fetchall()
    return {(kind, name): sql for kind, name, sql in rows}


@cache
def _list_expected() -> Objects:
    with closing(sqlite3.connect(":memory:")) as db:
        create_tables(db)
        return _list_objects(db)


def _foreign(file: Path, reason: str) -> BadInput:
    return BadInput(
        f"{file} cannot be used as a table of measures: {reason};"
        f" move it away, and `toyvit measure {file.parent}` makes it again"
    )
