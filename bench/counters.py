"""What `python -m bench.style` counts: exemptions, words, and a function for each kind of place."""

from __future__ import annotations

import ast
import doctest
import io
import re
import tokenize
import tomllib
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeGuard

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
EXAMPLE_ROOMS = ("analyses", "circuits", "instruments", "model", "runs", "stats")
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
    attribute average become begin begins bind bootstrap broadcast build cache calibrate call
    capture cast catch centre change check choose clamp classify clean clear clip close cluster
    collect combine compare compile complete compute concatenate configure connect contains convert
    copy correct count cover create crop cut decide declare decode decompose delete derive describe
    detach detect disable discard discover distribute divide download draw drop edit embed emit
    enable encode ensure enter enumerate erase estimate evaluate exclude execute exit expand explain
    export extend extract fetch fill filter find finish fit fits flatten flip flush fold follow
    forget format freeze gather generate get give guard guess handle has hash hide hold holds
    identify ignore import include infer initialize insert inspect install interpolate intervene
    invert is iterate join judge keep launch learn leave list listen load locate lock lower make map
    matches maximize measure meets merge minimize mix move multiply need needs normalize notice
    observe obtain offer omit open optimize pack pad paint parametrize parse perform permute pick
    plant plot predict preload prepare print produce project propose provide prune publish pull push
    put raise randomize read rebuild recall receive reconstruct recover reduce refresh refuse
    register regress release reload remember remove rename render reopen repeat replace replay
    replicate require reset reshape resize resolve restore restrict resume return reverse rewind
    rewire rotate run sample save say scan schedule search select send separate serialize serve
    shift shorten should show shuffle simulate skip solve split stack standardize start stop store
    strip subtract suggest sum summarize suppress swap sweep synchronize take tell trace track train
    transform translate transpose trim try turn unembed unfold unlock unpack update use validate
    verify visit wait walk want wants warn watch weigh whiten wrap write yield
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
SEQUENCES = (ast.Tuple, ast.List)
IGNORES = r"(?i)(type|pyright):\s*ignore|#\s*mypy:"
NOQA = r"(?i)noqa"


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

    @cached_property
    def imported(self) -> dict[str, str]:
        """Full names by what they are called in the file: `t` of `import typing as t`."""
        full_names = {}
        for node in self.nodes:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                prefix = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
                for alias in node.names:
                    full_names[alias.asname or alias.name] = prefix + alias.name
        return full_names

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
    saved: tuple[Source, ...]
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
    paths: list[Path] = []
    for folder in FOLDERS:
        paths += sorted((root / folder).rglob("*.py"))

    saved = tuple(Source(path.relative_to(root).as_posix(), path.read_text()) for path in paths)
    package = tuple(source for source in saved if source.path.startswith(f"{PACKAGE}/"))
    settings = root / "pyproject.toml"
    return Checkout(package, saved, settings.read_text() if settings.exists() else "")


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
    """Statements `a, b = x, y`: as many values written out as there are targets; or `[a, b] = ...`.

    Unpacking one value (`a, b = pair`) is none.
    """
    for node in source.nodes:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, SEQUENCES):
            continue

        sizes = [len(target.elts) for target in node.targets if isinstance(target, SEQUENCES)]
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


def find_anys(source: Source) -> Iterator[Place]:
    """Uses of `Any`, under whatever name it was imported, in quoted types too; no imports of it."""
    for node in source.nodes:
        if isinstance(node, (ast.Name, ast.Attribute)) and is_any(resolve_name(node, source)):
            yield source.locate(node)

    for text in list_quoted_types(source):
        names = re.findall(r"[\w.]+", text.value)
        aliases = [source.imported.get(name, name) for name in names]
        yield from (source.locate(text) for name in aliases if is_any(name))


def is_any(name: str) -> bool:
    return name.rpartition(".")[2] == "Any"


def find_casts(source: Source) -> Iterator[Place]:
    """Calls of typing's `cast`, under whatever name; `x.cast(...)` of anything else is none."""
    for node in source.nodes:
        if isinstance(node, ast.Call) and is_cast(node, source):
            yield source.locate(node)


def is_cast(call: ast.Call, source: Source) -> bool:
    return (
        re.fullmatch(r"(typing(_extensions)?\.)?cast", resolve_name(call.func, source)) is not None
    )


def resolve_name(node: ast.expr, source: Source) -> str:
    """A name with its dots as its module calls it: `typing.Any` of `t.Any`; else the text."""
    if isinstance(node, ast.Attribute):
        return f"{resolve_name(node.value, source)}.{node.attr}"
    text = ast.unparse(node)
    return source.imported.get(text, text)


def list_quoted_types(source: Source) -> list[ast.Constant]:
    """The texts in annotations, and in the types that are cast to."""
    types: list[ast.expr | None] = []
    for node in source.nodes:
        types.append(getattr(node, "annotation", None))
        types.append(getattr(node, "returns", None))
        if isinstance(node, ast.Call) and is_cast(node, source):
            types += node.args[:1]

    parts = chain.from_iterable(ast.walk(root) for root in types if root)
    return [part for part in parts if is_text(part)]


def is_text(node: ast.AST) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


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
    """Functions of the module itself whose name has no leading underscore.

    Those below an `if` or a `try` too, and lambdas with a name: `curve = lambda x: x`.
    """
    functions: list[Function] = []
    for statement in iterate_statements(source.tree):
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                functions.append(statement)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Lambda() as value):
                functions.append(name_lambda(name, value))
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Lambda() as value):
                functions.append(name_lambda(name, value))
    return [function for function in functions if not function.name.startswith("_")]


def iterate_statements(root: ast.AST) -> Iterator[ast.AST]:
    """The statements of a module or a class, those below its `if`s, `try`s ... too; those inside
    its functions and classes are none.
    """
    for node in ast.iter_child_nodes(root):
        if isinstance(node, (ast.stmt, ast.ExceptHandler, ast.match_case)):
            yield node
            if not isinstance(node, (*FUNCTIONS, ast.ClassDef)):
                yield from iterate_statements(node)


def name_lambda(name: str, value: ast.Lambda) -> Function:
    """The function that an assigned lambda is."""
    body: list[ast.stmt] = [ast.copy_location(ast.Return(value.body), value.body)]
    function = ast.FunctionDef(name, value.args, body, [])
    return ast.copy_location(function, value)


def list_public_classes(root: ast.AST, *, nested: bool = False) -> list[ast.ClassDef]:
    """Public classes of a module; with `nested` also the public classes inside them."""
    classes: list[ast.ClassDef] = []
    for node in iterate_statements(root):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            classes.append(node)
            classes += list_public_classes(node, nested=True) if nested else []
    return classes


def list_public_methods(source: Source) -> list[Function]:
    """Public methods of public classes; properties, abstract or cached ones too, are none."""
    methods: list[Function] = []
    for node in list_public_classes(source.tree, nested=True):
        methods += [part for part in iterate_statements(node) if isinstance(part, FUNCTIONS)]
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
    in_place = matches_any(source.inner_path, [*NOUN_PLACES, *tasks])
    return in_place and function.lineno in [part.lineno for part in list_public_functions(source)]


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


def has_example(docstring: str | None) -> bool:
    """Whether a docstring has an example that is run: a line that begins with a prompt."""
    examples = doctest.DocTestParser().get_examples(docstring or "")
    return any(not example.options.get(doctest.SKIP) for example in examples)


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
