"""Runs of tests in copies of the tree, each in a fork that has the heavy libraries imported.

Most of what a short run of tests costs is importing torch and pytest's plugins.
"""

from __future__ import annotations

import gc
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import NamedTuple

import pytest

from bench.mutants import Mutation

PACKAGE = "toyvit"
KILLED = "killed"
TIMED_OUT = "timed out"
SURVIVED = "survived"
NO_TESTS = 5  # pytest's exit code where a marker leaves none

# Imported before the forks, with these parts, where the tree names them. Not pytorch_lightning: the
# package sees to how torchvision is imported before it.
PRELOADED = {
    "beartype": ("beartype.door", "beartype.claw"),
    "einops": (),
    "hypothesis": ("hypothesis.extra.numpy",),
    "jaxtyping": (),
    "joblib": (),
    "matplotlib": ("matplotlib.figure",),
    "numpy": (),
    "pandas": (),
    "safetensors": ("safetensors.torch",),
    "scipy": ("scipy.optimize", "scipy.stats"),
    "sklearn": ("sklearn.linear_model",),
    "torch": ("torch.fx.experimental.symbolic_shapes", "torch._dynamo"),
}


class Failure(Exception):
    """What a user has to know, in one line."""


@dataclass(frozen=True)
class Trial:
    """Tests to run in a copy of the tree, with a fault or without one."""

    tests: tuple[str, ...]
    marker: str
    seconds: float
    mutation: Mutation | None = None


class Ending(NamedTuple):
    """How a trial ended: pytest's exit code, None where it was stopped; what it wrote."""

    code: int | None
    seconds: float
    output: str

    @property
    def outcome(self) -> str:
        if self.code is None:
            return TIMED_OUT
        return SURVIVED if self.code in (0, NO_TESTS) else KILLED

    @property
    def killer(self) -> str:
        """The test that failed, as pytest names it in its last lines."""
        names = re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", self.output, flags=re.MULTILINE)
        return names[-1] if names else ""


def list_files(root: Path) -> list[str]:
    """Files of the working tree that git tracks or would track."""
    words = ["git", "-C", str(root), "ls-files", "-z", "-co", "--exclude-standard"]
    listing = subprocess.run(words, capture_output=True, text=True, check=False)
    if listing.returncode:
        raise Failure(f"--root must be a git checkout, got {str(root)!r}")
    return [name for name in listing.stdout.split("\0") if name and (root / name).is_file()]


def copy_tree(root: Path, folder: Path) -> None:
    for name in list_files(root):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, folder / name)


def preload(root: Path) -> None:
    """Import pytest's plugins, and the heavy libraries that some file of the tree names."""
    os.environ["OMP_NUM_THREADS"] = "1"  # read when torch is imported; a fork keeps no threads
    names = [name for name in list_files(root) if name.endswith(".py")]
    text = "\n".join((root / name).read_text() for name in names if not name.startswith("bench/"))

    for library, parts in PRELOADED.items():
        if re.search(rf"\b{library}\b", text):
            for module in (library, *parts):
                with suppress(ImportError):
                    importlib.import_module(module)

    if not os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD"):
        for plugin in entry_points(group="pytest11"):
            importlib.import_module(plugin.module)
    gc.freeze()  # a fork need not walk, and so copy, what was here before it


def plant(mutation: Mutation, folder: Path) -> None:
    """Write the fault into a copy; what was compiled of the file is no longer true."""
    path = folder / mutation.path
    path.write_text(mutation.apply(path.read_text()))
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()


def start_tests(trial: Trial, folder: Path, log: Path) -> int:
    """Fork; the child runs the trial's tests in the folder, in a session of its own."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid

    code = 3
    try:
        become_tester(folder, log)
        words = ["-x", "-q", "-p", "no:cacheprovider", "-m", trial.marker, *trial.tests]
        # Plugins are imported already, so pytest cannot rewrite their assertions, and says so.
        code = int(pytest.main(["-W", "ignore::pytest.PytestAssertRewriteWarning", *words]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def become_tester(folder: Path, log: Path) -> None:
    """A process that knows the copy and nothing of the tree that this one was started in."""
    os.setsid()
    for descriptor, place, flags in ((0, os.devnull, os.O_RDONLY), (1, log, os.O_WRONLY)):
        opened = os.open(place, flags | (os.O_CREAT if flags else 0))
        os.dup2(opened, descriptor)
        os.close(opened)
    os.dup2(1, 2)

    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)
    here = Path(__file__).parents[1]
    sys.path[:] = [str(folder), *(part for part in sys.path if part and Path(part) != here)]
    sys.argv[:] = ["pytest"]
    for name in list(sys.modules):
        if name.partition(".")[0] in (PACKAGE, "bench", "tests"):
            del sys.modules[name]
    importlib.invalidate_caches()


@dataclass
class Running:
    """A trial under way."""

    trial: Trial
    folder: Path
    log: Path
    start: float

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.start


class Pool:
    """Runs trials, some side by side, each fault in a fresh copy of the pristine tree.

    The copies take over what is compiled in the pristine tree, where trials without a fault run.
    """

    def __init__(self, pristine: Path, jobs: int) -> None:
        self.pristine = pristine
        self.jobs = jobs
        self.running: dict[int, Running] = {}

    def run(self, trials: Sequence[Trial]) -> Iterator[tuple[Trial, Ending]]:
        """Every trial with its ending, as they end."""
        waiting = list(reversed(trials))
        try:
            while waiting or self.running:
                while waiting and len(self.running) < self.jobs:
                    self.start(waiting.pop())
                yield from self.collect()
                time.sleep(0.02)
        finally:
            for pid in list(self.running):
                self.stop(pid)

    def start(self, trial: Trial) -> None:
        folder = self.pristine
        if trial.mutation is not None:
            folder = Path(tempfile.mkdtemp(prefix="fault-", dir=self.pristine.parent))
            shutil.copytree(self.pristine, folder, dirs_exist_ok=True)
            plant(trial.mutation, folder)

        descriptor, log = tempfile.mkstemp(suffix=".log", dir=self.pristine.parent)
        os.close(descriptor)
        pid = start_tests(trial, folder, Path(log))
        self.running[pid] = Running(trial, folder, Path(log), time.monotonic())

    def collect(self) -> Iterator[tuple[Trial, Ending]]:
        """The trials that have ended by themselves, or whose time is over."""
        for pid, running in list(self.running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            late = running.seconds > running.trial.seconds
            if not ended and not late:
                continue

            code = os.waitstatus_to_exitcode(status) if ended else None
            seconds = running.seconds
            output = running.log.read_text(errors="replace")
            self.stop(pid, reaped=bool(ended))
            yield running.trial, Ending(code, seconds, output)

    def stop(self, pid: int, reaped: bool = False) -> None:
        """End a trial and what it has started, and remove its copy."""
        running = self.running.pop(pid)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        if not reaped:
            os.waitpid(pid, 0)

        running.log.unlink(missing_ok=True)
        if running.trial.mutation is not None:
            shutil.rmtree(running.folder, ignore_errors=True)
