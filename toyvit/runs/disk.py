"""Files on the disk: written whole, read line by line, flushed before something counts on them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from toyvit.config.foreign_files import JsonObject, parse_object, read_file
from toyvit.config.whole_files import write_atomically as write_atomically
from toyvit.errors import BadInput, name_file

logger = logging.getLogger(__name__)


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
    if not path.exists():
        return []
    content = read_file(path)
    whole = content.rstrip(b"\0")
    if len(whole) < len(content):
        n = len(content) - len(whole)
        logger.warning("%s ends in %d zero bytes, as a power cut leaves them: cut back", path, n)
    places = {f"{path}, line {n},": line for n, line in enumerate(whole.split(b"\n")[:-1], 1)}
    records = {place: parse_object(line, place) for place, line in places.items()}
    if any("check" in record for record in records.values()):
        for place, record in records.items():
            if not take_digest(record, place, salt):
                raise BadInput(f"{place} is damaged: it has lost its digest")
    return list(records.values())


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


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def flush_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with name_file(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
