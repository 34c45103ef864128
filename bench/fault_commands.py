"""Commands that are killed, cut off from power, or two at once on one run.

Each is run in forks of this process. Afterwards the same command must finish, and the folder must
hold what it holds when nothing disturbs it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any, BinaryIO
from unittest import mock

from safetensors.torch import save_file
from torch import Tensor
from torch.utils._pytree import tree_flatten

from bench.fault_files import STEPS, Try
from bench.option_sets import run_words, start_words
from toyvit.config import ModelConfig
from toyvit.model import ViT
from toyvit.model.mappings.timm import convert_to_timm
from toyvit.runs.handle import Run
from toyvit.train.states import TrainingState, decode_state

SECONDS = 120.0
TRAIN = ("train", "induction-smoke", *STEPS, "--resume", "--name")
MEASURE = ("measure", "runs/run", "--images", "16", "--analyses")
KL = ("--metric", "kl", "--pairs", "16", "--null", "2")
QUICK = "performance,norms,attention"
# Every command that writes, by a name for the case.
WRITING: Mapping[str, tuple[str, ...]] = {
    "train": (*TRAIN, "new"),
    "train two": ("train", "induction-smoke", "digits", *STEPS, "--resume", "--runs", "runs/two"),
    "resume": (*TRAIN, "half"),
    "replay": ("replay", "runs/run", "--between", "5", "10"),
    "measure": (*MEASURE, QUICK),
    "measure --jobs 2": (*MEASURE, QUICK, "--jobs", "2"),
    "report": ("report", "runs/run"),
    "tensorboard": ("tensorboard", "runs"),
    "lens": ("lens", "runs/run", "--images", "8"),
    "circuit": ("circuit", "runs/run", "--method", "acdc", *KL),
    "data": ("data", "glyphs", "--export", "runs/out", "--samples", "50"),
    "sweep": (
        *("sweep", "induction-smoke", "--seeds", "0..1", "--images", "8", "--jobs", "1"),
        *("--analyses", "performance", *STEPS),
    ),
    "replicate": ("replicate", "rank-one", "--seeds", "0..1"),
    "export": ("export", "runs/run", "--to", "torch", "--into", "runs/out"),
    "import": ("import", "runs/net.safetensors", "--name", "net", "--model.n_heads", "2"),
}
# What works on one run at once: all pairs of these, each with itself as well.
AT_ONCE: Mapping[str, tuple[str, ...]] = {
    "resume": (*TRAIN, "run"),
    "measure": (*MEASURE, QUICK),
    "report": ("report", "runs/run"),
    "tensorboard": ("tensorboard", "runs"),
    "replay": ("replay", "runs/run", "--between", "5", "8"),
    "verify": ("verify", "runs/run"),
    "ls": ("ls", "runs"),
}
DRAWING = ("report", "tensorboard")
DRAWN = {"/figures/": {"report"}, "/tensorboard/": {"report", "tensorboard"}}
FINISH = ("resume", "replay", "measure", "report", "tensorboard")
# Times, the order of what was measured, and which of the filed states is the rolling one.
UNLIKE = (
    "lock",
    "sessions.jsonl",
    "requests.jsonl",
    "state.pt",
    "state.prev.pt",
    "sweep.csv",
    "sweep.json",
)
Contents = dict[str, Any]


@contextmanager
def warm() -> Iterator[None]:
    """Forks find everything imported, fork their own workers, and serve nothing."""
    import matplotlib.pyplot  # noqa: F401
    from joblib.externals.loky.backend import context

    import toyvit.replications
    import toyvit.report.tensorboard
    import toyvit.sweeping  # noqa: F401

    context.set_start_method("fork", force=True)
    try:
        with mock.patch("subprocess.call", return_value=0):  # `tensorboard`'s server
            yield
    finally:
        context.set_start_method(None, force=True)


def prepare_runs(place: Path) -> Path:
    """A folder with `runs/run`, finished and measured in part, and `runs/half`, stopped at 10."""
    place.mkdir(parents=True)
    must((*TRAIN, "run"), place)
    shutil.copytree(place / "runs/run", place / "runs/half")
    halve(place / "runs/half")
    must((*MEASURE, "performance"), place)
    write_weights(place / "runs/net.safetensors")
    return place


def write_weights(file: Path) -> None:
    """Weights from elsewhere: a small model under timm's names."""
    config = ModelConfig(
        n_heads=2,
        d_model=16,
        d_mlp=16,
        norm_epsilon=1e-6,
        image_size=(32, 32),
        patch_size=8,
        n_channels=3,
        n_classes=4,
    )
    save_file(convert_to_timm(ViT(config)), file)


