"""Files on the disk: written whole, read line by line, flushed before something counts on them."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from toyvit.config.json_files import JsonObject, parse_object, read_file

logger = logging.getLogger(__name__)


def write_atomically(path: Path, content: bytes, flush: bool = False) -> None:
    """Write beside, then rename: readers see the old file or the new one, whole.

    `flush` waits for the disk.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder, "note"), b"whole")
    ...     [path.name for path in Path(folder).iterdir()]
    ['note']
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    beside.unlink(missing_ok=True)  # of a process of this number that was killed
    try:
        with beside.open("xb") as file:  # never through a link that somebody put there
            file.write(content)
            if flush:
                file.flush()
                os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def read_lines(path: Path) -> list[JsonObject]:
    """Records of a JSON-lines file; none where there is no file.

    A last line without its newline was cut off and does not count, nor do zero bytes that a power
    cut left at the end, which is said. BadInput where another line is damaged.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "metrics.jsonl")
    ...     _ = file.write_text('{"step": 1}\\n{"step": 2}\\n{"st')
    ...     read_lines(file)
    [{'step': 1}, {'step': 2}]
    """
    if not path.exists():
        return []
    content = read_file(path)
    whole = content.rstrip(b"\0")
    if len(whole) < len(content):
        n = len(content) - len(whole)
        logger.warning("%s ends in %d zero bytes, as a power cut leaves them: cut back", path, n)
    lines = whole.split(b"\n")[:-1]
    return [parse_object(line, f"{path}, line {n},") for n, line in enumerate(lines, 1)]


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
