"""The public face: lazy, complete, the same for editors, and never hidden by a submodule."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import toyvit
from tests.stories.warm import Warm

ROOT = Path(__file__).parents[2]


def run_python(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def run_bare(code: str) -> str:
    """What a process prints that has imported nothing of the lab."""
    process = Warm("-c", code, cwd=ROOT, bare=True)
    out, error = process.communicate()
    assert process.returncode == 0, error
    return out.strip()


def test_importing_the_package_imports_nothing_heavy():
    heavy = "{'torch', 'numpy', 'pandas', 'matplotlib', 'scipy', 'sklearn'}"
    assert run_python(f"import sys, toyvit; print({heavy} & set(sys.modules))") == "set()"


@pytest.mark.slow
def test_every_name_is_what_its_module_defines_twice_and_after_all_submodules():
    code = """
import importlib, pkgutil, toyvit
first = {name: getattr(toyvit, name) for name in toyvit.__all__}
for module in pkgutil.walk_packages(toyvit.__path__, "toyvit."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
for name in toyvit.__all__:
    value = getattr(importlib.import_module(toyvit.MODULES[name]), name)
    assert first[name] is getattr(toyvit, name) is value, name
print(len(first))
"""
    assert int(run_bare(code)) == len(toyvit.MODULES) > 40


@pytest.mark.slow
def test_names_are_there_when_submodules_are_imported_first():
    """A submodule of the same name would hide a public name from then on."""
    code = """
import importlib, pkgutil, toyvit
for module in pkgutil.walk_packages(toyvit.__path__, "toyvit."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
import types
print([name for name in toyvit.__all__ if isinstance(getattr(toyvit, name), types.ModuleType)])
"""
    assert run_bare(code) == "[]"


def test_no_name_is_given_twice_and_none_is_a_submodule():
    names = [name for names in toyvit.PUBLIC.values() for name in names]
    submodules = {path.stem for path in (ROOT / "toyvit").iterdir()}
    assert len(names) == len(set(names)) and not submodules & set(names)


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(toyvit, "Trajectory")
    assert {"Run", "fit", "__version__"} <= set(dir(toyvit))


def test_the_stub_says_the_same_as_the_table():
    tree = ast.parse((ROOT / "toyvit/__init__.pyi").read_text())
    stub = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            stub[node.module] = tuple(alias.name for alias in node.names)
            assert all(alias.asname == alias.name for alias in node.names)
    assert stub == {module: tuple(sorted(names)) for module, names in toyvit.PUBLIC.items()}


def test_nothing_inside_the_package_imports_from_the_face():
    for path in (ROOT / "toyvit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (
                isinstance(node, ast.ImportFrom)
                and node.module == "toyvit"
                and {alias.name for alias in node.names} & set(toyvit.MODULES)
            ), path


def test_the_version_is_said_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == toyvit.__version__