def halve(run: Path) -> None:
    """The run as it was at step 10, when it was stopped."""
    folder = Run(run).folder
    folder.truncate(10)
    for path in (folder.state, folder.previous_state):
        shutil.copy(folder.states / "step_00000010.pt", path)


def must(words: Sequence[str], place: Path) -> None:
    """Run a command that finishes; RuntimeError where it does not."""
    outcome = run_words(words, place, SECONDS)
    if outcome.code:
        raise RuntimeError(f"{' '.join(words)}: {outcome.code}\n{outcome.text[-2000:]}")


@contextmanager
def fresh(place: Path) -> Iterator[Path]:
    """A copy of a folder, for one try."""
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        yield shutil.copytree(place, Path(folder, "place"))


def list_contents(place: Path) -> Contents:
    """What a folder of runs comes to: bytes of files, and of tables what is read from them."""
    contents: Contents = {}
    for path in filter(Path.is_file, sorted((place / "runs").rglob("*"))):
        name = str(path.relative_to(place))
        if path.name == "measures.sqlite":
            contents[name] = read_table(path)
        elif path.parent.name == "tensorboard" and path.name.startswith("events."):
            contents[str(path.parent.relative_to(place) / "events")] = read_curves(path.parent)
        elif "replications" in path.parts and path.suffix == ".json":
            contents[name] = json.loads(path.read_text())["numbers"]
        elif path.parent.name == "states":
            contents[name] = list_values(decode_state(path.read_bytes().partition(b"\n")[2]))
        elif path.name not in UNLIKE:
            contents[name] = path.read_bytes()
    return contents


def read_curves(folder: Path) -> object:
    """What TensorBoard shows of a run, and from how many files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    shown = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    curves = {
        tag: [(event.step, event.value) for event in shown.Scalars(tag)]
        for tag in shown.Tags()["scalars"]
    }
    return curves, shown.Tags()["images"], len(list(folder.glob("events.*")))


def list_values(state: TrainingState) -> list[object]:
    """All that a state says; how it was pickled is another thing after a resume."""
    leaves, layout = tree_flatten([state.step, state.model, state.optimizer])
    return [layout, *(leaf.tolist() if isinstance(leaf, Tensor) else leaf for leaf in leaves)]


def read_table(path: Path) -> object:
    """Rows and baselines, in no order."""
    run = Run(path.parent)
    rows = [repr(row.dropna().to_dict()) for _, row in run.table.drop(columns="run").iterrows()]
    return {*rows, *map(repr, run.baselines.items())}


def compare(expected: Contents, contents: Contents, skip: Sequence[str] = ()) -> str:
    """The first files that differ, or nothing; those below some folders are not looked at."""
    names = sorted(expected.keys() | contents.keys())
    names = [name for name in names if not any(folder in name for folder in skip)]
    other = [name for name in names if expected.get(name) != contents.get(name)]
    return f"differ: {', '.join(other[:4])}" if other else ""


def is_traceback(text: str) -> bool:
    return "Traceback" in text


def check_end(
    words: Sequence[str], place: Path, expected: Contents, skip: Sequence[str] = ()
) -> str:
    """The command again, every run verified, and the contents compared: what is wrong."""
    outcome = run_words(words, place, SECONDS)
    if outcome.code or is_traceback(outcome.text):
        return f"does not finish ({outcome.code}): {outcome.text[-300:]!r}"
    for config in sorted((place / "runs").rglob("config.json")):
        outcome = run_words(("verify", str(config.parent)), place, SECONDS)
        if outcome.code:
            return f"does not verify: {outcome.text[-300:]!r}"
    return compare(expected, list_contents(place), skip)


@dataclass
class Started:
    """A command in a fork, which prints into a file."""

    pid: int
    output: BinaryIO
    code: int | None = None

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        if self.code is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if ended else None
        return self.code

    def wait(self, seconds: float) -> int | None:
        """The exit code, None where there is none after so long."""
        end = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        return self.code

    def kill(self) -> None:
        """SIGKILL to it, and then to the workers that it left."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        if self.code is None:
            os.waitpid(self.pid, 0)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def read(self) -> str:
        """What it has printed."""
        self.output.seek(0)
        return self.output.read().decode(errors="replace")


