"""The draw of faults, the table of where modules are tested, and whole runs on a tiny package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from copy import copy
from pathlib import Path

import pytest

from bench.mutants import compiles, draw_mutations, find_mutations
from bench.tested_by import TESTED_BY, find_row, list_tests

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path.relative_to(ROOT / "toyvit").as_posix() for path in (ROOT / "toyvit").rglob("*.py")
)


# ---- the table ----


def test_every_module_has_a_row():
    assert [module for module in MODULES if not list_tests(module, TESTED_BY)] == []


def test_every_row_has_a_module_and_tests_that_exist():
    assert TESTED_BY.keys() - {find_row(module, TESTED_BY) for module in MODULES} == set()
    tests = {test for row in TESTED_BY.values() for test in row}
    assert [test for test in tests if not (ROOT / test).exists()] == []


def test_the_first_row_that_matches_counts():
    table = {"data/task.py": ("a", "b", "a"), "data/*": ("c",)}
    assert list_tests("data/task.py", table) == ("a", "b")
    assert list_tests("data/worlds/markov.py", table) == ("c",)
    assert find_row("model/vit.py", table) is None and list_tests("model/vit.py", table) == ()


# ---- the faults ----


def mutate(text: str) -> set[str]:
    return {mutation.apply(text) for mutation in find_mutations("a.py", text)}


TRUTHS = [
    ("a < b", {"a <= b", "a >= b"}),
    ("a <= b != c", {"a < b != c", "a > b != c", "a <= b == c"}),
    ("a not in b", {"a in b"}),
    ("a is None", {"a is not None"}),
    ("(a) + (b)", {"(a) - (b)"}),
    ("a * b", {"a / b"}),
    ("a and b and c", {"a or b and c", "a and b or c"}),
    ("not a", {" a"}),
    ("-a", {"a"}),
    ("a = 3", {"a = 4", "a = 2"}),
    ("a = 0", {"a = 1", "a = (-1)"}),
    ("a = 0.5", {"a = 1.5", "a = (-0.5)"}),
    ("def f(a=True): a", {"def f(a=False): a", "def f(a=True): pass"}),
    ("def f(): return a", {"def f(): return None"}),
    ("f(a, b)", {"f(b, a)", "pass"}),
    ("x = f(a, b, c=d)", {"x = f(b, a, c=d)"}),
    ("x = a[:n]", {"x = a[1:n]", "x = a[:(n) - 1]"}),
    ("x = a[n:]", {"x = a[n:-1]", "x = a[(n) + 1:]"}),
    ("a += b", {"pass", "a -= b"}),
    ("a.b = c", {"pass"}),
    ("raise A('b' + c)", {"pass"}),
    ("for a in b: break", {"for a in b: pass"}),
    ("x: int = 1", {"x: int = 2", "x: int = 0"}),
    ("x = 'é' * n < m", {"x = 'é' * n <= m", "x = 'é' * n >= m"}),
]


@pytest.mark.parametrize(("text", "mutants"), TRUTHS)
def test_every_fault_of_a_line(text, mutants):
    """An expression that stands alone is a statement, so that it could be removed too."""
    assert mutate(text) - {"pass"} == mutants - {"pass"}
    assert all(compiles(mutant) for mutant in mutants - {" a"})


@pytest.mark.parametrize(
    "text",
    [
        '"""What: 1 < 2."""',
        "def f(a: Literal[1]) -> Literal[2]:\n    '''Text.'''",
        "x: Literal[1]",
        "@lru_cache(4)\ndef f(): '''Text.'''",
        "x = f'{1 + 2}' + y",
        "x = f(help=1, figsize=(3, 4))",
        "x = max(a, b)",
        "x = f(a, a)",
        "x = f(*a, *b)",
        "import a",
        "if TYPE_CHECKING: x = 1",
        "if __name__ == '__main__': x = 1",
        "def f(): return None",
    ],
)
def test_what_is_left_alone(text):
    assert mutate(text) == set()


def test_a_fault_is_described_as_a_diff():
    text = "a = 1\nif a < b:\n    pass\n"
    descriptions = {mutation.describe(text) for mutation in find_mutations("x/a.py", text)}
    assert "x/a.py:2: comparison\n-if a < b:\n+if a <= b:" in descriptions


SOURCES = {"a.py": "x = f(1, 2, 3, 4, 5, 6)\n" + "y = a < b\n" * 40, "b.py": "z = not a\n" * 40}


def test_a_draw_is_repeatable_and_begins_as_a_smaller_one():
    draw = draw_mutations(SOURCES, 30, seed=0)
    assert draw == draw_mutations(SOURCES, 30, seed=0)
    assert draw[:5] == draw_mutations(SOURCES, 5, seed=0)
    assert draw != draw_mutations(SOURCES, 30, seed=1)


@pytest.mark.slow
def test_lines_are_drawn_uniformly_and_once():
    """81 lines: as many of the first file, with its many faults in a line, as of the other."""
    everything = draw_mutations(SOURCES, 1000, seed=0)
    assert len({(mutation.path, mutation.line) for mutation in everything}) == len(everything) == 81

    firsts = [draw_mutations(SOURCES, 1, seed)[0] for seed in range(400)]
    share = sum(mutation.path == "b.py" for mutation in firsts) / 400
    assert abs(share - 40 / 81) < 0.1


def test_every_operator_of_a_line_is_as_likely():
    """The line has 12 faults of one operator and 5 of another."""
    source = {"a.py": "x = f(1, 2, 3, 4, 5, 6)\n"}
    draws = [draw_mutations(source, 1, seed)[0] for seed in range(400)]
    shares = Counter(mutation.operator for mutation in draws)
    assert abs(shares["off by one"] / 400 - 1 / 2) < 0.1
    assert set(shares) == {"off by one", "arguments swapped"}


@pytest.mark.slow
def test_only_what_compiles_is_drawn():
    sources = {path.name: path.read_text() for path in (ROOT / "bench").glob("*.py")}
    for mutation in draw_mutations(sources, 100, seed=0):
        assert compiles(mutation.apply(sources[mutation.path]))


# ---- whole runs ----

SUMS = """def add(a, b):
    return a + b


