"""The live view under load: requests without an error, memory that stays, an intervention's time.

A process of its own serves an untrained run of the default recipe with its checkpoints.
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
