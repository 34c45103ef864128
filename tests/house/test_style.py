"""What `bench.style` counts, in planted sources whose number is known; in some of them it is 0."""

from __future__ import annotations

import pytest

from bench.counters import Checkout, Source, begins_with_verb, list_overrides, read_checkout
from bench.style import FIGURES, find_missed, format_table, main, measure_style

COUNT = {figure.key: figure.count for figure in FIGURES}
FIGURE = {figure.key: figure for figure in FIGURES}


def checkout(*texts: str, settings: str = "", **named: str) -> Checkout:
    """A package with these files: `a0.py`, `a1.py` ... at the root, or by name (`data/task`)."""
    files = {f"a{number}": text for number, text in enumerate(texts)} | named
    sources = tuple(Source(f"toyvit/{name}.py", text) for name, text in files.items())
    return Checkout(sources, sources, settings)


def count(key: str, *texts: str, **named: str) -> float:
    return COUNT[key](checkout(*texts, **named)).value


def per_1000(number: int, text: str) -> float:
    return 1000 * number / len(text.splitlines())


# ---- verbs ----

VERB_FUNCTIONS = """
def build_task(): ...
async def load(): ...
def score(): ...
"""
NOUN_FUNCTIONS = """
def curve(): ...
def score_shares(): ...
def loaded(): ...
"""
NOT_COUNTED = """
def _curve(): ...
def entropy(): ...
class A:
    def curve(self): ...
    def forward(self):
        def nested(): ...
"""


HIDDEN_NOUNS = """
if True:
    def curve(): ...
else:
    async def table(): ...
try:
    rows = lambda a: a
except ImportError as error:
    with a:
        columns: Callable = lambda: 1
match a:
    case 1:
        def cells(): ...
"""


@pytest.mark.parametrize(
    ("text", "share"),
    [
        (VERB_FUNCTIONS, 1),
        (HIDDEN_NOUNS, 0),
        (VERB_FUNCTIONS + HIDDEN_NOUNS, 3 / 8),
        (NOUN_FUNCTIONS, 0),
        (VERB_FUNCTIONS + NOUN_FUNCTIONS, 1 / 2),
        (VERB_FUNCTIONS + NOUN_FUNCTIONS + NOT_COUNTED, 1 / 2),
    ],
)
def test_verbs(text, share):
    assert count("verbs", text) == share


@pytest.mark.parametrize(
    ("place", "share"),
    [
        ("recipes", 1),
        ("recipes/images", 1),
        ("data/worlds/markov", 1),
        ("data/worlds/markov/world", 1),
        ("data/worlds/pairs/world", 0),
        ("data/markov", 0),
    ],
)
def test_recipes_and_the_task_of_a_world_may_be_nouns(place, share):
    assert count("verbs", **{place: "def markov(): ..."}) == share


def test_methods_that_are_not_properties_are_counted_apart():
    text = """
class A:
    def sample(self): ...
    def cells(self): ...
    def _hidden(self): ...
    def __len__(self): ...
    def forward(self): ...
    @property
    def size(self): ...
    @functools.cached_property
    def table(self): ...
    @size.setter
    def size(self, value): ...
class _Hidden:
    def rows(self): ...
if True:
    class B:
        class C:
            def read(self): ...
            if True:
                def columns(self): ...
"""
    assert count("methods", text) == 1 / 2
    assert len(COUNT["methods"](checkout(text)).places) == 2
    assert count("verbs", text) == 1


@pytest.mark.parametrize("name", ["run", "run_model", "patch", "is_exempt"])
def test_a_verb(name):
    assert begins_with_verb(name)


@pytest.mark.parametrize("name", ["runs", "running_mean", "patch_probes", "task", "to_json"])
def test_no_verb(name):
    assert not begins_with_verb(name)


# ---- statements and lines ----

