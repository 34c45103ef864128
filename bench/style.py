"""`python -m bench.style`: how the source reads, in figures, each beside its bar.

Every figure is counted from the text and the syntax trees of the files; nothing of the package is
imported. The column `then` holds what the same counters gave on the commit `BASELINE`, where the
bars were set; `--root` measures any other checkout, `--show KEY` lists the places that count
against a figure, and `--check` ends with exit code 1 if a bar is missed.

What begins with a verb is counted among public functions of modules (no leading underscore, not
nested, no methods): methods that are not properties have a row of their own, without a bar.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import io
import re
import statistics
import sys
import tokenize
import tomllib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, NoReturn

BASELINE = "86e1950"
PACKAGE = "toyvit"
FOLDERS = (PACKAGE, "tests", "bench", "examples")
LINE_LENGTH = 100
LONG_BODY = 10


def split_words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Exemptions. Patterns are of paths inside the package.
ENTRIES = ("analyses/*", "data/worlds/*", "recipes/*", "replications/*", "report/*")
FIXED_NAMES = ("*__init__.py", "*__main__.py", "data/worlds/*/*")  # a world's files are its parts
NOUN_PLACES = ("recipes.py", "recipes/*")
TASK_PLACES = ("data/worlds/{name}.py", "data/worlds/{name}/*")  # a task named as its world
EXAMPLE_ROOMS = ("analyses", "circuits", "instruments", "model", "runs")
PRESCRIBED = ("error", "forward", "on_*", "optimizer_step", "training_step", "*_dataloader")
MATHEMATICAL = split_words(
    """
    accuracy centred_gram cka correlation divergence effective_rank eigenvalues
    entropy exponential feature_dimensionality gini hessian intersection_over_union jaccard loss
    one_hot participation_ratio power_law quadratic random_dimensionality second_moment similarity
    solu spectrum top_eigenvalue
    """
)

PARTICIPLES = frozenset({"found", "known", "made", "one", "said", "seen"})
VERBS = split_words(
    """
    ablate accept accumulate add advance align allow append apply ask assemble assert assign attach
    attribute average bind bootstrap broadcast build cache calibrate call capture cast catch centre
    change check choose clamp classify clean clear clip close cluster collect combine compare
    compile complete compute concatenate configure connect convert copy correct count cover create
    crop cut decide declare decode decompose delete derive describe detach detect disable discard
    discover distribute divide download draw drop edit embed emit enable encode ensure enter
    enumerate erase estimate evaluate exclude execute exit expand explain export extend extract
    fetch fill filter find finish fit flatten flip flush fold follow forget format freeze gather
    generate get give guard guess handle has hash hide hold identify ignore import include infer
    initialize insert inspect install interpolate intervene invert is iterate join judge keep launch
    learn leave list listen load locate lock lower make map measure merge minimize maximize mix move
    multiply need needs normalize notice observe obtain offer omit open optimize pack pad paint
    parametrize parse perform permute pick plot predict prepare print produce project propose
    provide prune publish pull push put raise randomize read rebuild recall receive reconstruct
    recover reduce refresh refuse register regress release reload remember remove rename render
    reopen repeat replace replay replicate require reset reshape resize resolve restore restrict
    resume return reverse rewind rewire rotate run sample save say scan schedule search select send
    separate serialize serve shift shorten should show shuffle simulate skip solve split stack
    standardize start stop store strip subtract suggest sum summarize suppress swap sweep
    synchronize take tell trace track train transform translate transpose trim try turn unembed
    unfold unlock unpack update use validate verify visit wait walk want wants warn watch weigh
    whiten wrap write yield
    """
)
# Nouns as often as verbs (`score_shares`, `patch_probes`): verbs only where they stand alone.
DOUBTFUL = split_words(
    """
    answer block flag group label link log look mark mask match name number order patch place plan
    probe process rank record report scale score seed set shade share sign sort step test time touch
    view
    """
)

Function = ast.FunctionDef | ast.AsyncFunctionDef
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Located = ast.expr | ast.stmt | ast.excepthandler | ast.pattern
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Place(NamedTuple):
    """Where something stands; `line` 0 is the file as a whole."""

    path: str
    line: int
    text: str


@dataclass(frozen=True)
class Source:
    """One file of Python: its path from the root, with slashes, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @property
    def inner_path(self) -> str:
        """The path inside the package: `data/task.py` of `toyvit/data/task.py`."""
        return self.path.partition("/")[2]

    def locate(self, node: Located, text: str = "") -> Place:
        return Place(self.path, node.lineno, text or self.lines[node.lineno - 1].strip())


