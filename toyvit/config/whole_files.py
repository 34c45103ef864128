"""What is written beside its place and moved there when it is whole; what the killed leave of it.

Each process has names of its own and locks what it writes: two at once do not meet, and what
nobody has locked is a leftover.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from toyvit.errors import name_file

PART = re.compile(r"(?P<name>.+)\.\d+-[0-9a-f]{8}\.part")  # NAME.PROCESS-TOKEN.part


def write_atomically(path: Path, content: bytes, flush: bool = False) -> None:
    """Write beside, then rename: readers see the old file or the new one, whole.

    `flush` waits for the disk.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder, "note"), b"whole")
    ...     [path.name for path in Path(folder).iterdir()]
    ['note']
    """
    with replace_atomically(path, flush) as file:
        file.write(content)


@contextmanager
def replace_atomically(path: Path, flush: bool = False) -> Iterator[BinaryIO]:
    """A file beside, which becomes `path` when the block ends, and is gone if it fails."""
    beside, file = open_beside(path)
    try:
        with name_file(path), file:
            yield file
            file.flush()
            if flush:
                os.fsync(file.fileno())
            os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def open_beside(path: Path) -> tuple[Path, BinaryIO]:
    """A new file beside a path, and its name; locked until it is closed."""
    while True:
        beside = _name_beside(path)
        try:
            file = beside.open("xb")  # never through a link that somebody put there
        except OSError as error:
            error.filename = str(path)  # the name that is known
            raise
        if _claim(file.fileno(), beside):
            return beside, file
        file.close()


@contextmanager
def build_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside, which becomes `folder` when the block ends, and is gone if it fails.

    What a killed process left of the same folder is removed first. OSError where the place has been
    taken in the meantime.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as place:
    ...     with build_folder(Path(place, "new")) as beside:
    ...         _ = Path(beside, "note").write_text("whole")
    ...     Path(place, "new", "note").read_text(), len(list(Path(place).iterdir()))
    ('whole', 1)
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder.parent, folder.name)
    beside, descriptor = _make_beside(folder)
    try:
        yield beside
        os.rename(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        os.close(descriptor)


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what the killed left half written in a folder: of one name, or of all.

    Only what has a name that the lab gives, and what no living process is writing.
    """
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if is_part(path, name):
            with suppress(OSError):  # gone meanwhile, or not ours to remove
                _remove_unlocked(path)


def is_part(path: Path, name: str | None = None) -> bool:
    """Whether a path has the name of something half written: of one name, or of any.

    >>> is_part(Path("config.json.7-0123abcd.part"), "config.json"), is_part(Path("x.part"))
    (True, False)
    """
    part = PART.fullmatch(path.name)
    return part is not None and name in (None, part["name"])


def _remove_unlocked(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not _claim(descriptor, path):
            return
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    finally:
        os.close(descriptor)


def _make_beside(folder: Path) -> tuple[Path, int]:
    while True:
        beside = _name_beside(folder)
        beside.mkdir()
        descriptor = os.open(beside, os.O_RDONLY)
        if _claim(descriptor, beside):
            return beside, descriptor
        os.close(descriptor)


def _name_beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")


def try_lock(descriptor: int) -> bool:
    """Whether the lock of an open file or folder could be taken at once."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _claim(descriptor: int, path: Path) -> bool:
    """Whether a file or folder could be locked, and is still there under its name."""
    try:
        return try_lock(descriptor) and os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False