def subtract(a, b):
    return a - b


def count(n):
    i = 0
    while i < n:
        i += 1
    return i
"""
TESTS = """import pytest
from toyvit.sums import add, count, subtract


def test_add():
    assert add(1, 2) == 3


def test_count():
    assert [count(n) for n in (3, 0, -2)] == [3, 0, 0]
"""
TEST_SUBTRACT = """

def test_subtract():
    assert subtract(3, 1) == 2
"""
SLOW = "\n\n@pytest.mark.slow" + TEST_SUBTRACT.removeprefix("\n")
TABLE = {"__init__.py": ["tests/test_sums.py"], "sums.py": ["tests/test_sums.py"]}


class Planted:
    """A git checkout of a tiny package, and the command on it."""

    def __init__(self, folder: Path, tests: str) -> None:
        self.place(folder)
        self.table.write_text(json.dumps(TABLE))
        for name in ("toyvit", "tests"):
            (folder / name).mkdir(parents=True)
            (folder / name / "__init__.py").write_text("")
        (folder / "toyvit/sums.py").write_text(SUMS)
        (folder / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
        self.write_tests(tests)
        subprocess.run(["git", "init", "-q", str(folder)], check=True)

    def place(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder.parent / "mutations.json"
        self.table = folder.parent / "table.json"

    def copy_to(self, parent: Path) -> Planted:
        """The same in another folder, with what was measured."""
        shutil.copytree(self.folder.parent, parent)
        other = copy(self)
        other.place(parent / self.folder.name)
        return other

    def write_tests(self, text: str) -> None:
        (self.folder / "tests/test_sums.py").write_text(text)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        places = ["--root", self.folder, "--out", self.out, "--table", self.table]
        command = [sys.executable, "-m", "bench.mutations", "--patience", "2", "--n", "99"]
        return subprocess.run(
            [*command, *map(str, places), *words],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    def read(self) -> dict[int, str]:
        """The outcome by line of sums.py."""
        outcomes = json.loads(self.out.read_text())["outcomes"].values()
        return {outcome["line"]: outcome["outcome"] for outcome in outcomes}


@pytest.fixture
def plant(tmp_path):
    return lambda tests: Planted(tmp_path / "tree", tests)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A tiny package that was run over once, and that run."""
    planted = Planted(tmp_path_factory.mktemp("measured") / "tree", TESTS)
    run = planted.run()
    assert run.returncode == 0, run.stderr
    return planted, run