@contextmanager
def running(words: Sequence[str], place: Path) -> Iterator[Started]:
    """A command at work; it is gone when the block ends."""
    with tempfile.TemporaryFile() as output:
        started = Started(start_words(words, place, output.fileno()), output)
        try:
            yield started
        finally:
            started.kill()


def try_kills(n: int, seed: int, place: Path) -> Iterator[Try]:
    """n commands, each in turn of all that write, killed at a random moment of its time."""
    rng = random.Random(seed)
    with warm():
        start = prepare_runs(place / "start")
        expected: dict[str, tuple[float, Contents]] = {}
        for number in range(n):
            case = list(WRITING)[number % len(WRITING)]
            if case not in expected:
                expected[case] = _run_undisturbed(WRITING[case], start)
            yield _kill_once(case, start, *expected[case], rng)


def _run_undisturbed(words: Sequence[str], start: Path) -> tuple[float, Contents]:
    """Seconds that a command takes, and what it leaves."""
    with fresh(start) as copy:
        begun = time.monotonic()
        must(words, copy)
        return time.monotonic() - begun, list_contents(copy)


def _kill_once(
    case: str, start: Path, seconds: float, expected: Contents, rng: random.Random
) -> Try:
    """A kill that comes too late is tried again, sooner."""
    words = WRITING[case]
    while True:
        after = rng.uniform(0, seconds)
        with fresh(start) as copy:
            with running(words, copy) as process:
                if process.wait(after) is not None:
                    seconds *= 0.9
                    continue
            # What follows a training shows more of a longer one, and nothing of the shortest.
            skip = [] if case in DRAWING else ["/tensorboard/"]
            return Try(f"{case} killed after {after:.2f} s", check_end(words, copy, expected, skip))


def try_pairs(n: int, seed: int, place: Path) -> Iterator[Try]:
    """The first n pairs of commands at work on one run at once."""
    rng = random.Random(seed)
    with warm():
        start = prepare_runs(place / "start")
        shutil.rmtree(start / "runs/half")
        with fresh(start) as copy:
            for name in FINISH:
                must(AT_ONCE[name], copy)
            expected = list_contents(copy)
        halve(start / "runs/run")
        pairs = sorted(
            combinations_with_replacement(AT_ONCE, 2), key=lambda pair: pair[0] == pair[1]
        )
        for pair in pairs[:n]:
            yield _run_at_once(pair, start, expected, rng)


def _run_at_once(pair: tuple[str, str], start: Path, expected: Contents, rng: random.Random) -> Try:
    """Two commands at once: then all is finished, and nothing but what belongs there differs."""
    names = rng.sample(pair, 2)
    first, second = (AT_ONCE[name] for name in names)
    what = " and ".join(names)
    with fresh(start) as copy:
        with running(first, copy) as one:
            one.wait(rng.uniform(0, 0.3))
            with running(second, copy) as other:
                processes = (one, other)
                codes = [process.wait(SECONDS) for process in processes]
                texts = [process.read() for process in processes]
        if not {0, 2}.issuperset(codes) or any(map(is_traceback, texts)):
            return Try(what, f"codes {codes}: {texts!r:.2000}")

        for name in [name for name in FINISH if name in pair or name not in DRAWING]:
            outcome = run_words(AT_ONCE[name], copy, SECONDS)
            if outcome.code:
                return Try(what, f"{name} does not finish: {outcome.text[-300:]!r}")
        undrawn = [folder for folder, names in DRAWN.items() if not names.intersection(pair)]
        return Try(what, check_end(AT_ONCE["ls"], copy, expected, undrawn))
