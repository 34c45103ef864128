"""Random option sets over every command: each ends, with an exit code and no traceback.

`python -m bench.option_sets [N] [SEED]` draws N sets (default 500) and runs each in a fork of this
process; what broke is printed, word by word, and the exit code is 1. The sets are drawn from the
parser itself, so that a new option is tried as soon as it is declared.
"""

from __future__ import annotations

import argparse
import atexit
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

from toyvit import __main__ as command
from toyvit.cli import COMMANDS
from toyvit.cli.parser import build_parser
from toyvit.config.overrides import apply_overrides
from toyvit.recipes import find_recipe

SECONDS = 60.0  # a command that takes longer is without end
SMALL = ("--train.steps=2", "--train.batch_size=4", "--train.n_validation=4")
# Commands that serve until they are stopped.
ENDLESS = {"tensorboard", "follow", "view"}
CODES = {0, 1, 2, 3, 4}
NUMBERS = ("0", "1", "2", "3", "-1", "1.5", "1e3", "99999999999999999999", "nan", "inf")
STRANGE = ("", " ", "--", "-", "-x", "x", "none", "last", "a,b", ",", "0,1", "0..1", "1..0")
LETTERS = ("é", "\udc80", "\n", "a\x1b[31m")
PATHS = (".", "nowhere", "runs", "runs/run", "runs/run/config.json", "../x", "/dev/null", "a\x1bb")
NAMES = ("induction-smoke", "inducton", "performance", "norms,heads", "query", "zero", "kl")
FIELDS = (
    "--model.n_layers",
    "--model.n_heads",
    "--model.d_model",
    "--model.mask",
    "--train.steps",
    "--train.clamps",
    "--train.checkpoints",
    "--train.learning_rate",
    "--train.threads",
    "--task.noise",
    "--task.n_items",
    "--seeds.init",
    "--modle.x",
    "--train.",
    "--.",
)


@dataclass(frozen=True)
class Outcome:
    """What came of a set of words: exit code, None where it did not end, and what it printed."""

    words: tuple[str, ...]
    code: int | None
    text: str

    @property
    def is_bad(self) -> bool:
        """Whether it had no end, ended in a traceback, or with a code that means nothing."""
        return self.code not in CODES or "Traceback" in self.text


def draw_words(rng: random.Random) -> tuple[str, ...]:
    """The words behind `toyvit`: mostly a command with fitting arguments, and some that are not."""
    name = rng.choice([name for name in COMMANDS if name not in ENDLESS])
    words: list[str] = []
    for action in rng.choices(_list_options(name), k=rng.randint(0, 4)):
        words += _draw_option(rng, action)
    if COMMANDS[name].takes_fields:
        for field in rng.choices(FIELDS, k=rng.randint(0, 2)):
            words += _join(rng, field, rng.choice((*NUMBERS, *STRANGE, "causal", "0.0:previous")))

    place = rng.randint(0, len(words))
    nouns = _draw_nouns(rng, name)
    words[place:place] = nouns
    if COMMANDS[name].takes_fields and name != "data":
        words += SMALL
    if name == "replicate":
        words.append("--list")  # else minutes of training
    if rng.random() < 0.05:
        words.insert(rng.randint(0, len(words)), rng.choice(STRANGE + LETTERS))
    return (name, *words)


@cache
def _list_options(name: str) -> list[argparse.Action]:
    """What a command declares."""
    required = {"replay": ["--between", "1", "2"], "export": ["--to", "torch"]}
    parser = build_parser().parse_known_args([name, "x", *required.get(name, [])])[0].parser
    return [action for action in parser._actions if action.option_strings]


def _draw_nouns(rng: random.Random, name: str) -> list[str]:
    """What stands without an option: right in most draws."""
    if rng.random() < 0.2:
        return rng.choices((*PATHS, *NAMES, *STRANGE), k=rng.randint(0, 2))
    right = {
        "train": ["induction-smoke"],
        "sweep": ["induction-smoke"],
        "data": ["digits"],
        "sites": ["digits"],
        "analyses": ["probes"],
        "ls": ["runs"],
    }
    return right.get(name, ["runs/run"])


