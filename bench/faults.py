"""`make faults`: what the lab promises is tried, and a table says what came of it.

`python -m bench.faults` takes about 25 minutes; `--quick` has a look at everything in three.
`--only kills,pairs --n 5` tries some parts, `--seed` draws others. What is bad is printed in full,
the table is written as JSON as well, and the exit code is 1 if anything is bad.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import toyvit
from bench import option_sets
from bench.fault_commands import try_kills, try_pairs, warm
from bench.fault_cuts import try_cuts
from bench.fault_files import Try, try_checks, try_files
from bench.fault_inputs import try_inputs

FILE = Path("runs/faults.json")
Function = Callable[[int, int, Path], Iterator[Try]]


def try_options(n: int, seed: int, place: Path) -> Iterator[Try]:
    """n random option sets over every command."""
    with warm():
        start = option_sets.prepare_place(place / "start")
        for outcome in option_sets.try_sets(n, seed, start):
            problem = f"code {outcome.code}: {outcome.text[-1500:]}" if outcome.is_bad else ""
            yield Try(repr(outcome.words), problem)


@dataclass(frozen=True)
class Part:
    """What is tried, how often in full and in a quick look, and what is bad."""

    run: Function
    asked: int
    quick: int
    what: str
    bad: str


PARTS: Mapping[str, Part] = {
    "files": Part(
        try_files,
        *(3000, 120),
        "faults in every file of a run: flipped, cut, swapped, of earlier, of another meaning",
        "silent",
    ),
    "checks": Part(
        try_checks, *(15, 15), "checks of the lab, each switched off", "nothing was silent then"
    ),
    "inputs": Part(
        try_inputs,
        *(1000, 60),
        "hostile files, and commands that read them",
        "a traceback, no end, or foreign text as it is",
    ),
    "options": Part(
        try_options, *(500, 30), "random option sets over every command", "a traceback or no end"
    ),
    "kills": Part(
        try_kills,
        *(39, 4),
        "SIGKILL at a random moment of every command that writes",
        "lost, torn, or otherwise in the end",
    ),
    "cuts": Part(
        try_cuts,
        *(50, 5),
        "power cuts: what was not flushed is lost, torn or blank",
        "lost, or otherwise in the end",
    ),
    "pairs": Part(
        try_pairs, *(28, 2), "pairs of commands on one run at once", "mixed, or a traceback"
    ),
}


@dataclass
class Count:
    """What came of a part."""

    part: str
    asked: int
    seed: int
    tried: int = 0
    seconds: float = 0.0
    bad: list[Try] = field(default_factory=list)


def count(name: str, n: int, seed: int, place: Path) -> Count:
    """Try a part; progress and what is bad go to standard error."""
    result = Count(name, n, seed)
    begun = time.monotonic()
    for attempt in PARTS[name].run(n, seed, place):
        result.tried += 1
        if attempt.problem:
            result.bad.append(attempt)
            print(f"\n{name}: {attempt.what}\n  {attempt.problem}", file=sys.stderr)
        result.seconds = time.monotonic() - begun
        line = f"\r{name}: {result.tried} of {n}, {len(result.bad)} bad, {result.seconds:.0f} s"
        print(line, end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return result


def format_table(counts: Sequence[Count]) -> str:
    """The counts as a table of Markdown."""
    lines = ["| tried | how many | bad | bad is |", "|---|---:|---:|---|"]
    for result in counts:
        part = PARTS[result.part]
        lines.append(f"| {part.what} | {result.tried:,} | {len(result.bad)} | {part.bad} |")
    return "\n".join(lines)


def write_json(counts: Sequence[Count], file: Path) -> None:
    """The counts with their seeds, and under what they came."""
    record = {
        "date": time.strftime("%Y-%m-%d"),
        "version": toyvit.__version__,
        "python": platform.python_version(),
        "parts": [asdict(result) for result in counts],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=1) + "\n")


def is_passed(counts: Sequence[Count]) -> bool:
    """Whether all that was asked was tried, and nothing was bad."""
    return all(result.tried and not result.bad for result in counts)


def parse_options(words: Sequence[str] | None) -> argparse.Namespace:
    """--only PARTS, --n N, --quick, --seed SEED, --to FILE."""
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS), help="comma-separated parts")
    parser.add_argument("--n", type=int, help="how many of each part (default: what was asked)")
    parser.add_argument("--quick", action="store_true", help="a look at everything")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--to", type=Path, default=FILE, help=f"the JSON (default: {FILE})")
    options = parser.parse_args(words)
    options.only = options.only.split(",")
    for name in options.only:
        if name not in PARTS:
            parser.error(f"no part {name!r}: there are {', '.join(PARTS)}")
    if options.n is not None and options.n < 1:
        parser.error(f"--n takes a positive number, not {options.n}")
    return options


def main(words: Sequence[str] | None = None) -> int:
    """Try the parts, print the table, and write the JSON."""
    options = parse_options(words)
    logging.disable(logging.WARNING)  # of damaged files, thousands
    counts = []
    for name in options.only:
        part = PARTS[name]
        n = options.n or (part.quick if options.quick else part.asked)
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            counts.append(count(name, n, options.seed, Path(folder)))
        write_json(counts, options.to)  # of what there is, should a later part be stopped
    print(format_table(counts))
    print(f"seed {options.seed}; written to {options.to}")
    return 0 if is_passed(counts) else 1


if __name__ == "__main__":
    sys.exit(main())