@dataclass(frozen=True)
class Checkout:
    """The sources of a checkout: the package's, and those of every folder that is kept."""

    package: tuple[Source, ...]
    kept: tuple[Source, ...]
    settings: str = ""

    @property
    def n_lines(self) -> int:
        return sum(len(source.lines) for source in self.package)


class Result(NamedTuple):
    """A figure's value and the places that count against it."""

    value: float
    places: list[Place]


def read_checkout(root: Path) -> Checkout:
    """Every `.py` file of the kept folders below `root`, and the settings in its pyproject.toml."""
    paths = [path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py"))]
    kept = tuple(Source(path.relative_to(root).as_posix(), path.read_text()) for path in paths)
    package = tuple(source for source in kept if source.path.startswith(f"{PACKAGE}/"))
    settings = root / "pyproject.toml"
    return Checkout(package, kept, settings.read_text() if settings.exists() else "")


# ---- counters: each yields the places that it counts ----


def find_nested_comprehensions(source: Source) -> Iterator[Place]:
    """Comprehensions that hold another one, or that have two `for`s.

    >>> source = Source("a.py", "[x for y in z for x in y]")
    >>> [place.line for place in find_nested_comprehensions(source)]
    [1]
    """
    for node in source.nodes:
        if not isinstance(node, COMPREHENSIONS):
            continue

        inner = [part for part in ast.walk(node) if isinstance(part, COMPREHENSIONS)]
        if len(inner) > 1 or len(node.generators) > 1:
            yield source.locate(node)


def find_parallel_assignments(source: Source) -> Iterator[Place]:
    """Statements `a, b = x, y`: as many values written out as there are targets.

    Unpacking one value (`a, b = pair`) is none.
    """
    for node in source.nodes:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
            continue

        sizes = [len(target.elts) for target in node.targets if isinstance(target, ast.Tuple)]
        if len(node.value.elts) in sizes:
            yield source.locate(node)


def find_long_lines(source: Source) -> Iterator[Place]:
    """Lines of more than 100 characters."""
    for number, line in enumerate(source.lines, start=1):
        if len(line) > LINE_LENGTH:
            yield Place(source.path, number, f"{len(line)} characters")


def find_participles(source: Source) -> Iterator[Place]:
    """Assignments, of any kind, to a local called `found`, `made` ...; parameters are none."""
    for node in source.nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name: str | None = node.id
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)):
            name = node.name
        else:
            continue

        if name in PARTICIPLES:
            yield source.locate(node, name)


def find_comments(source: Source, pattern: str) -> Iterator[Place]:
    """Comments in which a regular expression is found; text in strings is no comment."""
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT and re.search(pattern, token.string):
            yield Place(source.path, token.start[0], token.string)


def find_names(source: Source, name: str) -> Iterator[Place]:
    """Uses of a name, bare or as an attribute (`Any`, `typing.Any`); its import is none."""
    for node in source.nodes:
        if isinstance(node, ast.Name):
            used = node.id
        elif isinstance(node, ast.Attribute):
            used = node.attr
        else:
            continue

        if used == name:
            yield source.locate(node)


def find_casts(source: Source) -> Iterator[Place]:
    """Calls of `cast` or `typing.cast`; `x.cast(...)` of anything else is none."""
    for node in source.nodes:
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("cast", "typing.cast"):
            yield source.locate(node)


def list_overrides(settings: str) -> list[str]:
    """The modules for which mypy's settings make an exception."""
    tables = tomllib.loads(settings).get("tool", {}).get("mypy", {}).get("overrides", [])
    modules: list[str] = []
    for table in tables:
        named = table["module"]
        modules += [named] if isinstance(named, str) else named
    return modules


# ---- functions and files ----


def list_functions(source: Source) -> list[Function]:
    """Every function of a file: methods, nested and private ones too."""
    return [node for node in source.nodes if isinstance(node, FUNCTIONS)]


def list_public_functions(source: Source) -> list[Function]:
    """Functions of the module itself whose name has no leading underscore."""
    functions = [node for node in source.tree.body if isinstance(node, FUNCTIONS)]
    return [function for function in functions if not function.name.startswith("_")]