COUNTS = [
    ("nested", "a = [[x for x in y] for y in z]", 1),
    ("nested", "a = {x: [y for y in x] for x in z if any(w for w in x)}", 1),
    ("nested", "a = [x for y in z for x in y]", 1),
    ("nested", "a = [x for x in y]\nb = sum(list(x for x in y))", 0),
    ("parallel", "a, b = x, y\n(a, self.b), c[0] = d, 1", 2),
    ("parallel", "a = b, c = 1, 2", 1),
    ("parallel", "[a, b] = x, y\na, b = [x, y]\n[a, b] = c = [x, y]", 3),
    ("parallel", "[a, b] = pair\na = [1, 2]\n[a, *b] = [1, 2, 3]", 0),
    ("parallel", "a, b = pair\na = 1, 2\nfor a, b in c: pass\na, *b = 1, 2, 3", 0),
    ("participles", "found = 1\nfor one in made: pass\n[seen for seen in a]", 3),
    ("participles", "with a as said: pass\nif (known := 1): pass\nmade += 1\none: int = 1", 4),
    ("participles", "try: pass\nexcept A as found: pass\nmatch a:\n  case [one, *seen]: pass", 3),
    ("participles", "def f(found, one=1): return lambda seen: found + seen\na.found = b.made", 0),
    ("ignores", "a = 1  # type: ignore[arg-type]\nb = 1  # type:ignore", 2),
    ("ignores", "# mypy: ignore-errors\na = 1  # pyright: ignore\nb = 1  # Type: Ignore", 3),
    ("ignores", "a = 'x  # type: ignore'  # a type, to ignore; as mypy says", 0),
    ("casts", "a = cast(int, b)\nc = typing.cast('int', d)", 2),
    ("casts", "from typing import cast as c\nimport typing as t\na = c(int, b)\nt.cast(int, b)", 2),
    ("casts", "from typing import cast\na = b.cast(int)\ncast = 1", 0),
    ("casts", "from numpy import cast\na = cast(int, b)", 0),
    ("noqa", "import a  # noqa: F401", 1),
    ("noqa", "import a  # NOQA\n# ruff: NoQA", 2),
    ("noqa", "a = '# noqa'", 0),
    ("any", "def f(a: Any, b: list[Any]) -> typing.Any: ...", 3),
    ("any", "from typing import Any as A\nimport typing as t\na: A\nb: t.Any = A", 3),
    ("any", "def f(a: 'Any', b: list['Any | t.Any']) -> 'Any': ...\na: 'Any'\ncast('Any', a)", 6),
    ("any", "from typing import Any as A\ndef f(*a: 'A', **b: 'list[A]'): ...", 2),
    ("any", "from typing import Any\nany(a)\n'Any'", 0),
    ("any", "a: Float[Tensor, ' head *any Anything']\nb: str = 'Any'\nf('Any')", 0),
    ("long", "# " + "x" * 98 + "\n# " + "x" * 99, 1),
    ("long", "# " + "é" * 98, 0),
]


@pytest.mark.parametrize(("key", "text", "number"), COUNTS)
def test_places_are_counted(key, text, number):
    """The places are all there, and the figure is their number or their rate."""
    result = COUNT[key](checkout(text))
    assert len(result.places) == number
    expected = per_1000(number, text) if "per 1,000" in FIGURE[key].title else number
    assert result.value == expected


def test_every_counter_of_places_has_a_truth_and_a_null():
    for key in {key for key, _, _ in COUNTS}:
        numbers = {number for other, _, number in COUNTS if other == key}
        assert 0 in numbers and len(numbers) > 1, key


def test_a_place_is_named_by_file_and_line():
    places = COUNT["parallel"](checkout("\n\na, b = 1, 2  # why")).places
    assert [tuple(place) for place in places] == [("toyvit/a0.py", 3, "a, b = 1, 2  # why")]


# ---- functions ----


def write_function(*lines: str, docstring: str = "") -> str:
    head = [f'    """{docstring}"""'] if docstring else []
    body = [f"    {line}" if line else "" for line in lines]
    return "\n".join(["def f():", *head, *body])


DENSE = write_function(*["a = 1"] * 10)
AIRY = write_function(*["a = 1"] * 5, "", *["a = 1"] * 4)
SHORT = write_function(*["a = 1"] * 9)
SHORT_WITH_DOCSTRING = write_function(*["a = 1"] * 9, docstring="One.\n\n    Two.\n    ")
DOCSTRING_ALONE_IS_AIRY = write_function(*["a = 1"] * 10, docstring="One.\n\n    Two.\n    ")
BLANK_IN_A_TEXT = write_function(*["a = 1"] * 8, 'a = """', "", '"""')


@pytest.mark.parametrize(
    ("texts", "share"),
    [
        ((AIRY,), 1),
        ((DENSE,), 0),
        ((AIRY, DENSE, DENSE, DENSE), 1 / 4),
        ((SHORT, SHORT_WITH_DOCSTRING), 1),
        ((DOCSTRING_ALONE_IS_AIRY,), 0),
        ((BLANK_IN_A_TEXT,), 0),
        ((f"class A:\n    @b\n    {DENSE.replace(chr(10), chr(10) + '    ')}", AIRY), 1 / 2),
    ],
)
def test_blank_lines_in_long_functions(texts, share):
    assert count("blank", *texts) == share


def test_length_of_functions():
    """Nine functions of 2 lines and one of 12: the percentile lies on the way to the longest."""
    short = "def f():\n    pass\n"
    assert count("functions", short * 10) == 2
    assert 2 < count("functions", short * 9 + DENSE) <= 12
    assert count("functions", "a = 1") == 0
    assert count("functions", "@a\n@b\n" + short) == 2


EXAMPLE = 'def f():\n    """What.\n\n    >>> f()\n    """\n'
IN_PROSE = 'def f():\n    """What >>> says.\n\n    A prompt, `>>> f()`, and no example.\n    """\n'
SKIPPED = 'def f():\n    """What.\n\n    >>> f()  # doctest: +SKIP\n    """\n'
NO_EXAMPLE = 'def g():\n    """What."""\ndef _h(): ...\nclass A:\n    def b(self): ...\n'


