"""The live view under load: requests without an error, memory that stays, an intervention's time,
and the first visit to a folder of 1,000 runs.

A process of its own serves an untrained run of the default recipe with its checkpoints, and another
copies of it that have no weights.
"""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from bench.starting import copy_runs
from bench.timing import Result
from toyvit.config import plan_checkpoints
from toyvit.data.task import resolve_config
from toyvit.model import ViT
from toyvit.recipes import RECIPES
from toyvit.runs.folder import RunFolder

REQUESTS = 2_000
AT_ONCE = 8
FIRST = 200  # requests after which memory is to stay
GROWTH_BAR = 1.05
LOOK_BAR = 300.0  # milliseconds
TABLE_BAR = 2_000.0  # milliseconds
RUNS = 1_000
LISTED = "columns=recipe,status,step,steps,accuracy"
FILTERED = f"{LISTED}&where=model.n_layers=2&status=stopped&sort=accuracy"
PICTURES = 200


def make_run(path: Path) -> list[int]:
    """A run of the default recipe that was never trained; its steps."""
    config = resolve_config(RECIPES["induction"]())
    folder = RunFolder(path)
    folder.create(config)
    steps = plan_checkpoints(config.train)
    for place, step in enumerate(steps):
        weights = ViT(config.model, seed=place).state_dict()
        folder.write_checkpoint(step, 0, weights, {"loss": 1.0, "accuracy": 0.25})
    return list(steps)


@contextmanager
def serve(path: Path) -> Iterator[tuple[int, str]]:
    """A process that serves a run: its number and its address."""
    words = [sys.executable, "-m", "toyvit", "view", str(path)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(words, text=True, **streams)
    assert process.stdout is not None
    address = re.search(r"http\S+", process.stdout.readline())
    assert address is not None
    yield process.pid, address[0]
    process.send_signal(signal.SIGINT)
    process.wait(10)


def ask(address: str, question: dict[str, object] | None) -> tuple[int, float]:
    """The status of an answer to a question, or to whether there is news, and milliseconds."""
    parts = urlsplit(address)
    connection = HTTPConnection(parts.netloc, timeout=60)
    headers = {"X-ToyViT-Token": parts.query.removeprefix("token=")}
    begun = time.perf_counter()
    if question is None:
        connection.request("GET", "/api/news", headers=headers)
    else:
        connection.request("POST", "/api/look", json.dumps(question), headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, 1e3 * (time.perf_counter() - begun)


def visit(address: str) -> tuple[float, float]:
    """Milliseconds until the table of runs and its rows are there, and until rows are filtered."""
    parts = urlsplit(address)
    connection = HTTPConnection(parts.netloc, timeout=60)
    headers = {"X-ToyViT-Token": parts.query.removeprefix("token=")}

    def get(path: str) -> bytes:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().read()

    begun = time.perf_counter()
    get(f"{parts.path}?{parts.query}")
    rows = json.loads(get(f"/api/runs?{LISTED}"))["rows"]
    listed = time.perf_counter()
    chosen = json.loads(get(f"/api/runs?{FILTERED}"))["rows"]
    connection.close()
    assert len(rows) == len(chosen) == RUNS
    return 1e3 * (listed - begun), 1e3 * (time.perf_counter() - listed)


def time_table(rounds: int) -> Iterator[Result]:
    """The first visit to 1,000 runs, right after the start, and a filter of them."""
    first = []
    filtered = []
    with tempfile.TemporaryDirectory() as place:
        make_run(Path(place) / "whole")
        many = copy_runs(Path(place) / "whole", Path(place) / "many", RUNS)
        for _ in range(rounds):
            with serve(many) as (_, address):
                listed, chosen = visit(address)
            first.append(listed)
            filtered.append(chosen)
    yield Result(
        name=f"{RUNS:,} runs, first visit, over HTTP",
        ours=first,
        peer=filtered,
        peer_name="filtering them",
        bar=TABLE_BAR,
        barred="median",
    )


def draw_question(steps: list[int], rng: random.Random) -> dict[str, object]:
    """Any picture at any checkpoint with a head ablated, an edge forbidden and a block patched."""
    patch = {"picture": rng.randrange(PICTURES), "blocks": [rng.randrange(2)]}
    return {
        "run": 0,
        "step": rng.choice(steps),
        "picture": rng.randrange(PICTURES),
        "ablation": rng.choice(["zero", "mean"]),
        "heads": [[rng.randrange(2), 0]],
        "edges": [[1, 0, 24, rng.randrange(24)]],
        **({"patch": patch} if rng.random() < 0.5 else {}),
    }


def read_memory(pid: int) -> float:
    """Megabytes of a process that lie in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1e3


def results(repeats: int | None) -> Iterator[Result]:
    yield from time_table(min(repeats or 5, 5))
    rng = random.Random(0)
    rounds = repeats or 100
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "run"
        steps = make_run(path)
        with serve(path) as (pid, address), ThreadPoolExecutor(AT_ONCE) as pool:
            call = partial(ask, address)
            questions = [draw_question(steps, rng) for _ in range(REQUESTS)]
            statuses = [status for status, _ in pool.map(call, questions[:FIRST])]
            before = read_memory(pid)
            statuses += [status for status, _ in pool.map(call, questions[FIRST:])]
            after = read_memory(pid)
            looks = [call(draw_question(steps, rng))[1] for _ in range(rounds)]
            news = [call(None)[1] for _ in range(rounds)]

    n_errors = float(sum(status != 200 for status in statuses))
    yield Result(
        name="an intervention, default recipe, over HTTP",
        ours=looks,
        peer=news,
        peer_name="news",
        bar=LOOK_BAR,
        barred="median",
    )
    yield Result(
        name=f"{REQUESTS:,} interventions, {AT_ONCE} at once: not answered",
        ours=[n_errors] * 2,
        peer=[float(REQUESTS)] * 2,
        peer_name="asked",
        bar=0,
        barred="median",
        unit="errors",
    )
    yield Result(
        name="memory of the server after them",
        ours=[after] * 2,
        peer=[before] * 2,
        peer_name=f"after {FIRST}",
        bar=GROWTH_BAR,
    )
