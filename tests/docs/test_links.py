"""Links lead somewhere; generated pages are what their tables say; pages are short."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from bench.pages import build_pages
from tests.docs.pages import BLOCK, LINK, PAGES, ROOT, list_headings, name_page
from tests.house.test_architecture import RUNGS

DOCS = ROOT / "docs"
RECORDED = ("replications.md", "claims.md")  # written of records, of any length
GENERATED = build_pages()
API = {page for page in GENERATED if page.parent.name == "api"}  # their anchors are the site's
HAND_WRITTEN = [
    page
    for page in PAGES
    if page not in GENERATED and page.is_relative_to(DOCS) and page.name not in RECORDED
]


def find_broken(page: Path) -> list[str]:
    """Links of a page that lead nowhere."""
    broken = []
    for link in LINK.findall(BLOCK.sub("", page.read_text())):
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        anchored = not anchor or target in API or anchor in list_headings(target)
        if not target.exists() or not anchored:
            broken.append(link)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_links_lead_somewhere(page):
    assert find_broken(page) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One\n\n[a](page.md#one) [b](page.md#two) [c](none.md) [d](#one)\n")
    assert find_broken(page) == ["page.md#two", "none.md"]


@pytest.mark.parametrize("path", GENERATED, ids=name_page)
def test_a_generated_page_is_what_its_tables_say(path):
    """`python -m bench.pages` writes it."""
    assert path.exists() and path.read_text() == GENERATED[path]


def test_every_finding_of_the_log_answers_a_question_of_its_index():
    text = (ROOT / "LOG.md").read_text()
    index = text.split("## By question")[1].split("\n## ")[0]
    titles = re.findall(r"^## (\d{4}-.*)$", text, re.M)
    assert len(titles) > 40 and find_broken(ROOT / "LOG.md") == []
    linked = re.findall(r"\]\(#([^)]+)\)", index)
    anchors = [re.sub(r"[^\w\s-]", "", title).lower().replace(" ", "-") for title in titles]
    assert set(anchors) <= set(linked)


def test_no_generated_page_is_left_over():
    assert {page for page in PAGES if page.parent.name == "api"} == API


LONGER = ("glossary.md", "design.md", "contributing.md", "reliability.md", "own-pictures.md")


@pytest.mark.parametrize("page", HAND_WRITTEN, ids=name_page)
def test_a_hand_written_page_is_short(page):
    longest = 130 if page.name in LONGER else 100
    lines = page.read_text().splitlines()
    assert len(lines) <= longest
    flowing = [line for line in lines if not line.startswith(("|", "<!--", "    ", "["))]
    assert max(map(len, flowing)) <= 112


def list_navigation(entry: object) -> list[str]:
    """Every page that the site's navigation names."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [page for part in parts for page in list_navigation(part)]


def test_every_page_is_in_the_navigation_once():
    navigation = list_navigation(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert sorted(navigation) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_the_table_of_layers_is_the_one_that_is_checked():
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", (DOCS / "design.md").read_text(), re.M)
    stated = [tuple(re.findall(r"`(\w+)`", packages)) for _, packages in rows]
    assert stated == list(RUNGS) and [int(layer) for layer, _ in rows] == list(range(len(RUNGS)))


def test_every_dependency_is_in_the_table_with_its_use():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[\[>]", line)[0] for group in groups for line in group}
    table = (DOCS / "design.md").read_text().split("## Dependencies")[1]
    stubs = {name for name in names if "stubs" in name or name.startswith("types-")}
    assert {name for name in names - stubs if not re.search(rf"\b{name}\b", table)} == set()


def list_identifiers() -> set[str]:
    """Every identifier of the package, and every text in it that is one word."""
    names: set[str] = set()
    for path in (ROOT / "toyvit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            for field in ("id", "name", "attr", "arg", "value"):
                word = getattr(node, field, None)
                if isinstance(word, str) and re.fullmatch(r"[\w-]+", word):
                    names.add(word)
    return names


@pytest.mark.slow
def test_the_new_names_of_the_glossary_are_there():
    section = (DOCS / "glossary.md").read_text().split("## Old names")[1]
    rows = re.findall(r"^\| (.*) \| (.*) \| (.*) \| (.*) \|$", section, re.M)
    cells = [cell for row in rows[1:] for cell in (row[1], row[3])]
    named = [re.match(r"[\w.-]+", text) for cell in cells for text in re.findall(r"`(.*?)`", cell)]
    last = {match[0].lstrip("-").split(".")[-1] for match in named if match}
    assert len(last) > 50 and last - list_identifiers() == set()


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(re.findall(r"\S+", text)) < 700
    python = re.findall(r"```python\n(.*?)```", text, re.S)
    assert sum(block.count("import ") for block in python) <= 3