@pytest.mark.slow
def test_what_a_test_sees_is_killed_and_what_none_sees_survives(measured):
    planted, run = measured

    outcomes = planted.read()
    assert outcomes[2] == "killed"
    assert outcomes[6] == "survived"
    assert "sums.py:2 " in run.stderr and "  tests/test_sums.py::test_add\n" in run.stderr
    assert {outcomes[11], outcomes[13]} <= {"killed", "timed out"}
    assert "toyvit/sums.py:6:" in run.stdout and "-    return a - b\n" in run.stdout
    assert "toyvit/sums.py:2:" not in run.stdout
    assert (planted.folder / "toyvit/sums.py").read_text() == SUMS


@pytest.mark.slow
def test_a_fault_that_never_ends_is_stopped_and_killed(plant):
    """Some seed removes `i += 1`, so that the loop has no end."""
    planted = plant(TESTS)
    seed = next(
        seed
        for seed in range(100)
        if any(
            (mutation.line, mutation.replacement) == (12, "pass")
            for mutation in draw_mutations({"toyvit/sums.py": SUMS}, 99, seed)
        )
    )
    run = planted.run("--seed", str(seed), "--modules", "sums.py")
    assert run.returncode == 0, run.stderr
    assert planted.read()[12] == "timed out"
    assert "1 by timeout" in run.stdout


@pytest.mark.slow
def test_a_second_run_goes_on_and_tries_survivors_again_when_tests_change(measured, tmp_path):
    original, first = measured
    planted = original.copy_to(tmp_path / "copy")
    again = planted.run()
    assert again.stdout == first.stdout.replace(str(original.out), str(planted.out))
    assert "[1/" in first.stderr and again.stderr == ""
    n_survivors = list(planted.read().values()).count("survived")

    planted.write_tests(TESTS + TEST_SUBTRACT)
    mended = planted.run("--check")
    assert planted.read()[6] == "killed"
    assert f"[1/{n_survivors}]" in mended.stderr
    assert mended.returncode == 0


@pytest.mark.slow
def test_survivors_meet_the_slow_tests_if_asked_for(plant):
    planted = plant(TESTS + SLOW)
    assert planted.run("--check").returncode == 1
    assert planted.read()[6] == "survived"

    assert planted.run("--check", "--slow").returncode == 0
    assert planted.read()[6] == "killed"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tests", "words", "message"),
    [
        (TESTS + "\n\ndef test_no(): assert False\n", [], "fails without any fault: tests/"),
        ("def test_nothing(): pass\n", [], "the tests do not import the package of the copy"),
        (TESTS, ["--modules", "other/*"], "--modules 'other/*' matches no module"),
        (TESTS, ["--n", "0"], "--n must be at least 1, got 0"),
        (TESTS, ["--root", "/nowhere"], "--root must hold a folder 'toyvit', got '/nowhere'"),
        (TESTS, ["--table", "/nowhere"], "--table must be a JSON file of tests by pattern"),
        (TESTS, ["--out", str(ROOT / "pyproject.toml")], "holds no mutations"),
    ],
)
def test_what_cannot_be_measured_is_said_in_one_line(plant, tests, words, message):
    run = plant(tests).run(*words)
    assert run.returncode == 2
    errors = [line for line in run.stderr.splitlines() if not line.startswith("without a fault")]
    assert len(errors) == 1 and errors[0].startswith("mutations: ") and message in errors[0]


def test_a_module_without_a_row_is_named(plant):
    planted = plant(TESTS)
    planted.table.write_text(json.dumps({"__init__.py": ["tests/test_sums.py"]}))
    assert "no row of TESTED_BY matches toyvit/sums.py\n" in planted.run().stderr
