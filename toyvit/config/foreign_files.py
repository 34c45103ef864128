"""Reading files that may come from elsewhere: what is wrong is one line that names the place."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from toyvit.errors import BadInput

JsonObject = dict[str, Any]
# Bytes that a file may have, by its kind: far more than any that the lab writes. A foreign one that
# is larger would fill the memory before anything in it could be refused.
LIMITS = {
    "record": 10**8,  # of JSON: a config, a circuit, a replication's seed
    "book": 2 * 10**9,  # a line for each step or checkpoint
    "picture": 2 * 10**8,  # of a user's folder
    "weights": 4 * 10**9,  # of a model, with its optimiser's moments or without
}


def parse_object(content: bytes | str, place: str) -> JsonObject:
    """The JSON object that a text holds; BadInput, which names the place, for anything else.

    Numbers that JSON does not know (NaN, Infinity), keys that come twice, bytes that are not UTF-8
    and nesting without end are refused too.

    >>> parse_object('{"step": 1}', "notes, line 1")
    {'step': 1}
    """
    try:
        text = content.decode() if isinstance(content, bytes) else content
        value = DECODER.decode(text)
    except RecursionError:
        raise BadInput(f"{place} is damaged: it is nested without end") from None
    except ValueError as error:
        why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise BadInput(f"{place} is damaged: {why.splitlines()[0]}") from None
    if not isinstance(value, dict):
        raise BadInput(f"{place} is damaged: it holds a {type(value).__name__}, not an object")
    return value


def read_object(path: Path) -> JsonObject:
    """The JSON object that a file holds; BadInput where there is none."""
    return parse_object(read_file(path), str(path))


def read_file(path: Path, kind: str = "record") -> bytes:
    """The bytes of a file of a kind in LIMITS.

    BadInput where there is no file that ends and can be read, and for one that is too large.
    """
    if path.exists() and not path.is_file():
        raise BadInput(f"{path} is no file: it is a folder, a pipe or a device")
    try:
        size = path.stat().st_size
        if size > LIMITS[kind]:
            raise BadInput(
                f"{path} is too large: it has {size:,} bytes, and a file of its kind ({kind}) "
                f"may have {LIMITS[kind]:,}"
            )
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None


def hash_file(path: Path, kind: str = "sha256") -> str:
    """The digest of a file, of a kind that `hashlib` has."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def holds_array(npz: Path, name: str) -> bool:
    """Whether a file is an npz with an array of this name; false for one that cannot be read."""
    try:
        with ZipFile(npz) as archive:
            return f"{name}.npy" in archive.namelist()
    except Exception:  # whatever a damaged archive does: what is wrong is said where it is read
        return False


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _build_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key comes twice")
    return value


DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_build_object)
