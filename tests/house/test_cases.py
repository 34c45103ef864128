"""What `make fuzz` has found stays mended."""

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


def run(folder: Path, profile: str) -> int:
    """Exit code of the properties in a folder."""
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
        [sys.executable, "-m", "pytest", *options], cwd=folder, timeout=600, check=False
    ).returncode


@pytest.mark.slow
def test_kept_cases_hold():
    if (ROOT / "tests/cases").exists():
        assert run(ROOT, "cases") == 0


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
