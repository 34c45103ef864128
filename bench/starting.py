"""Starting: what commands cost that do next to nothing, in CPU time of fresh interpreters.

Light ones stand beside a bare interpreter, those that need torch beside `import torch`. Processes
that a command starts and waits for, such as the follower of `train`, count as its own.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.timing import Result, Times, interleave

# Milliseconds, the interpreter's own included.
LIGHT = {
    "import toyvit": 50,
    "toyvit --help": 100,
    "toyvit ls, 20 runs": 200,
    "toyvit ls, 1,000 runs": 1000,
    "toyvit ls --where, 1,000 runs": 2000,
}
HEAVY = {"toyvit measure, nothing to do": 600, "toyvit train, to step 1": 3300}
TOYVIT = ("-m", "toyvit")
ANALYSES = ("--analyses", "performance,attention,composition,norms,weights", "--images", "64")
FEW = 20  # runs to list
FILTER = ("--where", "model.n_layers=2", "--status", "finished", "--sort", "accuracy")
MANY = 1000
SERIAL = count()


def start(*words: str | Path) -> None:
    """Run a fresh interpreter to its end."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([sys.executable, *words], **quiet, check=True)


def train(folder: Path, *words: str) -> Path:
    """A run of 145 checkpoints or fewer, under a name of its own."""
    name = f"run-{next(SERIAL)}"
    start(*TOYVIT, "train", "induction-smoke", "--name", name, "--runs", folder, *words)
    return folder / name


def copy_runs(run: Path, folder: Path, n: int) -> Path:
    """A folder of n runs as one is, but for weights, states and the table: `ls` reads none."""
    ignored = shutil.ignore_patterns("*.safetensors", "*.pt", "*.sqlite", "events.*")
    for place in range(n):
        shutil.copytree(run, folder / f"run-{place:04}", ignore=ignored)
    return folder


def read_children_clock() -> float:
    """Seconds of CPU that ended child processes took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def results(repeats: int | None) -> Iterator[Result]:
    with TemporaryDirectory() as place:
        folder = Path(place)
        run = train(folder / "whole")
        start(*TOYVIT, "measure", run, *ANALYSES)
        few = copy_runs(run, folder / "few", FEW)
        many = copy_runs(run, folder / "many", MANY)

        light = {
            "bare python": partial(start, "-c", ""),
            "import toyvit": partial(start, "-c", "import toyvit"),
            "toyvit --help": partial(start, *TOYVIT, "--help"),
            "toyvit ls, 20 runs": partial(start, *TOYVIT, "ls", few),
            "toyvit ls, 1,000 runs": partial(start, *TOYVIT, "ls", many),
            "toyvit ls --where, 1,000 runs": partial(start, *TOYVIT, "ls", many, *FILTER),
        }
        times = interleave("starting", light, repeats or 21, clock=read_children_clock)
        yield from compare(times, LIGHT, "bare python")

        heavy = {
            "import torch": partial(start, "-c", "import torch"),
            "toyvit measure, nothing to do": partial(start, *TOYVIT, "measure", run, *ANALYSES),
            "toyvit train, to step 1": partial(train, folder / "short", "--train.steps", "1"),
        }
        times = interleave("starting", heavy, repeats or 7, clock=read_children_clock, warm=1)
        yield from compare(times, HEAVY, "import torch")


def compare(times: Times, bars: dict[str, int], peer: str) -> Iterator[Result]:
    """A line a command."""
    for name, bar in bars.items():
        yield Result(
            name=f"{name} (CPU time)",
            ours=times[name],
            peer=times[peer],
            peer_name=peer,
            bar=bar,
            barred="ours",
        )
