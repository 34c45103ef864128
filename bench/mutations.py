"""`python -m bench.mutations`: how many small faults the tests see.

Draws mutations (`bench.mutants`) over the lines of the package, plants each alone in a copy of the
working tree, and runs there the tests that `bench.tested_by` names for its module. A mutation is
killed if they fail or take far longer than without it. Before, the same tests have to pass without
a fault, and to fail where the package cannot be imported, which shows that it is the copy's.

Outcomes are kept in a JSON file after each, so that a run that was stopped goes on where it was.
They are tried again if their module has changed, and a survivor if any test has.

Every run of tests is a fork of this process, which has the heavy libraries imported already.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path
from typing import NoReturn

from bench.mutants import Mutation, draw_mutations
from bench.tested_by import TESTED_BY, list_tests
from bench.trials import (
    PACKAGE,
    SURVIVED,
    TIMED_OUT,
    Ending,
    Failure,
    Pool,
    Trial,
    copy_tree,
    list_files,
    preload,
)

BAR = 0.90
QUICK = "not slow"
SLOW = "slow"


def name_commit(root: Path) -> str:
    words = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def read_sources(root: Path, pattern: str) -> dict[str, str]:
    """Text by path of the package's modules whose path inside it matches."""
    sources = {
        name: (root / name).read_text()
        for name in list_files(root)
        if name.startswith(f"{PACKAGE}/") and name.endswith(".py")
    }
    return {name: text for name, text in sources.items() if fnmatch(get_module(name), pattern)}


def get_module(path: str) -> str:
    """A module's path inside the package: `data/task.py`."""
    return path.partition("/")[2]


def hash_tests(root: Path) -> str:
    names = sorted(name for name in list_files(root) if name.startswith("tests/"))
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode() + b"\0" + (root / name).read_bytes())
    return digest.hexdigest()


def hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# ---- outcomes that are kept ----


class Record:
    """The outcomes in the JSON file, by mutation and by the text of its module."""

    def __init__(self, file: Path, tests: str, fresh: bool) -> None:
        self.file = file
        self.tests = tests
        self.outcomes: dict[str, dict[str, object]] = {}
        if file.exists() and not fresh:
            self.outcomes = load_outcomes(file)

    def recall(self, mutation: Mutation, text: str) -> dict[str, object] | None:
        """What is known of a mutation, unless its module or, for a survivor, a test changed."""
        outcome = self.outcomes.get(name_mutation(mutation, text))
        if outcome is None or (outcome["outcome"] == SURVIVED and outcome["tests"] != self.tests):
            return None
        return outcome

    def add(self, mutation: Mutation, text: str, trial: Trial, ending: Ending) -> None:
        """Keep one outcome; a survivor of the quick tests may yet be killed by the slow ones."""
        self.outcomes[name_mutation(mutation, text)] = {
            **asdict(mutation),
            "diff": mutation.describe(text).splitlines()[1:],
            "outcome": ending.outcome,
            "by": ending.killer,
            "marker": trial.marker,
            "seconds": round(ending.seconds, 2),
            "tests": self.tests,
        }

    def write(self, facts: Mapping[str, object]) -> None:
        """The whole file anew, beside the old and then in its place."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        beside = self.file.with_suffix(".part")
        beside.write_text(json.dumps({**facts, "outcomes": self.outcomes}, indent=1) + "\n")
        beside.replace(self.file)


def load_outcomes(file: Path) -> dict[str, dict[str, object]]:
    try:
        outcomes = json.loads(file.read_text())["outcomes"]
    except (ValueError, KeyError, TypeError):
        raise Failure(f"{file} holds no mutations; remove it or give another --out") from None
    return dict(outcomes)


def load_table(file: Path) -> dict[str, tuple[str, ...]]:
    """Rows from a JSON file: tests by pattern, as in TESTED_BY."""
    try:
        rows = json.loads(file.read_text())
        return {pattern: tuple(tests) for pattern, tests in rows.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        raise Failure(f"--table must be a JSON file of tests by pattern, got {file}") from None


def name_mutation(mutation: Mutation, text: str) -> str:
    place = f"{mutation.path}:{mutation.line}:{mutation.start}-{mutation.end}"
    return f"{place}:{mutation.replacement}:{hash_text(text)[:12]}"


# ---- the whole ----


@dataclass(frozen=True)
class Plan:
    """What is to be measured."""

    root: Path
    n: int
    seed: int
    jobs: int
    modules: str
    out: Path
    slow: bool
    fresh: bool
    patience: float
    table: Mapping[str, tuple[str, ...]]


def show_progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def time_tests(pool: Pool, tests: Sequence[str], marker: str, limit: float) -> dict[str, float]:
    """Seconds of each file of tests without a fault; they have to pass."""
    seconds: dict[str, float] = {}
    for trial, ending in pool.run([Trial((test,), marker, limit) for test in tests]):
        test = trial.tests[0]
        if ending.outcome != SURVIVED:
            raise Failure(f"{test} fails without any fault: {ending.killer or ending.outcome}")
        seconds[test] = ending.seconds
        show_progress(f"without a fault: {ending.seconds:6.1f} s  {test} ({marker})")
    return seconds


def check_control(pool: Pool, tests: Sequence[str], text: str, limit: float) -> None:
    """A package that cannot be imported has to be seen, or the tests are not the copy's."""
    end = len(text.encode())
    path = f"{PACKAGE}/__init__.py"
    fault = Mutation(path, 1, "control", end, end, "\nraise RuntimeError('control')\n")
    trials = [Trial((test,), QUICK, limit, fault) for test in tests]
    if all(ending.outcome == SURVIVED for _, ending in pool.run(trials)):
        raise Failure("the tests do not import the package of the copy: no fault can be seen")


