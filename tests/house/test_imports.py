"""What each command may import: read off the code, and off processes that ran one."""

from __future__ import annotations

import ast
import ctypes
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.house.test_architecture import MODULES, find_module, imports
from toyvit.cli.imports import importing
from toyvit.recipes import RECIPES
from toyvit.train import fit

ROOT = Path(__file__).parents[2]
TORCH = ("torch", "numpy", "safetensors")
FITTING = ("scipy", "sklearn", "joblib", "tensorboard", "matplotlib")
LIGHTNING = ("pytorch_lightning", "torchvision", "torchmetrics")
# A command by the modules of the package that it imports, and the packages that none of what these
# import may import at once; what they need for some runs only they import then.
CLOSED = {
    "ls": (("cli.main", "runs.finding"), (*TORCH, *FITTING, *LIGHTNING, "pandas", "argcomplete")),
    "verify": (("runs.verification",), (*FITTING, *LIGHTNING)),
    "measure of nothing": (
        ("cli.measurement", "runs.measured"),
        (*TORCH, *FITTING, *LIGHTNING, "pandas"),
    ),
    "measure": (("measuring", "runs.handle"), (*FITTING, *LIGHTNING)),
    "train": (("train.__init__",), (*FITTING, "pandas")),
    "follow": (("cli.following",), ("torch", "scipy", "sklearn", "joblib", "pandas", "matplotlib")),
}


def is_at_once(node: ast.stmt) -> bool:
    """Whether a statement is carried out when its module is imported."""
    is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    is_for_checkers = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    return not (is_function or is_for_checkers)


def list_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """All statements that are carried out at once, those within others too."""
    for node in filter(is_at_once, body):
        yield node
        for name in ("body", "orelse", "finalbody", "handlers"):
            for inner in getattr(node, name, ()):
                yield from list_statements(inner.body if name == "handlers" else [inner])


def list_imported(source: str, module: str) -> set[str]:
    """Dotted names of all that a module imports at once."""
    names: set[str] = set()
    for node in list_statements(ast.parse(source).body):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= set(imports(ast.Module([node], []), module))
    return names


def collect_imported(modules: tuple[str, ...]) -> dict[str, str]:
    """Foreign packages that are imported with some modules of ours, each by one that imports it."""
    foreign: dict[str, str] = {}
    known: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in known:
            continue
        known.add(module)
        parts = module.split(".")[:-1]
        rooms = [".".join([*parts[:end], "__init__"]) for end in range(1, len(parts) + 1)]
        waiting += [room for room in rooms if room in MODULES]

        for name in list_imported(MODULES[module].read_text(), module):
            other = find_module(name) if name.startswith("toyvit.") else None
            if other is not None:
                waiting.append(other)
            else:
                foreign.setdefault(name.split(".")[0], module)
    return foreign


@pytest.mark.parametrize("command", CLOSED)
def test_no_module_of_a_command_imports_what_it_does_not_need(command):
    modules, forbidden = CLOSED[command]
    foreign = collect_imported(modules)
    assert {name: foreign[name] for name in forbidden if name in foreign} == {}


@pytest.mark.parametrize("was_enabled", [True, False])
def test_nothing_is_searched_for_cycles_while_a_command_imports(was_enabled, monkeypatch):
    """And what was imported stays out of later searches; the collector is as it was before."""
    monkeypatch.delitem(sys.modules, "this", raising=False)
    frozen = gc.get_freeze_count()
    try:
        if not was_enabled:
            gc.disable()
        with importing():
            assert not gc.isenabled()
        assert gc.isenabled() == was_enabled and gc.get_freeze_count() == frozen

        with importing():
            import_module("this")
        assert gc.isenabled() == was_enabled and gc.get_freeze_count() > frozen
    finally:
        gc.unfreeze()
        gc.enable()


@pytest.mark.parametrize("is_glibc", [True, False])
def test_a_command_holds_the_memory_that_it_has_freed(is_glibc, monkeypatch):
    told = []
    library = SimpleNamespace(mallopt=lambda *setting: told.append(setting))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library if is_glibc else SimpleNamespace())
    with importing():
        pass
    assert told == ([(-1, 2**29), (-3, 2**25)] if is_glibc else [])


def test_the_collection_of_imports_can_fail():
    source = """
import torch.nn
from toyvit.errors import BadInput
try:
    import pandas
except ImportError:
    import numpy
if TYPE_CHECKING:
    import scipy
class Reader:
    import joblib
    def read(self):
        import sklearn
"""
    names = {name.split(".")[0] for name in list_imported(source, "runs.folder")}
    assert names == {"torch", "toyvit", "pandas", "numpy", "joblib"}
    assert {"torch", "pandas"} <= collect_imported(("measuring",)).keys()
    assert collect_imported(("cli.main",)).keys() >= {"argparse"}


def run(folder: Path, *words: str, after: str = "") -> list[str]:
    """The lines of a command that a fresh process runs in a folder, and of what it does after."""
    done = subprocess.run(
        [sys.executable, "-c", f"{RUN}code = main(sys.argv[1:])\n{after}\nsys.exit(code)", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with one run that is trained, and measured by the command."""
    config = RECIPES["induction-smoke"]()
    training = replace(config.train, steps=2, batch_size=8, n_validation=16, checkpoints=())
    path = tmp_path_factory.mktemp("runs")
    fit(replace(config, train=training), path / "run", progress=False)
    run(path, *MEASURE)
    return path


RUN = "import sys\nfrom toyvit.cli.main import main\n"
MEASURE = ("measure", "run", "--analyses", "performance,norms", "--images", "16")
TRAIN = ("train", "induction-smoke", "--name", "other", "--train.steps", "1")
PROCESSES = {
    "ls": (("ls", "."), (*TORCH, *FITTING, *LIGHTNING, "pandas")),
    "measure of nothing": (MEASURE, (*TORCH, *FITTING, *LIGHTNING, "pandas")),
    "train": (TRAIN, ("pandas", "sklearn", "joblib", "tensorboard")),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", PROCESSES)
def test_a_command_has_not_imported_what_it_did_not_need(runs, case):
    words, forbidden = PROCESSES[case]
    report = f"print('imported', *[name for name in {forbidden} if name in sys.modules])"
    lines = run(runs, *words, after=report)
    assert lines[-1] == "imported"
    if case == "measure of nothing":
        assert lines[-2] == "run: measured 0 analyses of checkpoints, 4 were there"