def list_public_methods(source: Source) -> list[Function]:
    """Public methods of public classes; properties, abstract or cached ones too, are none."""
    methods: list[Function] = []
    for node in source.tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            methods += [part for part in node.body if isinstance(part, FUNCTIONS)]
    return [
        method for method in methods if not method.name.startswith("_") and not is_property(method)
    ]


def is_property(method: Function) -> bool:
    names = [ast.unparse(decorator) for decorator in method.decorator_list]
    return any(re.search(r"property$|\.(setter|deleter)$", name) for name in names)


def is_exempt(function: Function, source: Source) -> bool:
    """Whether a function of a module, or a method, may keep a noun or has its name from outside."""
    if function.name in MATHEMATICAL or matches_any(function.name, PRESCRIBED):
        return True

    tasks = [place.format(name=function.name) for place in TASK_PLACES]
    return function in source.tree.body and matches_any(source.inner_path, [*NOUN_PLACES, *tasks])


def begins_with_verb(name: str) -> bool:
    """Whether the first word is a verb; a word that may be a noun has to stand alone.

    >>> [begins_with_verb(name) for name in ("build_task", "score", "score_shares", "curve")]
    [True, True, False, False]
    """
    return name.partition("_")[0] in VERBS or name in DOUBTFUL


def matches_any(text: str, patterns: Collection[str]) -> bool:
    return any(fnmatch(text, pattern) for pattern in patterns)


def body_lines(function: Function) -> range:
    """The lines of a function's body, its docstring left out; empty if there is nothing else."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body or function.end_lineno is None:
        return range(0)
    decorators = getattr(body[0], "decorator_list", [])
    first = min(node.lineno for node in [body[0], *decorators])
    return range(first, function.end_lineno + 1)


def has_blank_line(function: Function, source: Source) -> bool:
    """Whether a line between two statements of the body is blank; lines of a text are none."""
    inside_texts: set[int] = set()
    for node in ast.walk(function):
        if isinstance(node, (ast.Constant, ast.JoinedStr)) and node.end_lineno is not None:
            inside_texts.update(range(node.lineno + 1, node.end_lineno + 1))

    lines = [line for line in body_lines(function) if line not in inside_texts]
    return any(not source.lines[line - 1].strip() for line in lines)


def count_function_lines(function: Function) -> int:
    """From `def` to the last line, docstring and signature too; decorators left out."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def has_example(node: Function | ast.ClassDef) -> bool:
    return ">>>" in (ast.get_docstring(node) or "")


def find_homonyms(package: Sequence[Source]) -> dict[str, list[str]]:
    """Names of files that stand twice in the package, with their paths.

    Two entries of tables may share a name, an entry and another file may not.
    """
    by_name: dict[str, list[str]] = defaultdict(list)
    for source in package:
        if not matches_any(source.inner_path, FIXED_NAMES):
            by_name[Path(source.path).name].append(source.inner_path)

    return {
        name: paths
        for name, paths in by_name.items()
        if len(paths) > 1 and not all(matches_any(path, ENTRIES) for path in paths)
    }


# ---- figures: a value and its places ----


def count_in(
    counter: Callable[[Source], Iterator[Place]], *, everywhere: bool = False, per: int = 0
) -> Callable[[Checkout], Result]:
    """The number of places in the package, or in all kept folders; or per so many of its lines."""

    def count(checkout: Checkout) -> Result:
        sources = checkout.kept if everywhere else checkout.package
        places = [place for source in sources for place in counter(source)]
        value = per * len(places) / max(checkout.n_lines, 1) if per else len(places)
        return Result(value, places)

    return count


def measure_share(n: int, misses: list[Place]) -> Result:
    """The share of `n` that are no misses; all of none."""
    return Result((n - len(misses)) / n if n else 1.0, misses)


def measure_verbs(
    lister: Callable[[Source], list[Function]],
) -> Callable[[Checkout], Result]:
    """The share of functions, the exempt left out, that begin with a verb."""

    def measure(checkout: Checkout) -> Result:
        n = 0
        misses: list[Place] = []
        for source in checkout.package:
            functions = [part for part in lister(source) if not is_exempt(part, source)]
            nouns = [part for part in functions if not begins_with_verb(part.name)]
            n += len(functions)
            misses += [source.locate(part, part.name) for part in nouns]
        return measure_share(n, misses)

    return measure


