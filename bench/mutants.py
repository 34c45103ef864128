"""Small faults for `python -m bench.mutations`: where one can be planted, and a fair draw of them.

A mutation replaces a span of a file's bytes. Nothing is mutated that no test can or should see:
docstrings and other texts, annotations, decorators, the message of an exception, help texts, what
is imported, and numbers that only decide how a picture looks.
"""

from __future__ import annotations

import ast
import difflib
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# Keywords of calls that are texts for people, or looks that an eye judges and no test.
UNTESTED_KEYWORDS = frozenset(
    {
        *("help", "metavar", "description", "epilog"),
        *("alpha", "bbox_to_anchor", "borderaxespad", "bottom", "capsize", "dpi", "figsize"),
        *("fontsize", "height_ratios", "hspace", "labelpad", "labelsize", "left", "length", "lw"),
        *("linewidth", "markersize", "ms", "pad", "right", "shrink", "top", "width_ratios"),
        *("wspace", "zorder"),
    }
)
SYMMETRIC = frozenset({"max", "min", "isclose", "allclose", "equal", "maximum", "minimum", "gcd"})

COMPARISONS: dict[type[ast.cmpop], tuple[str, tuple[str, ...]]] = {
    ast.Lt: (r"<", ("<=", ">=")),
    ast.LtE: (r"<=", ("<", ">")),
    ast.Gt: (r">", (">=", "<=")),
    ast.GtE: (r">=", (">", "<")),
    ast.Eq: (r"==", ("!=",)),
    ast.NotEq: (r"!=", ("==",)),
    ast.Is: (r"\bis\b", ("is not",)),
    ast.IsNot: (r"\bis\s+not\b", ("is",)),
    ast.In: (r"\bin\b", ("not in",)),
    ast.NotIn: (r"\bnot\s+in\b", ("in",)),
}
ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: (r"\+", "-"),
    ast.Sub: (r"-", "+"),
    ast.Mult: (r"\*", "/"),
    ast.Div: (r"/", "*"),
    ast.FloorDiv: (r"//", "*"),
    ast.BitAnd: (r"&", "|"),
    ast.BitOr: (r"\|", "&"),
}
BOOLEAN: dict[type[ast.boolop], tuple[str, str]] = {
    ast.And: (r"\band\b", "or"),
    ast.Or: (r"\bor\b", "and"),
}


@dataclass(frozen=True)
class Mutation:
    """Bytes `start` to `end` of a file become `replacement`; `line` is where the span begins."""

    path: str
    line: int
    operator: str
    start: int
    end: int
    replacement: str

    def apply(self, text: str) -> str:
        """The file's text with the fault in it.

        >>> Mutation("a.py", 1, "comparison", 2, 3, "<=").apply("a < b")
        'a <= b'
        """
        source = text.encode()
        mutated = source[: self.start] + self.replacement.encode() + source[self.end :]
        return mutated.decode()

    def describe(self, text: str) -> str:
        """The lines that change, as a diff."""
        lines = text.splitlines()
        mutated = self.apply(text).splitlines()
        diff = list(difflib.unified_diff(lines, mutated, n=0, lineterm=""))
        changes = [line for line in diff[2:] if not line.startswith("@@")]
        return "\n".join([f"{self.path}:{self.line}: {self.operator}", *changes])


