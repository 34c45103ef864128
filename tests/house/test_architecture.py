"""Who may import whom, what may not be imported at all, and that this check can fail."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "toyvit"
RUNGS = (
    ("errors", "config", "stats", "surroundings", "torchvision_guard", "version"),
    ("model",),
    ("data",),
    ("recipes",),
    ("clamps",),
    ("runs",),
    ("instruments",),
    ("circuits",),
    ("analyses", "train"),
    ("measuring", "dynamics"),
    ("report", "sweeping", "bridges"),
    ("replications",),
    ("cli", "__main__"),
)
RUNG = {room: rung for rung, rooms in enumerate(RUNGS) for room in rooms}
SIDEWAYS: set[tuple[str, str]] = set()
ONLY = {
    "pytorch_lightning": {"train", "bridges"},
    "lightning": set(),
    "matplotlib": {"report"},
    "tensorboard": {"report", "runs"},
    "torchvision": {"torchvision_guard"},
    "starlette": {"report"},
    "uvicorn": {"report"},
    "pickle": set(),
    "dill": set(),
    "cloudpickle": set(),
    "marshal": set(),
    "shelve": set(),
}
# Declarations stand beside the code of their room, and on the lowest rung.
DECLARATIONS = re.compile(
    r"data\.(__init__|question_configs|worlds\.__init__|worlds\.\w+\.(__init__|config))"
)
# Names, options and one-liners are read before anything heavy is: what these modules import is the
# standard library and each other.
LIGHT = re.compile(rf"errors|analyses\.names|config\..+|recipes\..+|{DECLARATIONS.pattern}")
HARMLESS = {"pickle.UnpicklingError"}  # to refuse a damaged file one must catch what torch raises
# Calls that run what stands in a file, whatever the module is called where it is imported; and the
# loaders that do so unless they are told not to, which must be told in plain keywords.
FORBIDDEN_CALLS = re.compile(r"(joblib|pickle)\.loads?|pandas\.read_pickle|.*\.read_pickle")
LOADERS = {"torch.load": ("weights_only", "True"), "numpy.load": ("allow_pickle", "False")}
# Code that a table of declarations loads by its name, when it is first asked for.
BY_NAME = {"toyvit.data.questions"}
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def imports(tree: ast.AST, module: str) -> Iterator[str]:
    """Full dotted names of all that a module imports, inside functions too."""
    package = ["toyvit", *module.split(".")[: None if module.endswith("__init__") else -1]]
    package = [part for part in package if part != "__init__"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            reference = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{reference}.{alias.name}" for alias in node.names)


def find_module(name: str) -> str | None:
    """The module of the package that a dotted name `toyvit.…` is, or is in."""
    parts = name.split(".")[1:]
    for end in range(len(parts), 0, -1):
        module = ".".join(parts[:end])
        if module in MODULES:
            return module
        if f"{module}.__init__" in MODULES:
            return f"{module}.__init__"
    return None


def is_light(name: str) -> bool:
    """Whether an imported name is of the standard library or of a light module."""
    root = name.split(".")[0]
    if root != "toyvit":
        return root in sys.stdlib_module_names
    module = find_module(name)
    return module is not None and LIGHT.fullmatch(module) is not None


def rung_of(module: str) -> int:
    return 0 if DECLARATIONS.fullmatch(module) else RUNG.get(module.split(".")[0], 0)


def problems(source: str, module: str) -> list[str]:
    """What a module does that it may not."""
    tree, room = ast.parse(source), module.split(".")[0]
    found = []
    if LIGHT.fullmatch(module):
        heavy = [name for name in imports(tree, module) if not is_light(name)]
        found += [
            f"{module} is read before anything heavy and may not import {name}" for name in heavy
        ]
    for name in imports(tree, module):
        parts = name.split(".")
        if parts[0] == "toyvit":
            other = parts[1] if len(parts) > 1 and parts[1] in RUNG else None
            rung = rung_of(find_module(name) or parts[1]) if other else 0
            climbs = other is not None and other != room and rung >= rung_of(module)
            if climbs and rung == rung_of(module) and (rung == 0 or (module, other) in SIDEWAYS):
                climbs = False
            if climbs and room != "__main__":
                found.append(f"{module} may not import {name}")
        for part in set(parts) & set(ONLY):
            if parts[0] != "toyvit" and room not in ONLY[part] and name not in HARMLESS:
                found.append(f"{module} may not import {name}")
    names = name_imports(tree, module)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found += [f"{module} {what} {ast.unparse(node)}" for what in check_call(node, names)]
        if isinstance(node, ast.Name) and names.get(node.id) == "toyvit":
            found.append(f"{module} may not use the face: {node.id}")
    return found


def name_imports(tree: ast.AST, module: str) -> dict[str, str]:
    """What a module calls the things that it imports: full dotted names by its own."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                whole = alias.name if alias.asname else alias.name.split(".")[0]
                names[alias.asname or whole] = whole
        elif isinstance(node, ast.ImportFrom):
            for alias, whole in zip(node.names, imports(node, module), strict=True):
                names[alias.asname or alias.name] = whole
    return names


