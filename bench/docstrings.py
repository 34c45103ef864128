"""Docstrings as Markdown: what is set in columns and what is an example stay as they are."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

COLUMNS = re.compile(r"^\S+.*\S {3,}\S", re.MULTILINE)
DIRECTIVE = re.compile(r" *# doctest:.*$", re.MULTILINE)


def format_docstring(text: str) -> str:
    """Paragraphs in Markdown, with fences around examples and around what is set in columns.

    >>> print(format_docstring("Twice.\\n\\n>>> 2 * 2\\n4"))
    Twice.
    <BLANKLINE>
    ```pycon
    >>> 2 * 2
    4
    ```
    """
    return "\n\n".join(format_paragraph(paragraph) for paragraph in text.split("\n\n"))


def format_paragraph(paragraph: str) -> str:
    """One paragraph of a docstring."""
    if paragraph.lstrip().startswith(">>>"):
        return f"```pycon\n{DIRECTIVE.sub('', paragraph)}\n```"
    if COLUMNS.search(paragraph) and not paragraph.startswith("|"):
        return f"```text\n{paragraph}\n```"
    return paragraph


class Docstrings(Extension):
    """Formats every docstring that mkdocstrings shows."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """What griffe calls with each object that it has read."""
        if obj.docstring is not None:
            obj.docstring.value = format_docstring(obj.docstring.value)
