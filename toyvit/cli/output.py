"""What commands print: every line passes here."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from toyvit.errors import escape_lines, escape_text


def show(*lines: object, error: bool = False) -> None:
    """Print lines, a line each, on standard output or standard error.

    What does not print in them, such as control characters in a name, stands as its escape; so does
    what the terminal has no letters for.

    >>> show("a\\x07b")
    a\\x07b
    """
    stream = sys.stderr if error else sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    for line in lines:
        shown = escape_text(str(line)).encode(encoding, "backslashreplace")
        print(shown.decode(encoding), file=stream)


def show_text(text: str) -> None:
    """Print a text of several lines whose parts from elsewhere are escaped already."""
    show(*text.split("\n"))


class EscapingFormatter(logging.Formatter):
    """Messages as they can be shown in a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The message's lines."""
        return escape_lines(super().format(record))


def align_rows(rows: Sequence[Sequence[str]]) -> str:
    """A table as lines whose columns begin below each other.

    >>> print(align_rows([("run", "step"), ("a", "500"), ("longer", "")]))
    run     step
    a       500
    longer
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
