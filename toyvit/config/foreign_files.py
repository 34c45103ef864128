"""Reading files that may come from elsewhere: what is wrong is one line that names the place."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from toyvit.errors import BadInput

JsonObject = dict[str, Any]


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


def read_file(path: Path) -> bytes:
    """The bytes of a file; BadInput where there is no file that ends and can be read."""
    if path.exists() and not path.is_file():
        raise BadInput(f"{path} is no file: it is a folder, a pipe or a device")
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None


def hash_file(path: Path, kind: str = "sha256") -> str:
    """The digest of a file, of a kind that `hashlib` has."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _build_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key comes twice")
    return value


DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_build_object)