def check_call(node: ast.Call, names: dict[str, str]) -> Iterator[str]:
    """What is wrong with a call: it loads in a way that may run code, or by a hidden import."""
    head, _, rest = ast.unparse(node.func).partition(".")
    call = ".".join(filter(None, [names.get(head, head), rest]))
    words = {word.arg: ast.unparse(word.value) for word in node.keywords}
    if (
        FORBIDDEN_CALLS.fullmatch(call)
        or words.get("allow_pickle", "False") != "False"
        or words.get("weights_only", "True") != "True"
    ):
        yield "may not call"
    if call in LOADERS:
        word, value = LOADERS[call]
        if words.get(word) != value or None in words or len(node.args) > 1:
            yield f"must say {word}={value} and give no other place than the first in"
    if call in ("importlib.import_module", "__import__"):
        named = node.args[0] if node.args else None
        if isinstance(named, ast.Constant) and named.value not in BY_NAME:
            yield "hides an import in"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_lower_rungs_only(module):
    assert problems(MODULES[module].read_text(), module) == []


def unstated(roots: set[str]) -> set[str]:
    """Imported packages that are foreign and that pyproject.toml does not name.

    The extra `dev` is not for the library.
    """
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    extras = [
        line
        for extra, lines in project["optional-dependencies"].items()
        if extra != "dev"
        for line in lines
    ]
    stated = {re.split(r"[\[>]", line)[0] for line in [*project["dependencies"], *extras]} | {
        "distributed"
    }  # dask's extra
    known = packages_distributions()
    foreign = roots - set(sys.stdlib_module_names) - {"toyvit"}
    # What is not installed here goes by the name that it is imported by.
    return {
        root for root in foreign if not stated & {name.lower() for name in known.get(root, [root])}
    }


@pytest.mark.slow
def test_what_is_imported_is_a_stated_dependency():
    roots = {
        name.split(".")[0]
        for module, path in MODULES.items()
        for name in imports(ast.parse(path.read_text()), module)
    }
    assert {"torch", "PIL", "sklearn", "numpy"} <= roots and unstated(roots) == set()
    assert unstated({"toyvit", "json", "torch", "hypothesis", "no_such_package"}) == {
        "hypothesis",
        "no_such_package",
    }


def test_every_room_has_a_rung():
    rooms = {module.split(".")[0] for module in MODULES} - {"__init__"}
    assert rooms <= set(RUNG)


def test_rooms_are_nouns():
    names = {part for module in MODULES for part in module.split(".")}
    assert not names & {"utils", "util", "helpers", "helper", "common", "manager", "misc"}


