"""Cards: the pages that say what each data set is, and where else their text goes.

A world's card stands beside its code; `python -m toyvit.data.cards` copies the cards, and the page
on exports, to `datasets/` and lists the worlds in `datasets/README.md`.
"""

from __future__ import annotations

import posixpath
import re
import sys
from importlib.resources import files as package_files
from pathlib import Path

from toyvit.config.whole_files import write_atomically
from toyvit.data import files, worlds
from toyvit.errors import BadInput

LINK = re.compile(r"\[([^]]*)\]\((\.\./[^)#]+)\)")
PREVIEW = "![preview](preview.png)\n\n"
EXPORTS = "exports.md"
INDEX = "README.md"
TABLE = re.compile(r"\| set \| pictures \| what it is for \|\n(\|.*\n)+")


def read_page(path: str) -> str | None:
    """The text of a page by its path in `datasets/`: `NAME/README.md` or `exports.md`.

    From the `datasets/` of the working folder or above, else the project's own; None where there is
    no such page.
    """
    prepared = files.find_prepared(path)
    if prepared.is_file():
        return prepared.read_text()
    if path == EXPORTS:
        return package_files("toyvit.data").joinpath(EXPORTS).read_text()
    name, _, file = path.partition("/")
    return worlds.read_card(name) if name in worlds.NAMES and file == INDEX else None


def collect_pages(name: str) -> dict[str, str]:
    """The card of a data set as `README.md`, and by a name of their own the pages that it leads to.

    And those that these lead to; all links stay inside.
    """
    start = f"{name}/{INDEX}"
    missing = (
        f"# {name}\n\nThe card was not at hand: it is `datasets/{start}` of the project's "
        "repository.\n"
    )
    texts = {start: read_page(start) or missing}
    waiting = [start]
    for page in waiting:
        for link in LINK.finditer(texts[page]):
            path = _follow(page, link[2])
            text = None if path in texts else read_page(path)
            if text is not None:
                texts[path] = text.replace(PREVIEW, "")
                waiting.append(path)

    names = {path: _name_file(path, start) for path in texts}
    return {names[path]: _relink(text, path, names) for path, text in texts.items()}


def _follow(page: str, link: str) -> str:
    """Where a link of a page leads, as a path in `datasets/`."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def _name_file(path: str, start: str) -> str:
    """A page's name where all lie in one folder."""
    folder, _, file = path.rpartition("/")
    return INDEX if path == start else f"{folder}.md" if file == INDEX else file


def _relink(text: str, page: str, names: dict[str, str]) -> str:
    """The text with its links by these names; a link to no page among them is left as words."""

    def replace_link(link: re.Match[str]) -> str:
        name = names.get(_follow(page, link[2]))
        return f"[{link[1]}]({name})" if name else link[1]

    return LINK.sub(replace_link, text)


def build_index(text: str) -> str:
    """The page `datasets/README.md` with its table of data sets as they are now."""
    lines = ["| set | pictures | what it is for |", "|---|---|---|"]
    for name, entry in worlds.list_worlds().items():
        lines.append(f"| [{name}]({name}/{INDEX}) | {entry.pictures} | {entry.purpose} |")
    table = "\n".join([*lines, ""])
    return TABLE.sub(lambda _: table, text)


def list_pages(folder: Path) -> dict[Path, str]:
    """Every page of a folder `datasets/` and what it should say."""
    index = folder / INDEX
    if not index.is_file():
        raise BadInput(f"{folder} has no {INDEX}: it is not the project's folder `datasets`")
    pages = {index: build_index(index.read_text())}
    pages[folder / EXPORTS] = package_files("toyvit.data").joinpath(EXPORTS).read_text()
    for name in worlds.NAMES:
        pages[folder / name / INDEX] = worlds.read_card(name)
    return pages


def write_pages(folder: Path) -> None:
    """Write every page of a folder `datasets/`."""
    for path, text in list_pages(folder).items():
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, text.encode())


def main() -> int:
    """Exit code: 0 written, 2 bad input."""
    folder = Path.cwd() / "datasets"
    try:
        write_pages(folder)
    except BadInput as error:
        print(f"cards: {error}", file=sys.stderr)
        return 2
    print(f"{folder}: {len(worlds.NAMES)} cards")
    return 0


if __name__ == "__main__":
    sys.exit(main())
