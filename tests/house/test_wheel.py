"""The wheel holds all that commands read: built, put in another place, and used from there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from toyvit.data.worlds import NAMES

ROOT = Path(__file__).parents[2]
BUILD = "import sys\nfrom setuptools import build_meta\nprint(build_meta.build_wheel(sys.argv[1]))"
# What a stranger does with the lab, in one process; `sys.argv[1]` is where it was put.
PROGRAM = """
import sys
from importlib.metadata import distribution
from pathlib import Path
import toyvit
from toyvit.data import exports, worlds
from toyvit.__main__ import main

place = Path(sys.argv[1])
assert place in Path(toyvit.__file__).parents, toyvit.__file__
assert not any((Path(folder or '.') / 'pyproject.toml').exists() for folder in sys.path)
(start,) = distribution('toyvit').entry_points.select(group='console_scripts')
assert start.load() is main
for name in worlds.NAMES:
    assert len(worlds.read_card(name)) > 500, name
small = ['--train.steps', '3', '--train.n_validation', '8', '--train.checkpoints', 'none']
for words in (
    ['train', 'induction-smoke', *small],
    ['ls'],
    ['measure', 'runs/induction-smoke', '--images', '8', '--analyses', 'performance'],
    ['verify', 'runs/induction-smoke'],
    ['data'],
    ['data', 'glyphs', '--export', 'out', '--samples', '20'],
    ['sites', 'digits'],
):
    assert main(words) == 0, words
assert {'README.md', 'exports.md', 'train.npz'} <= {path.name for path in Path('out').iterdir()}
try:
    main(['--help'])
except SystemExit as end:
    assert not end.code
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built without a network, from a copy: setuptools writes beside the sources."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "toyvit", source / "toyvit", ignore=ignored)
    words = [sys.executable, "-c", BUILD, str(source)]
    done = subprocess.run(words, cwd=source, check=True, capture_output=True, text=True)
    return source / done.stdout.split()[-1]


def list_package() -> set[str]:
    """Every file of the package in the checkout."""
    paths = (ROOT / "toyvit").rglob("*")
    files = {path.relative_to(ROOT).as_posix() for path in paths if path.is_file()}
    return {name for name in files if "__pycache__" not in name}


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package_its_licence_and_nothing_else(wheel):
    names = set(ZipFile(wheel).namelist())
    inside = {name for name in names if ".dist-info/" not in name}
    assert inside == list_package()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert sum(name.endswith("/card.md") for name in inside) == len(NAMES)


@pytest.mark.slow
def test_the_lab_works_where_there_is_no_checkout(wheel, tmp_path):
    place = tmp_path / "packages"
    ZipFile(wheel).extractall(place)
    work = tmp_path / "work"
    work.mkdir()
    environ = os.environ | {"PYTHONPATH": str(place)}
    words = [sys.executable, "-c", PROGRAM, str(place)]
    done = subprocess.run(words, cwd=work, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "runs/induction-smoke" in done.stdout and "usage: toyvit" in done.stdout