def test_training_guards_torchvision_before_lightning():
    """Importing any module of the room runs its `__init__`, and that imports the guard first."""
    tree = ast.parse(MODULES["train.__init__"].read_text())
    assert next(imports(tree, "train.__init__")) == "toyvit.torchvision_guard"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("model.sites", "from toyvit.data.task import Task"),
        ("model.vit", "def f():\n    from toyvit.circuits import graph"),
        ("analyses.attention", "import toyvit.measuring"),
        ("analyses.attention", "from toyvit import report"),
        ("analyses.attention", "from toyvit.train.fit import fit"),
        ("analyses.attention", "from ..measuring import measure"),
        ("model.vit", "from toyvit.data.task import task"),
        ("model.forward", "from toyvit.clamps.patterns import apply_clamps"),
        ("measuring", "import pytorch_lightning as pl"),
        ("runs.table", "from matplotlib.figure import Figure"),
        ("train.fit", "from torch.utils.tensorboard import SummaryWriter"),
        ("data.own_arrays", "import torchvision"),
        ("data.own_arrays", "from torchvision.datasets import MNIST"),
        ("runs.folder", "import pickle"),
        ("runs.folder", "from pickle import load"),
        ("runs.folder", "import numpy as np\nnp.load('x', allow_pickle=True)"),
        ("runs.folder", "torch.load('x', weights_only=False)"),
        ("runs.folder", "torch.load('x')"),
        ("runs.folder", "import torch as t\nt.load('x')"),
        ("runs.folder", "from torch import load\nload('x')"),
        ("runs.folder", "from torch import load\nload('x', weights_only=True, **more)"),
        ("runs.folder", "import torch\ntorch.load('x', **{'weights_only': False})"),
        ("runs.folder", "import numpy as np\nnp.load('x', None, True)"),
        ("runs.folder", "import numpy as np\nnp.load('x', allow_pickle=1)"),
        ("runs.folder", "import pandas as pd\npd.read_pickle('x')"),
        ("runs.folder", "from pandas import read_pickle as read\nread('x')"),
        ("runs.folder", "import marshal"),
        ("runs.folder", "import shelve"),
        ("runs.folder", "import toyvit\ntoyvit.draw_figures('x')"),
        ("runs.folder", "import toyvit as t\nt.fit(1)"),
        ("runs.folder", "from importlib import import_module\nimport_module('toyvit.report')"),
        ("runs.folder", "__import__('toyvit.report')"),
        ("runs.folder", "import joblib\njoblib.load('x')"),
        ("config.run", "from toyvit.data.task import Task"),
        ("config.run", "import numpy as np"),
        ("recipes.induction", "from toyvit.data.worlds.glyphs.world import PairsWorld"),
        ("data.worlds.__init__", "from toyvit.data.world import World"),
        ("data.worlds.__init__", "def f():\n    import torch"),
        ("data.worlds.glyphs.config", "import numpy as np"),
        ("data.worlds.glyphs.config", "def f():\n    from scipy.special import ndtri"),
        ("data.worlds.glyphs.config", "from toyvit.data.random import draw_bits"),
        ("data.worlds.glyphs.config", "from .world import PairsWorld"),
        ("data.question_configs", "from toyvit.data import task"),
    ],
)
def test_the_check_can_fail(module, source):
    assert problems(source, module)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "analyses.attention",
            "from toyvit import stats\nfrom toyvit.analyses import norms\nimport torch",
        ),
        ("data.task", "def f():\n    from toyvit.model import options"),
        ("__main__", "def f():\n    from toyvit.report import draw"),
        ("data.own_arrays", "from toyvit.torchvision_guard import torchvision"),
        ("train.fit", "import pytorch_lightning as pl\nfrom pickle import UnpicklingError"),
        ("model.vit", "from . import choices"),
        ("config.run", "from toyvit.data import worlds"),
        ("data.worlds.omniglot.config", "from ..fewshot.config import FewshotConfig"),
        ("data.worlds.glyphs.config", "from toyvit.config.tasks import TaskConfig\nimport math"),
    ],
)
def test_the_check_lets_good_sources_pass(module, source):
    assert problems(source, module) == []