def measure_mutations(plan: Plan) -> list[dict[str, object]]:
    """The outcome of every mutation of the plan, in the order drawn."""
    sources = read_sources(plan.root, plan.modules)
    if not sources:
        raise Failure(f"--modules {plan.modules!r} matches no module of {PACKAGE}")
    untested = [name for name in sources if not list_tests(get_module(name), plan.table)]
    if untested:
        raise Failure(f"no row of TESTED_BY matches {', '.join(untested)}")

    mutations = draw_mutations(sources, plan.n, plan.seed)
    record = Record(plan.out, hash_tests(plan.root), plan.fresh)
    facts = {"commit": name_commit(plan.root), "seed": plan.seed, "n": plan.n}

    with tempfile.TemporaryDirectory(prefix="mutations-") as place:
        pool = Pool(Path(place).resolve() / "pristine", plan.jobs)
        copy_tree(plan.root, pool.pristine)
        for marker in (QUICK, SLOW) if plan.slow else (QUICK,):
            pending = select_pending(mutations, sources, record, marker)
            try_mutations(pool, pending, sources, record, facts, marker, plan)

    outcomes = [record.recall(mutation, sources[mutation.path]) for mutation in mutations]
    return [outcome for outcome in outcomes if outcome is not None]


def select_pending(
    mutations: Sequence[Mutation], sources: Mapping[str, str], record: Record, marker: str
) -> list[Mutation]:
    """Those not tried yet, or, for the slow tests, those that only the quick ones have tried."""
    pending: list[Mutation] = []
    for mutation in mutations:
        outcome = record.recall(mutation, sources[mutation.path])
        if outcome is None or (
            marker == SLOW and outcome["outcome"] == SURVIVED and outcome["marker"] == QUICK
        ):
            pending.append(mutation)
    return pending


def try_mutations(
    pool: Pool,
    mutations: Sequence[Mutation],
    sources: Mapping[str, str],
    record: Record,
    facts: Mapping[str, object],
    marker: str,
    plan: Plan,
) -> None:
    """Run the tests of each mutation and keep what comes out."""
    if not mutations:
        return
    tests = {mutation: list_tests(get_module(mutation.path), plan.table) for mutation in mutations}
    needed = list(dict.fromkeys(chain.from_iterable(tests.values())))
    seconds = time_tests(pool, needed, marker, limit=1800)
    if marker == QUICK:
        text = (plan.root / PACKAGE / "__init__.py").read_text()
        check_control(pool, needed[:3], text, limit=300)

    trials = []
    for mutation, row in tests.items():
        limit = plan.patience + 5 * sum(seconds[test] for test in row)
        trials.append(Trial(row, marker, limit, mutation))

    for number, (trial, ending) in enumerate(pool.run(trials), start=1):
        assert trial.mutation is not None
        record.add(trial.mutation, sources[trial.mutation.path], trial, ending)
        record.write(facts)
        place = f"{trial.mutation.path}:{trial.mutation.line}"
        show_progress(
            f"[{number}/{len(trials)}] {ending.outcome} {ending.seconds:6.1f} s  {place} "
            f"{trial.mutation.operator}  {ending.killer}"
        )