@pytest.mark.parametrize(
    ("files", "share"),
    [
        ({"model/vit": EXAMPLE}, 1),
        ({"runs": NO_EXAMPLE}, 0),
        ({"circuits/graph": EXAMPLE + NO_EXAMPLE}, 1 / 3),
        ({"model/vit": IN_PROSE + EXAMPLE}, 1 / 2),
        ({"model/vit": SKIPPED}, 0),
        ({"stats": "if a:\n    def f(): ...\n    class A: ...\ng = lambda: 1\n" + EXAMPLE}, 1 / 4),
        ({"circuits/graph": EXAMPLE, "data/task": NO_EXAMPLE}, 1),
    ],
)
def test_examples(files, share):
    assert count("examples", **files) == share


# ---- files ----


def test_files_at_the_root():
    assert count("root", "", "", **{"data/task": ""}) == 2
    assert count("root", **{"data/task": ""}) == 0


@pytest.mark.parametrize(
    ("names", "number"),
    [
        (("model/weights", "circuits/weights", "report/weights"), 1),
        (("circuits/weights", "report/weights"), 1),
        (("config/run", "runs/run", "config/model", "train/model"), 2),
        (("analyses/lens", "report/lens", "replications/lens"), 0),
        (("data/world", "data/worlds/a/world", "data/worlds/b/world"), 0),
        (("model/__init__", "data/__init__", "__main__", "cli/__main__"), 0),
        (("model/a", "data/b"), 0),
    ],
)
def test_homonyms(names, number):
    assert count("homonyms", **dict.fromkeys(names, "")) == number


def test_lengths_of_files():
    texts = ["a\n" * number for number in (1, 2, 9)]
    assert count("median", *texts) == 2
    assert count("longest", *texts) == 9
    assert count("median", "") == count("longest", "") == 0


def test_modules_that_mypy_overrides():
    settings = """
[[tool.mypy.overrides]]
module = ["a.*", "b.*"]
[[tool.mypy.overrides]]
module = "c"
"""
    assert list_overrides(settings) == ["a.*", "b.*", "c"]
    assert list_overrides("") == []
    assert COUNT["overrides"](checkout(settings=settings)).value == 3


# ---- the command ----

GOOD = {"model/vit.py": EXAMPLE}
BAD = {"model/vit.py": "def curve():\n    a, b = 1, 2\n", "data/vit.py": "#" * 101}


@pytest.fixture
def write_package(tmp_path):
    def write(files: dict[str, str]):
        for name, text in files.items():
            path = tmp_path / "toyvit" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("def f", "def run"))
        return tmp_path

    return write


def test_a_good_package_passes_the_check(write_package, capsys):
    assert main(["--check", "--root", str(write_package(GOOD))]) == 0
    assert " no\n" not in capsys.readouterr().out


def test_a_bad_package_fails_the_check_and_only_the_check(write_package, capsys):
    root = write_package(BAD)
    missed = find_missed(measure_style(root))
    assert missed == ["verbs", "parallel", "long", "examples", "homonyms"]

    assert main(["--check", "--root", str(root)]) == 1
    assert capsys.readouterr().err == f"style: bars missed: {', '.join(missed)}\n"
    assert main(["--root", str(root)]) == 0


def test_long_lines_are_counted_in_tests_too(write_package):
    root = write_package(GOOD)
    (root / "tests").mkdir()
    (root / "tests/test_a.py").write_text("#" * 101 + "\na, b = 1, 2\n")
    results = measure_style(root)
    assert (results["long"].value, results["parallel"].value) == (1, 0)
    assert len(read_checkout(root).package) == 1


def test_the_table_has_a_row_a_figure(write_package):
    table = format_table(measure_style(write_package(BAD))).splitlines()
    assert [row.split()[0] for row in table] == ["key", *COUNT]
    assert {row.split()[0]: row.split()[-1] for row in table}["long"] == "no"


def test_show_lists_the_places(write_package, capsys):
    assert main(["--show", "parallel", "--root", str(write_package(BAD))]) == 0
    assert capsys.readouterr().out == "toyvit/model/vit.py:2: a, b = 1, 2\n"


@pytest.mark.parametrize(
    ("words", "start", "end"),
    [
        (["--show", "nestd"], "style: --show must be one of verbs,", "nearest: 'nested'\n"),
        (["--root", "nowhere"], "style: --root must hold a folder 'toyvit'", "'nowhere'\n"),
        (["--chek"], "style: unrecognized arguments", "--chek\n"),
    ],
)
def test_bad_words_are_refused_in_one_line(words, start, end, capsys):
    with pytest.raises(SystemExit) as refused:
        main(words)
    error = capsys.readouterr().err
    assert refused.value.code == 2
    assert error.startswith(start) and error.endswith(end) and error.count("\n") == 1


@pytest.mark.slow
def test_the_tree_meets_the_bars(capsys):
    assert main(["--check"]) == 0, capsys.readouterr().out
