"""What stands in a page: blocks of code with the comments above them, inline code, headings, links.

A comment right above a block says how it is tried: `run with: A -> B; C -> D` replaces text to make
it smaller, `not run: why` leaves it at parsing. `given: runs/deep` at the top of a page gives it a
small trained run of that name.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(
    r"(?:^<!-- (?P<note>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S
)
LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    page: Path
    line: int
    language: str
    note: str
    text: str

    @property
    def is_run(self) -> bool:
        return not self.note.startswith("not run: ")

    @property
    def reduced(self) -> str:
        """The text with what its comment replaces; ValueError where there is nothing to replace."""
        text = self.text
        if self.note.startswith("run with: "):
            for pair in self.note.removeprefix("run with: ").split("; "):
                old, _, new = pair.partition(" -> ")
                if old not in text:
                    raise ValueError(f"{self}: no {old!r} to replace")
                text = text.replace(old, new)
        return text

    def __str__(self) -> str:
        return f"{name_page(self.page)}:{self.line}"


def name_page(page: Path) -> str:
    return str(page.relative_to(ROOT))


def read_blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text()
    return [
        Block(
            page=page,
            line=text.count("\n", 0, match.start()) + 1,
            language=match["language"],
            note=match["note"] or "",
            text=match["text"],
        )
        for match in BLOCK.finditer(text)
    ]


def split_commands(text: str) -> Iterator[list[str]]:
    """The commands of a block of shell, as words, without comments and leading settings."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if words:
            yield words


def list_headings(page: Path) -> set[str]:
    """The anchors of a page, as the site and as a repository's host name them."""
    text = BLOCK.sub("", page.read_text())
    anchors = set(re.findall(r'<a id="([^"]+)">', page.read_text()))
    for title in re.findall(r"^#+ (.*)$", text, re.M):
        plain = re.sub(r"[^\w\s-]", "", title.replace("`", "")).strip().lower()
        anchors |= {re.sub(r"[\s-]+", "-", plain), plain.replace(" ", "-")}
    return anchors
