"""The lock of a run folder, which one process holds while it trains."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import IO

from toyvit.errors import BadInput

LOOKS = 20  # at a lock that is taken, until it counts as another training's
SECONDS_BETWEEN_LOOKS = 0.01


def take_lock(path: Path) -> IO[str]:
    """The lock's file, locked until it is closed; BadInput if another process holds it.

    After a few looks, for who only asks whether it is taken holds it for an instant.
    """
    for _ in range(LOOKS):
        file = _open_lock(path)
        if _try_lock(file, fcntl.LOCK_EX) and _is_in_place(file, path):
            return file
        file.close()
        time.sleep(SECONDS_BETWEEN_LOOKS)
    raise BadInput(f"{path.parent} is in use: another process is training in it")


def is_taken(path: Path) -> bool:
    """Whether some process holds the lock now.

    >>> is_taken(Path("no/such/lock"))
    False
    """
    if not path.exists():
        return False
    with path.open() as file:
        return not _try_lock(file, fcntl.LOCK_SH)


def _open_lock(path: Path) -> IO[str]:
    """The file, which a run that may not be written to has already."""
    try:
        return path.open("a")
    except OSError:
        if path.exists():
            return path.open()
        raise


def _is_in_place(file: IO[str], path: Path) -> bool:
    """Whether a lock is still the folder's: a start that failed takes its own away."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _try_lock(file: IO[str], kind: int) -> bool:
    """Whether the lock of a file could be taken at once."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
