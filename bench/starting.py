"""Starting: what `import toyvit` and `toyvit --help` cost, in CPU time of fresh interpreters."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from bench.timing import Result, interleave

BARS = {"import toyvit": 50, "toyvit --help": 100}  # milliseconds, the interpreter's own included
WORDS = {
    "import toyvit": ("-c", "import toyvit"),
    "toyvit --help": ("-m", "toyvit", "--help"),
    "bare": ("-c", ""),
}


def start(*words: str) -> None:
    """Run a fresh interpreter to its end."""
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)


def read_children_clock() -> float:
    """Seconds of CPU that ended child processes took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def results(repeats: int | None) -> Iterator[Result]:
    jobs = {name: partial(start, *words) for name, words in WORDS.items()}
    times = interleave("starting", jobs, repeats or 21, clock=read_children_clock)
    for name, bar in BARS.items():
        yield Result(
            name=f"{name} (CPU time)",
            ours=times[name],
            peer=times["bare"],
            peer_name="bare python",
            bar=bar,
            barred="ours",
        )