class MutationFinder(ast.NodeVisitor):
    """Collects every mutation of one file in `mutations`."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.source = text.encode()
        self.mutations: list[Mutation] = []
        lines = self.source.splitlines(keepends=True)
        self.line_starts = [0]
        for line in lines:
            self.line_starts.append(self.line_starts[-1] + len(line))

    # ---- places ----

    def get_start(self, node: ast.expr | ast.stmt) -> int:
        return self.line_starts[node.lineno - 1] + node.col_offset

    def get_end(self, node: ast.expr | ast.stmt) -> int:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self.line_starts[node.end_lineno - 1] + node.end_col_offset

    def get_text(self, node: ast.expr | ast.stmt) -> str:
        return self.source[self.get_start(node) : self.get_end(node)].decode()

    def add(self, operator: str, start: int, end: int, *replacements: str) -> None:
        line = self.source.count(b"\n", 0, start) + 1
        for text in replacements:
            self.mutations.append(Mutation(self.path, line, operator, start, end, text))

    def replace(self, operator: str, node: ast.expr | ast.stmt, *replacements: str) -> None:
        self.add(operator, self.get_start(node), self.get_end(node), *replacements)

    def replace_between(
        self, operator: str, left: ast.expr, right: ast.expr, pattern: str, *replacements: str
    ) -> None:
        """Replace the sign that stands between two operands."""
        start = self.get_end(left)
        match = re.search(pattern.encode(), self.source[start : self.get_start(right)])
        if match is not None:
            self.add(operator, start + match.start(), start + match.end(), *replacements)

    # ---- expressions ----

    def visit_Compare(self, node: ast.Compare) -> None:
        operands = [node.left, *node.comparators]
        for i, sign in enumerate(node.ops):
            pattern, others = COMPARISONS[type(sign)]
            self.replace_between("comparison", operands[i], operands[i + 1], pattern, *others)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if type(node.op) in ARITHMETIC and not (is_text(node.left) or is_text(node.right)):
            pattern, other = ARITHMETIC[type(node.op)]
            self.replace_between("arithmetic", node.left, node.right, pattern, other)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        pattern, other = BOOLEAN[type(node.op)]
        for i in range(len(node.values) - 1):
            self.replace_between("and/or", node.values[i], node.values[i + 1], pattern, other)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        start = self.get_start(node)
        if isinstance(node.op, ast.Not):
            self.add("not removed", start, start + len("not"), "")
        elif isinstance(node.op, ast.USub):
            self.add("sign removed", start, start + len("-"), "")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self.replace("boolean flipped", node, str(not value))
        elif isinstance(value, (int, float)):
            below = repr(value - 1) if value >= 1 else f"({value - 1!r})"
            self.replace("off by one", node, repr(value + 1), below)

    def visit_Call(self, node: ast.Call) -> None:
        name = ast.unparse(node.func).rpartition(".")[2]
        if name not in SYMMETRIC:
            for i in range(len(node.args) - 1):
                self.swap(node.args[i], node.args[i + 1])
        self.generic_visit(node)

    def swap(self, first: ast.expr, second: ast.expr) -> None:
        texts = self.get_text(first), self.get_text(second)
        if isinstance(first, ast.Starred) or isinstance(second, ast.Starred):
            return
        if texts[0] == texts[1]:
            return

        between = self.source[self.get_end(first) : self.get_start(second)].decode()
        swapped = texts[1] + between + texts[0]
        self.add("arguments swapped", self.get_start(first), self.get_end(second), swapped)

    def visit_Slice(self, node: ast.Slice) -> None:
        start = self.get_start(node)
        end = self.get_end(node)
        if node.lower is None:
            self.add("slice bound", start, start, "1")
        elif not isinstance(node.lower, ast.Constant):
            self.replace("slice bound", node.lower, f"({self.get_text(node.lower)}) + 1")

        if node.upper is None and node.step is None:
            self.add("slice bound", end, end, "-1")
        elif node.upper is not None and not isinstance(node.upper, ast.Constant):
            self.replace("slice bound", node.upper, f"({self.get_text(node.upper)}) - 1")
        self.generic_visit(node)

    # ---- statements ----

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is None:
            return
        if not (isinstance(node.value, ast.Constant) and node.value.value is None):
            self.replace("return None", node.value, "None")
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if is_text(node.value) or isinstance(node.value, ast.Constant):
            return
        self.replace("statement removed", node, "pass")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.replace("statement removed", node, "pass")
        if type(node.op) in ARITHMETIC and not is_text(node.value):
            pattern, other = ARITHMETIC[type(node.op)]
            self.replace_between("arithmetic", node.target, node.value, pattern, other)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        """Removing what sets a name would only be a NameError; what sets an item may go unseen."""
        if all(isinstance(target, (ast.Attribute, ast.Subscript)) for target in node.targets):
            self.replace("statement removed", node, "pass")
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Raise(self, node: ast.Raise) -> None:
        self.replace("statement removed", node, "pass")

    def visit_Assert(self, node: ast.Assert) -> None:
        self.visit(node.test)

    def visit_Break(self, node: ast.Break) -> None:
        self.replace("statement removed", node, "pass")

    def visit_Continue(self, node: ast.Continue) -> None:
        self.replace("statement removed", node, "pass")

    # ---- what is left alone ----

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.visit(node.args)
        for statement in node.body:
            self.visit(statement)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for statement in node.body:
            self.visit(statement)

    def visit_arg(self, node: ast.arg) -> None:
        """An annotation."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """A text for people."""

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg not in UNTESTED_KEYWORDS:
            self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        condition = ast.unparse(node.test)
        if "TYPE_CHECKING" not in condition and "__name__" not in condition:
            self.generic_visit(node)


def is_text(node: ast.expr) -> bool:
    """Whether an expression is a text written out, with or without places to fill in."""
    if isinstance(node, ast.JoinedStr):
        return True
    return isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))


def find_mutations(path: str, text: str) -> list[Mutation]:
    """Every mutation of a file, in no particular order; some may not compile.

    >>> [mutation.replacement for mutation in find_mutations("a.py", "x = a < b and c")]
    ['or', '<=', '>=']
    """
    finder = MutationFinder(path, text)
    finder.visit(ast.parse(text))
    return finder.mutations


def compiles(text: str) -> bool:
    try:
        compile(text, "mutated", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def draw_mutations(sources: Mapping[str, str], n: int, seed: int) -> list[Mutation]:
    """At most `n` mutations on as many different lines of the sources (text by path).

    Lines are drawn uniformly without replacement among those that have a mutation; then, on the
    line, one of the operators, and one mutation of it. The first 5 of 200 are the 5 of that seed.
    """
    by_line: dict[tuple[str, int], list[Mutation]] = defaultdict(list)
    for path, text in sources.items():
        for mutation in find_mutations(path, text):
            by_line[path, mutation.line].append(mutation)

    lines = sorted(by_line)
    random.Random(seed).shuffle(lines)
    mutations = draw_from_lines([by_line[line] for line in lines], sources, seed)
    return [mutation for _, mutation in zip(range(n), mutations, strict=False)]


def draw_from_lines(
    lines: list[list[Mutation]], sources: Mapping[str, str], seed: int
) -> Iterator[Mutation]:
    """One mutation that compiles of every line that has one."""
    for candidates in lines:
        generator = random.Random(f"{seed}:{candidates[0].path}:{candidates[0].line}")
        for mutation in shuffle_by_operator(candidates, generator):
            if compiles(mutation.apply(sources[mutation.path])):
                yield mutation
                break


def shuffle_by_operator(candidates: list[Mutation], generator: random.Random) -> list[Mutation]:
    """In an order in which every operator is as likely to come first, however often it occurs."""
    operators = sorted({mutation.operator for mutation in candidates})
    generator.shuffle(operators)
    shuffled = generator.sample(candidates, len(candidates))
    return sorted(shuffled, key=lambda mutation: operators.index(mutation.operator))
