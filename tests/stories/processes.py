"""The command line as other processes see it: started, watched, stopped and killed."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.stories.warm import Warm
from toyvit.config.overrides import apply_overrides
from toyvit.recipes import RECIPES
from toyvit.train import fit

SMALL = ["--train.batch_size", "8", "--train.n_validation", "16"]


def toyvit(*words: object) -> Warm:
    """A `toyvit` process whose output is kept."""
    return Warm(*map(str, words))


def train(
    path: Path, *words: object, recipe: str = "induction-smoke", followed: bool = False
) -> Warm:
    """A training process of a small run in the folder `path`.

    One that is followed starts an interpreter for TensorBoard, which takes seconds.
    """
    place = ["--runs", path.parent, "--name", path.name]
    following = () if followed else ("--unfollowed",)
    return toyvit("train", recipe, *place, *SMALL, *words, "--resume", *following)


def train_here(path: Path, *words: object, recipe: str = "induction-smoke") -> Path:
    """The same run, trained in this process and left alone."""
    config = apply_overrides(RECIPES[recipe](), [*SMALL, *map(str, words)])
    return fit(config, path, progress=False).path


def n_lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def wait_for(
    ready: Callable[[], bool], process: Warm | subprocess.Popen[bytes], seconds: float = 120
) -> None:
    """Until `ready()`, or the process has ended."""
    end = time.monotonic() + seconds
    while not ready() and process.poll() is None:
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def kill(process: Warm) -> None:
    """SIGKILL to it alone; when it is gone, to the workers that it left behind."""
    process.kill()
    process.wait()
    process.close()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def finish(process: Warm, seconds: float = 300) -> tuple[int, str]:
    """Exit code and standard error, its progress bars left out."""
    _, error = process.communicate(timeout=seconds)
    lines = error.replace("\r", "\n").split("\n")
    saved = [line for line in lines if line and "%|" not in line and "step/s" not in line]
    return process.returncode, "\n".join(saved)


def contents(folder: Path, *patterns: str) -> dict[str, bytes]:
    """Every file that fits a pattern, by its path inside the folder."""
    files: dict[str, bytes] = {}
    for pattern in patterns or ("**/*",):
        for file in filter(Path.is_file, folder.glob(pattern)):
            files[str(file.relative_to(folder))] = file.read_bytes()
    return files
