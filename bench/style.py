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
import re
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NoReturn

from bench.counters import (
    EXAMPLE_ROOMS,
    IGNORES,
    LINE_LENGTH,
    LONG_BODY,
    NOQA,
    PACKAGE,
    PARTICIPLES,
    Checkout,
    Function,
    Place,
    Result,
    Source,
    begins_with_verb,
    body_lines,
    count_function_lines,
    find_anys,
    find_casts,
    find_comments,
    find_homonyms,
    find_long_lines,
    find_nested_comprehensions,
    find_parallel_assignments,
    find_participles,
    has_blank_line,
    has_example,
    is_exempt,
    list_functions,
    list_overrides,
    list_public_classes,
    list_public_functions,
    list_public_methods,
    read_checkout,
)

BASELINE = "86e1950"


def count_in(
    counter: Callable[[Source], Iterator[Place]], *, everywhere: bool = False, per: int = 0
) -> Callable[[Checkout], Result]:
    """The number of places in the package, or in all kept folders; or per so many of its lines."""

    def count(checkout: Checkout) -> Result:
        sources = checkout.saved if everywhere else checkout.package
        places = list(chain.from_iterable(map(counter, sources)))
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

        nodes = [*list_public_functions(source), *list_public_classes(source.tree)]
        without = [node for node in nodes if not has_example(ast.get_docstring(node))]
        n += len(nodes)
        misses += [source.locate(node, node.name) for node in without]
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
        "type: ignore, mypy: ...",
        count_in(lambda source: find_comments(source, IGNORES)),
        then=38,
        bar=12,
    ),
    Figure("casts", "cast(", count_in(find_casts), then=1, bar=1),
    Figure("noqa", "noqa", count_in(lambda source: find_comments(source, NOQA)), then=2, bar=2),
    Figure("overrides", "modules that mypy overrides", count_overrides, then=8, bar=8),
    Figure("any", "Any", count_in(find_anys), then=71, bar=71),
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
