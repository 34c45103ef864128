"""What `make fuzz` has found stays mended."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROPERTY = """
from hypothesis import given, settings, strategies as st

@settings(max_examples=200)
@given(st.integers(0, 1000))
def test_small(number):
    assert number < 900
"""


def run(folder: Path, profile: str, *files: Path) -> int:
    """Exit code of the properties in a folder, or in these files of it."""
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-m",
        "hypothesis and not data",
        "--hypothesis-profile",
        profile,
    ]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files], cwd=folder, timeout=600, check=False
    ).returncode


def list_cut_off(text: str) -> list[str]:
    """The decorators in a source that keep a property from reading the kept cases."""
    cut_off = []
    for node in ast.walk(ast.parse(text)):
        for decorator in getattr(node, "decorator_list", []):
            name = ast.unparse(getattr(decorator, "func", decorator)).rpartition(".")[2]
            options = {keyword.arg for keyword in getattr(decorator, "keywords", [])}
            of_settings = name == "settings" and options & {"database", "derandomize", "phases"}
            if name == "seed" or of_settings:
                cut_off.append(ast.unparse(decorator))
    return cut_off


def list_properties() -> list[Path]:
    """The files that have a property."""
    return [path for path in (ROOT / "tests").rglob("test_*.py") if "\n@given(" in path.read_text()]


def select_to_try(files: list[Path], cases: Path) -> list[Path]:
    """Those that may have something to try again: all, where any case is kept.

    A file name of a case does not tell its property. Else those with an example, and the shortest.
    """
    if any(cases.rglob("*")):
        return files
    shortest = min(files, key=lambda path: path.stat().st_size)
    return [path for path in files if path == shortest or "\n@example(" in path.read_text()]


@pytest.mark.slow
def test_kept_cases_hold():
    """And every `@example`; where no property is there to be tried, pytest's exit code is 5."""
    files = select_to_try(list_properties(), ROOT / "tests/cases")
    assert run(ROOT, "cases", *files) == 0


def test_every_property_is_tried_where_a_case_is_kept(tmp_path):
    texts = {"a": "\n@given(x)" * 9, "b": "\n@given(x)\n@example(1)" * 9, "c": "\n@given(x)"}
    files = [tmp_path / f"test_{name}.py" for name in texts]
    for file, text in zip(files, texts.values(), strict=True):
        file.write_text(text)
    assert select_to_try(files, tmp_path / "cases") == files[1:]

    (tmp_path / "cases/1f").mkdir(parents=True)
    (tmp_path / "cases/1f/2e").touch()
    assert select_to_try(files, tmp_path / "cases") == files


def test_every_property_reads_the_kept_cases():
    properties = [path.read_text() for path in list_properties()]
    assert len(properties) > 10
    assert [call for text in properties for call in list_cut_off(text)] == []


@pytest.mark.parametrize(
    ("decorator", "n"),
    [
        ("settings(max_examples=20, deadline=None)", 0),
        ("settings(derandomize=True)", 1),
        ("hypothesis.settings(max_examples=20, database=None)", 1),
        ("settings(phases=[Phase.generate])", 1),
        ("seed(3)", 1),
    ],
)
def test_a_property_that_reads_none_is_noticed(decorator, n):
    assert len(list_cut_off(f"@{decorator}\n@given(a)\ndef test_a(a): ...")) == n


@pytest.mark.slow
def test_what_the_search_finds_is_kept_and_tried_again(tmp_path):
    """On a property that breaks, in a folder with these settings: nothing, then found, then tried
    again.
    """
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/__init__.py").touch()
    (tmp_path / "tests/conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (tmp_path / "tests/standins.py").write_text("def use(): pass")
    (tmp_path / "tests/test_small.py").write_text(PROPERTY)

    assert run(tmp_path, "cases") == 0
    assert run(tmp_path, "fuzz") == 1 and any((tmp_path / "tests/cases").rglob("*"))
    assert run(tmp_path, "cases") == 1
