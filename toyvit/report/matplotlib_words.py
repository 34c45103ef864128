"""Texts as matplotlib shows them as they are, whoever wrote them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace

from toyvit.errors import escape_lines
from toyvit.report.panels import FigureData

LONG_WORD = re.compile(r"(\S{100})\S{20,}")


def show_plainly(text: str) -> str:
    r"""A text as matplotlib shows it as it is: not as mathematics, and in every legend.

    Words without end are cut.

    >>> show_plainly("_$x$")
    ' _\\$x\\$'
    """
    plain = LONG_WORD.sub(r"\1...", escape_lines(text)).replace("$", r"\$")
    return f" {plain}" if plain.startswith("_") else plain  # legends leave out what begins so


def map_words(figure: FigureData, change: Callable[[str], str]) -> FigureData:
    """A figure with every text in it changed."""
    changed = _map_words(figure, change)
    assert isinstance(changed, FigureData)
    return changed


def _map_words(value: object, change: Callable[[str], str]) -> object:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _map_words(part, change) for key, part in value.items()}
    if isinstance(value, tuple):
        return tuple(_map_words(part, change) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        parts = {part.name: _map_words(getattr(value, part.name), change) for part in fields(value)}
        return replace(value, **parts)
    return value
