"""Arrays as text: deflated, in base 64, each in an element of its own that the page reads late."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from toyvit.errors import escape_lines
from toyvit.report.plain import Plain

# What the page's script reads, by numpy's name: little-endian, as typed arrays are.
KINDS = {"float32": "<f4", "uint16": "<u2", "uint8": "u1"}


TEXT = 4 / 3  # bytes of text for a byte in base 64


@dataclass
class ArrayStore:
    """The arrays of a page, in the order in which they were added."""

    texts: list[str] = field(default_factory=list)

    def add(self, values: NDArray[np.generic]) -> dict[str, Plain]:
        """What stands for an array in the page's data: its number, its kind and its shape."""
        raw = np.ascontiguousarray(values, KINDS[values.dtype.name]).tobytes()
        self.texts.append(base64.b64encode(zlib.compress(raw, 6)).decode())
        shape: list[Plain] = list(values.shape)
        return {"array": len(self.texts) - 1, "kind": values.dtype.name, "shape": shape}

    @staticmethod
    def count_bytes(values: NDArray[np.generic]) -> float:
        """The most that an array takes in the page: where nothing in it repeats."""
        return values.nbytes * TEXT

    @property
    def size(self) -> int:
        """Bytes in the page."""
        return sum(map(len, self.texts))


def escape_texts(value: Plain) -> Plain:
    """The same with texts as they can be shown anywhere, see `errors.escape_text`.

    >>> escape_texts({"name": [chr(7), 1.5]})
    {'name': ['\\\\x07', 1.5]}
    """
    if isinstance(value, str):
        return escape_lines(value)
    if isinstance(value, dict):
        return {escape_lines(key): escape_texts(part) for key, part in value.items()}
    if isinstance(value, list) and not all(isinstance(part, float) for part in value):
        return [escape_texts(part) for part in value]
    return value


def format_json(value: Plain) -> str:
    """JSON that may stand in a page: nothing in it ends an element or begins another.

    >>> format_json({"name": "</script>"})
    '{"name":"\\\\u003c/script\\\\u003e"}'
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
