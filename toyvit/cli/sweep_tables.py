"""Whether the table of a sweep is what was written, and what its runs say."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from toyvit.config.foreign_files import read_file
from toyvit.errors import BadInput
from toyvit.runs.records import read_checked
from toyvit.version import VERSION

TABLE = "sweep.csv"
RECORD = "sweep.json"
AGAIN = "the same `toyvit sweep` writes it again"
logger = logging.getLogger(__name__)


def find_table_problem(folder: Path, has_whole_runs: bool = True) -> tuple[Path, str] | None:
    """What is wrong with the table of a sweep or with its record, and which file; None if nothing.

    The table is what was written, and what its runs say: where they are whole and lie in the
    folder, and it was written by this version of the lab. One without a record, of version 0.2 and
    before, is said to have none.
    """
    table = folder / TABLE
    record = folder / RECORD
    if not table.exists():
        return (table, f"is missing: {AGAIN}") if record.exists() else None
    if not record.exists():
        logger.warning("%s has no digest, as of version 0.2 and before: taken as it is", table)
        return None

    try:
        facts = read_checked(record, is_strict=True)
        content = read_file(table)
    except BadInput as error:
        file = record if str(record) in str(error) else table
        return file, f"{str(error).removeprefix(f'{file} ')}: {AGAIN}"
    if hashlib.sha256(content).hexdigest() != facts.get("table"):
        return table, f"is not what was written: {AGAIN}"
    if facts.get("version") != VERSION or not has_whole_runs:
        return None
    return _compare_with_runs(table, content, facts.get("runs"))


def _compare_with_runs(table: Path, content: bytes, names: object) -> tuple[Path, str] | None:
    if not isinstance(names, list) or not all(map(_is_inside, names)):
        return table.with_name(RECORD), f"names runs that are not in its folder: {AGAIN}"
    if not names:
        return None
    from toyvit.sweeping import encode_table, gather_table

    try:
        frame = gather_table([table.parent / name for name in names])
    except BadInput as error:
        return table, f"cannot be compared with its runs: {error}"
    if encode_table(frame) != content:
        return table, f"is not what its runs say now: {AGAIN}"
    return None


def _is_inside(name: object) -> bool:
    """Whether a name leads to a folder below."""
    return isinstance(name, str) and not name.startswith("/") and ".." not in Path(name).parts
