"""What may be read where nothing may be written: a run of another user, or on a read-only disk."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from toyvit.errors import BadInput

EFFECTIVE = os.access in os.supports_effective_ids


def is_writable(path: Path) -> bool:
    """Whether this process may change a file, or what is in a folder.

    >>> is_writable(Path("no/such/folder"))
    False
    """
    return os.access(path, os.W_OK, effective_ids=EFFECTIVE)


def check_writable(folder: Path, hint: str) -> None:
    """BadInput, with a hint at what there is to do, where a folder cannot be written to."""
    if not is_writable(folder):
        raise BadInput(f"{folder} cannot be written to" + (f": {hint}" if hint else ""))


def connect_to_read(file: Path) -> sqlite3.Connection:
    """A database, open; where its folder cannot be written to, without its locks.

    A log beside it is read where there is one: who writes may have been killed.
    """
    if is_writable(file.parent) and is_writable(file):
        return sqlite3.connect(file, timeout=60)
    log = file.with_name(f"{file.name}-wal")
    has_log = log.exists() and log.stat().st_size > 0
    how = "mode=ro" if has_log else "mode=ro&immutable=1"
    return sqlite3.connect(f"{file.absolute().as_uri()}?{how}", uri=True, timeout=60)