def measure_blank_lines(checkout: Checkout) -> Result:
    """The share of long functions with a blank line in their body."""
    n = 0
    misses: list[Place] = []
    for source in checkout.package:
        functions = [part for part in list_functions(source) if len(body_lines(part)) >= LONG_BODY]
        dense = [part for part in functions if not has_blank_line(part, source)]
        n += len(functions)
        misses += [source.locate(part, part.name) for part in dense]
    return measure_share(n, misses)


def measure_examples(checkout: Checkout) -> Result:
    """The share of public functions and classes of the rooms with an example in the docstring."""
    n = 0
    misses: list[Place] = []
    for source in checkout.package:
        if re.split(r"[/.]", source.inner_path)[0] not in EXAMPLE_ROOMS:
            continue

        classes = [node for node in source.tree.body if isinstance(node, ast.ClassDef)]
        public = [node for node in classes if not node.name.startswith("_")]
        nodes = [*list_public_functions(source), *public]
        n += len(nodes)
        misses += [source.locate(node, node.name) for node in nodes if not has_example(node)]
    return measure_share(n, misses)


def count_overrides(checkout: Checkout) -> Result:
    modules = list_overrides(checkout.settings)
    return Result(len(modules), [Place("pyproject.toml", 0, module) for module in modules])


def count_root_files(checkout: Checkout) -> Result:
    paths = [source.path for source in checkout.package if "/" not in source.inner_path]
    return Result(len(paths), [Place(path, 0, "at the root") for path in paths])


def count_homonyms(checkout: Checkout) -> Result:
    homonyms = find_homonyms(checkout.package)
    return Result(
        len(homonyms), [Place(name, 0, ", ".join(paths)) for name, paths in homonyms.items()]
    )


def list_lengths(checkout: Checkout) -> list[Place]:
    """The package's files, the longest first."""
    ordered = sorted(checkout.package, key=lambda source: -len(source.lines))
    return [Place(source.path, 0, f"{len(source.lines)} lines") for source in ordered]


def measure_file_median(checkout: Checkout) -> Result:
    lengths = [len(source.lines) for source in checkout.package]
    return Result(statistics.median(lengths), list_lengths(checkout))


def measure_longest_file(checkout: Checkout) -> Result:
    lengths = [len(source.lines) for source in checkout.package]
    return Result(max(lengths), list_lengths(checkout)[:10])


def measure_function_length(checkout: Checkout) -> Result:
    """The 90th percentile of the lines of a function, and those that are above it."""
    places: list[Place] = []
    lengths: list[int] = []
    for source in checkout.package:
        for function in list_functions(source):
            lengths.append(count_function_lines(function))
            places.append(source.locate(function, f"{function.name}: {lengths[-1]} lines"))

    if len(lengths) < 2:
        return Result(max(lengths, default=0), places)
    percentile = statistics.quantiles(lengths, n=10)[-1]
    return Result(
        percentile,
        [place for place, length in zip(places, lengths, strict=True) if length > percentile],
    )


@dataclass(frozen=True)
class Figure:
    """A row of the table: what is counted, its value at the baseline, and its bar if it has one."""

    key: str
    title: str
    count: Callable[[Checkout], Result]
    then: float
    bar: float | None
    at_least: bool = False
    percent: bool = False

    def meets(self, value: float) -> bool:
        """Whether a value is on the right side of the bar; any value is, where there is none."""
        if self.bar is None:
            return True
        return value >= self.bar if self.at_least else value <= self.bar

    def format(self, value: float | None) -> str:
        if value is None:
            return "-"
        if self.percent:
            return f"{100 * value:.0f} %"
        return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