def _draw_option(rng: random.Random, action: argparse.Action) -> list[str]:
    option = rng.choice(action.option_strings)
    if option.startswith("--") and rng.random() < 0.05:
        option = option[:-1]  # no abbreviations
    if action.nargs == 0:
        return [option] if rng.random() < 0.9 else [f"{option}=yes"]
    n = action.nargs if isinstance(action.nargs, int) else 1
    values = rng.choices((*NUMBERS, *STRANGE, *LETTERS, *PATHS, *NAMES), k=n)
    if action.type is int and rng.random() < 0.7:
        values = rng.choices(("0", "1", "2", "3", "8"), k=n)
    return _join(rng, option, *values)


def _join(rng: random.Random, option: str, *values: str) -> list[str]:
    if len(values) == 1 and rng.random() < 0.5:
        return [f"{option}={values[0]}"]
    return [option, *values]


def run_words(words: Sequence[str], place: Path, seconds: float = SECONDS) -> Outcome:
    """A command line in a fork of this process, in the folder `place`; its workers end with it."""
    with tempfile.TemporaryFile() as output:
        pid = start_words(words, place, output.fileno())
        code = _wait(pid, time.monotonic() + seconds)
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        if code is None:
            os.waitpid(pid, 0)
        output.seek(0)
        return Outcome(tuple(words), code, output.read().decode(errors="replace"))


def start_words(words: Sequence[str], place: Path, output: int) -> int:
    """The process, in a session of its own, that runs a command line; it prints into a file."""
    pid = os.fork()
    if not pid:
        _become(words, place, output)
    return pid


def _become(words: Sequence[str], place: Path, output: int) -> NoReturn:
    """Run the words, and end this process as an interpreter ends."""
    code = 99
    os.setsid()
    atexit._clear()  # what this process has registered is not the command's
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, file in enumerate((nothing, output, output)):
        os.dup2(file, number)
    sys.stdout = os.fdopen(1, "w", closefd=False, errors="backslashreplace")
    sys.stderr = os.fdopen(2, "w", closefd=False, errors="backslashreplace", buffering=1)
    try:
        os.chdir(place)
        code = command.main(words)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    with suppress(Exception):
        atexit._run_exitfuncs()
        sys.stdout.flush()
    os._exit(code)


def _wait(pid: int, end: float) -> int | None:
    """The exit code of a process, or None where it has none by then."""
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def prepare_place(place: Path) -> Path:
    """A folder with `runs/run`, a small finished run, that commands may be tried in."""
    from toyvit.train import fit

    config = apply_overrides(find_recipe("induction-smoke")(), SMALL)
    fit(config, place / "runs/run", progress=False)
    return place


def try_sets(n: int, seed: int, place: Path, seconds: float = SECONDS) -> Iterator[Outcome]:
    """n random sets, each on a copy of what `prepare_place` has left."""
    rng = random.Random(seed)
    for _ in range(n):
        words = draw_words(rng)
        with tempfile.TemporaryDirectory(dir=place.parent) as fresh:
            copy = shutil.copytree(place, Path(fresh, "place"))
            yield run_words(words, copy, seconds)


def main(n: int = 500, seed: int = 0) -> int:
    """Print what broke, and how many ended with which code."""
    import toyvit.sweeping  # noqa: F401  # warm: every fork has it

    codes: Counter[int | None] = Counter()
    bad = []
    with tempfile.TemporaryDirectory() as folder:
        place = prepare_place(Path(folder, "start"))
        for outcome in try_sets(n, seed, place):
            codes[outcome.code] += 1
            if outcome.is_bad:
                bad.append(outcome)
                print(f"code {outcome.code}: {outcome.words!a}\n{outcome.text[-2000:]}", flush=True)
    print(f"{n} option sets, seed {seed}: {len(bad)} broke; codes {dict(codes)}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
