"""The renames of the second edition: one to one, new names are there, old words are gone."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from bench import renames
from toyvit.analyses.names import NAMES, RENAMED
from toyvit.cli.renamed import OPTIONS

ROOT = Path(__file__).parents[2]
# Public functions and classes of version 0.1, `module.name`, and where each is now.
IDENTIFIERS: dict[str, str] = json.loads((ROOT / "bench/renamed_identifiers.json").read_text())
# Words that only the lab used. Others of the design's table are ordinary names of other things too
# (`pairs` of pictures, a `table`, what was `drawn`): for those the table above stands.
GONE = [
    "Judge",
    "Kept",
    "kept",
    "hear",
    "Heard",
    "heard",
    "listening",
    "rewired",
    "rewiring",
    "instead",
    "stand_in",
    "base",
    "Contrast",
    "contrast",
    "knock_out",
    "knock_outs",
    "blocked",
    "Trajectory",
    "Found",
    "judged",
    "Pairs",
    "other_answer",
    "scalars",
    "naive",
    "battery",
    "flagged",
    "left_out",
    "held",
    "Held",
    "in_force",
    "System",
    "Data",
    "Stream",
    "Snapshots",
    "Interrupts",
    "told_steps",
    "remembered",
    "flow",
    "said",
]


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def list_files() -> list[Path]:
    folders = (ROOT / name for name in ("toyvit", "tests", "bench", "examples"))
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


def list_identifiers(tree: ast.AST) -> Iterator[str]:
    """Every name that a source gives or uses: variables, attributes, arguments, definitions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg | ast.keyword):
            yield node.arg or ""
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name


def find_module(name: str) -> Path:
    path = ROOT / "toyvit" / name.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def is_defined(identifier: str) -> bool:
    """Whether a function or class, `module.name`, or a method, `module.Class.name`, is there."""
    module, _, name = identifier.rpartition(".")
    path = find_module(module)
    body = parse(path).body if path.exists() else find_class(module)
    kinds = ast.FunctionDef | ast.ClassDef
    return any(isinstance(node, kinds) and node.name == name for node in body)


def find_class(identifier: str) -> list[ast.stmt]:
    """The body of a class; empty where there is none."""
    module, _, name = identifier.rpartition(".")
    path = find_module(module)
    classes = parse(path).body if module and path.exists() else []
    bodies = [node.body for node in classes if isinstance(node, ast.ClassDef) and node.name == name]
    return bodies[0] if bodies else []


@pytest.mark.parametrize(
    "table",
    [IDENTIFIERS, renames.ANALYSES, renames.OPTIONS, renames.FIELDS, renames.FIGURES],
    ids=["identifiers", "analyses", "options", "fields", "figures"],
)
def test_renames_are_one_to_one(table):
    assert len(set(table.values())) == len(table) and not set(table) & set(table.values())


@pytest.mark.slow
def test_every_new_name_is_defined_and_no_old_one_is():
    assert len(IDENTIFIERS) > 500
    assert [new for new in IDENTIFIERS.values() if not is_defined(new)] == []
    assert [old for old in IDENTIFIERS if is_defined(old)] == []


def test_what_is_typed_and_stored_says_the_same():
    assert renames.ANALYSES == RENAMED and set(RENAMED.values()) <= set(NAMES)
    assert renames.OPTIONS == OPTIONS


@pytest.mark.slow
def test_words_of_before_are_no_identifiers():
    left = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in list_files()
        for name in set(list_identifiers(parse(path))) & set(GONE)
    }
    assert left == set()


def test_the_check_sees_an_old_word():
    source = "def hear(kept, *, base=1):\n    return Judge.held(said=kept)"
    assert set(list_identifiers(ast.parse(source))) & set(GONE) == {
        "hear",
        "kept",
        "base",
        "Judge",
        "held",
        "said",
    }