def count_killed(outcomes: Sequence[Mapping[str, object]]) -> int:
    return sum(outcome["outcome"] != SURVIVED for outcome in outcomes)


def format_outcomes(outcomes: Sequence[Mapping[str, object]], seed: int, commit: str) -> str:
    """Every survivor as a diff, and the figure below them."""
    lines: list[str] = []
    for outcome in outcomes:
        if outcome["outcome"] == SURVIVED:
            diff = outcome["diff"]
            assert isinstance(diff, list)
            place = f"{outcome['path']}:{outcome['line']}"
            lines += [f"{place}: {outcome['operator']}", *diff, ""]

    n_killed = count_killed(outcomes)
    n_late = sum(outcome["outcome"] == TIMED_OUT for outcome in outcomes)
    share = 100 * n_killed / len(outcomes)
    total = f"{n_killed} of {len(outcomes)} mutations killed ({share:.1f} %; {n_late} by timeout)"
    return "\n".join([*lines, f"{total}, seed {seed}, {commit}; bar: {100 * BAR:.0f} %"])


class Parser(argparse.ArgumentParser):
    """Bad words end in one line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"mutations: {message}\n")


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m bench.mutations", description="How many faults tests see.")
    parser.add_argument("--n", type=int, default=200, help="mutations to draw (default: 200)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default: 0)")
    parser.add_argument("--jobs", type=int, default=2, help="side by side (default: 2)")
    parser.add_argument(
        "--modules", default="*", metavar="GLOB", help="inside the package, as 'report/*'"
    )
    parser.add_argument(
        "--slow", action="store_true", help="try survivors of the quick tests with the slow ones"
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=60,
        metavar="SECONDS",
        help="beyond 5 times the time without a fault, until a trial is stopped (default: 60)",
    )
    parser.add_argument("--fresh", action="store_true", help="forget the outcomes kept in --out")
    parser.add_argument("--check", action="store_true", help="exit code 1 below the bar")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/mutations.json"),
        metavar="FILE",
        help="where outcomes are kept (default: runs/mutations.json)",
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(__file__).parents[1],
        metavar="FOLDER",
        help="another checkout to measure (default: this one)",
    )
    parser.add_argument(
        "--table", type=Path, metavar="JSON", help="rows instead of TESTED_BY, for --root"
    )
    arguments = parser.parse_args(argv)

    for name in ("n", "jobs"):
        value = getattr(arguments, name)
        if value < 1:
            parser.error(f"--{name} must be at least 1, got {value}")
    if not (arguments.root / PACKAGE).is_dir():
        parser.error(f"--root must hold a folder {PACKAGE!r}, got {str(arguments.root)!r}")
    return arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 measured; 1 below the bar with `--check`; 2 nothing could be measured."""
    arguments = parse_arguments(argv)
    try:
        plan = Plan(
            root=arguments.root.resolve(),
            n=arguments.n,
            seed=arguments.seed,
            jobs=arguments.jobs,
            modules=arguments.modules,
            out=arguments.out,
            slow=arguments.slow,
            fresh=arguments.fresh,
            patience=arguments.patience,
            table=load_table(arguments.table) if arguments.table else TESTED_BY,
        )
        preload(plan.root)
        outcomes = measure_mutations(plan)
    except Failure as error:
        print(f"mutations: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"mutations: stopped; {arguments.out} keeps the outcomes so far", file=sys.stderr)
        return 130

    print(format_outcomes(outcomes, plan.seed, name_commit(plan.root)))
    print(f"every outcome: {plan.out}")
    return int(arguments.check and count_killed(outcomes) < BAR * len(outcomes))


if __name__ == "__main__":
    sys.exit(main())
