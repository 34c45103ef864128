"""Files on the disk: written whole, read line by line, flushed before something counts on them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from toyvit.config.foreign_files import JsonObject, parse_object, read_file
from toyvit.config.whole_files import write_atomically as write_atomically
from toyvit.errors import BadInput, name_file

logger = logging.getLogger(__name__)

DIGITS = 16  # of a digest
CHECK = len(', "check": ""}') + DIGITS  # what the digest is in a line
END = 4096  # bytes at the end of a file, in which its last line is looked for


def read_lines(path: Path, salt: str = "") -> list[JsonObject]:
    """Records of a JSON-lines file; none where there is no file.

    A last line without its newline was cut off and does not count, nor do zero bytes that a power
    cut left at the end, which is said. BadInput where another line is damaged. Lines of version 0.1
    have no digest: then no line of the file may have one.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "metrics.jsonl")
    ...     _ = file.write_text('{"step": 1}\\n{"step": 2}\\n{"st')
    ...     read_lines(file)
    [{'step': 1}, {'step': 2}]
    """
    return parse_lines(read_texts(path), path, salt)


def read_texts(path: Path) -> list[bytes]:
    """The finished lines of a file as they stand there, see `read_lines`."""
    if not path.exists():
        return []
    content = read_file(path, "book")
    whole = content.rstrip(b"\0")
    if len(whole) < len(content):
        n = len(content) - len(whole)
        logger.warning("%s ends in %d zero bytes, as a power cut leaves them: cut back", path, n)
    return whole.split(b"\n")[:-1]


def parse_lines(lines: Sequence[bytes], path: Path, salt: str = "") -> list[JsonObject]:
    """The records of the lines of a file, see `read_lines`."""
    places = [f"{path}, line {n}," for n in range(1, len(lines) + 1)]
    records = [parse_object(line, place) for line, place in zip(lines, places, strict=True)]
    if not any("check" in record for record in records):
        return records

    for line, place, record in zip(lines, places, records, strict=True):
        if is_as_written(line, salt):
            del record["check"]
        elif not take_digest(record, place, salt):
            raise BadInput(f"{place} is damaged: it has lost its digest")
    return records


def read_last_line(path: Path, salt: str = "") -> JsonObject | None:
    """The last record of a JSON-lines file; None where there is none.

    Only the end of the file is read, unless the line there is not what was written: then all of it
    is, and BadInput is that of `read_lines`.
    """
    if path.is_file():
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - END))
            lines = file.read().split(b"\n")
        if len(lines) > 2 and is_as_written(lines[-2], salt) and b"\0" not in lines[-1]:
            return parse_lines([lines[-2]], path, salt)[0]
    records = read_lines(path, salt)
    return records[-1] if records else None


def format_line(record: Mapping[str, object], salt: str = "") -> str:
    """A record as a line of JSON that ends in a digest of itself, which `read_lines` checks.

    With a salt, the same for all lines of a file, the digest tells it from those of other runs.

    >>> format_line({"step": 1})
    '{"step": 1, "check": "66acd07fcea20439"}\\n'
    """
    return f"{json.dumps(add_digest(record, salt))}\n"


def add_digest(record: Mapping[str, object], salt: str = "") -> JsonObject:
    """A record with a digest of itself, which `take_digest` compares it with.

    >>> add_digest({"step": 1})
    {'step': 1, 'check': '66acd07fcea20439'}
    """
    return {**record, "check": _digest(json.dumps(record) + salt)}


def take_digest(record: JsonObject, place: str, salt: str = "") -> bool:
    """Take the digest out of a record, which names its place; whether it had one.

    BadInput where it is the digest of something else.

    >>> take_digest(add_digest({"step": 1}), "notes")
    True
    """
    if "check" not in record:
        return False
    check = record.pop("check")
    if check != _digest(json.dumps(record) + salt):
        raise BadInput(f"{place} is damaged: it is not what was written")
    return True


def is_as_written(line: bytes, salt: str = "") -> bool:
    """Whether a line is to the byte what `format_line` wrote, but for its end; it is not parsed.

    >>> is_as_written(b'{"step": 1, "check": "66acd07fcea20439"}')
    True
    """
    return not find_altered([line], salt)


def find_altered(lines: Sequence[bytes], salt: str = "") -> list[bytes]:
    """Those of the lines that are not to the byte what `format_line` wrote; none is parsed.

    >>> find_altered([b'{"step": 1, "check": "66acd07fcea20439"}', b'{"step": 2}'])
    [b'{"step": 2}']
    """
    end = b"}" + salt.encode()
    altered = []
    for line in lines:
        digest = hashlib.sha256(line[:-CHECK] + end).hexdigest()[:DIGITS]
        if line[-CHECK:] != b', "check": "%b"}' % digest.encode():
            altered.append(line)
    return altered


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with name_file(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