FIGURES = (
    Figure(
        "verbs",
        "public functions that begin with a verb",
        measure_verbs(list_public_functions),
        then=0.17,
        bar=0.60,
        at_least=True,
        percent=True,
    ),
    Figure(
        "methods",
        "public methods that begin with a verb",
        measure_verbs(list_public_methods),
        then=0.49,
        bar=None,
        at_least=True,
        percent=True,
    ),
    Figure(
        "nested",
        "nested comprehensions per 1,000 lines",
        count_in(find_nested_comprehensions, per=1000),
        then=4.9,
        bar=0.5,
    ),
    Figure(
        "parallel",
        "parallel assignments per 1,000 lines",
        count_in(find_parallel_assignments, per=1000),
        then=17.5,
        bar=3,
    ),
    Figure(
        "blank",
        "functions of 10+ lines with a blank line inside",
        measure_blank_lines,
        then=0.24,
        bar=0.60,
        at_least=True,
        percent=True,
    ),
    Figure(
        "long",
        f"lines over {LINE_LENGTH} characters, all folders",
        count_in(find_long_lines, everywhere=True),
        then=3034,
        bar=0,
    ),
    Figure(
        "participles",
        f"locals called {' '.join(sorted(PARTICIPLES))}",
        count_in(find_participles),
        then=229,
        bar=20,
    ),
    Figure(
        "examples",
        "public names with an example that runs",
        measure_examples,
        then=0,
        bar=0.25,
        at_least=True,
        percent=True,
    ),
    Figure(
        "ignores",
        "type: ignore",
        count_in(lambda source: find_comments(source, r"type:\s*ignore")),
        then=38,
        bar=12,
    ),
    Figure("casts", "cast(", count_in(find_casts), then=1, bar=1),
    Figure("noqa", "noqa", count_in(lambda source: find_comments(source, "noqa")), then=2, bar=2),
    Figure("overrides", "modules that mypy overrides", count_overrides, then=8, bar=8),
    Figure("any", "Any", count_in(lambda source: find_names(source, "Any")), then=71, bar=71),
    Figure("root", "files at the package's root", count_root_files, then=20, bar=9),
    # At the baseline 5 of the 11 are worlds, which had no room of their own yet.
    Figure("homonyms", "names that two files have", count_homonyms, then=11, bar=0),
    Figure("median", "lines of a file, median", measure_file_median, then=110.5, bar=120),
    Figure("longest", "lines of the longest file", measure_longest_file, then=456, bar=335),
    Figure(
        "functions",
        "lines of a function, 90th percentile",
        measure_function_length,
        then=19,
        bar=22,
    ),
)


def measure_style(root: Path) -> dict[str, Result]:
    """Every figure of a checkout, by its key."""
    checkout = read_checkout(root)
    return {figure.key: figure.count(checkout) for figure in FIGURES}


def find_missed(results: dict[str, Result]) -> list[str]:
    """The keys of the figures whose bar is missed."""
    return [figure.key for figure in FIGURES if not figure.meets(results[figure.key].value)]


def format_table(results: dict[str, Result]) -> str:
    """The table as text: key, figure, at the baseline, now, bar, met."""
    rows = [("key", "figure", BASELINE, "now", "bar", "met")]
    for figure in FIGURES:
        value = results[figure.key].value
        sign = ">= " if figure.at_least else "<= "
        has_bar = figure.bar is not None
        bar = sign + figure.format(figure.bar) if has_bar else "-"
        met = "-" if not has_bar else "yes" if figure.meets(value) else "no"
        then = figure.format(figure.then)
        rows.append((figure.key, figure.title, then, figure.format(value), bar, met))

    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = (True, True, False, False, False, True)
    return "\n".join(format_row(row, widths, left) for row in rows)


def format_row(row: Sequence[str], widths: Sequence[int], left: Sequence[bool]) -> str:
    cells = [
        cell.ljust(width) if is_left else cell.rjust(width)
        for cell, width, is_left in zip(row, widths, left, strict=True)
    ]
    return "  ".join(cells).rstrip()


class Parser(argparse.ArgumentParser):
    """Bad words end in one line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"style: {message}\n")


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m bench.style", description="How the source reads, in figures.")
    parser.add_argument("--check", action="store_true", help="exit code 1 if a bar is missed")
    parser.add_argument("--show", metavar="KEY", help="list what counts against this figure")
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(__file__).parents[1],
        metavar="FOLDER",
        help="another checkout to measure (default: this one)",
    )
    arguments = parser.parse_args(argv)

    if not (arguments.root / PACKAGE).is_dir():
        parser.error(f"--root must hold a folder {PACKAGE!r}, got {str(arguments.root)!r}")
    keys = [figure.key for figure in FIGURES]
    if arguments.show is not None and arguments.show not in keys:
        nearest = difflib.get_close_matches(arguments.show, keys, n=1, cutoff=0)[0]
        allowed = ", ".join(keys)
        parser.error(
            f"--show must be one of {allowed}, got {arguments.show!r}; nearest: {nearest!r}"
        )
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 measured; 1 a bar is missed and `--check` is given; 2 bad input."""
    arguments = parse_arguments(argv)
    results = measure_style(arguments.root)

    if arguments.show:
        for place in results[arguments.show].places:
            print(f"{place.path}:{place.line}: {place.text}")
    else:
        print(format_table(results))

    missed = find_missed(results)
    if arguments.check and missed:
        print(f"style: bars missed: {', '.join(missed)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
