"""Writing one checkpoint and its line in the manifest, against writing the same bytes to a file."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

from bench.timing import Result, interleave
from bench.training import CASES, CLASSES
from toyvit.config import ModelConfig
from toyvit.model import ViT
from toyvit.runs.folder import RunFolder
from toyvit.runs.manifest import name_checkpoint

BAR = 2.0  # milliseconds on the clock
MODELS = {name: replace(CASES[name][0], n_channels=1, n_classes=CLASSES) for name in CASES}


def time_writing(name: str, config: ModelConfig, place: Path, rounds: int) -> Result:
    folder = RunFolder(place)
    folder.checkpoints.mkdir(parents=True)
    steps = count()
    files = count()
    weights = ViT(config).state_dict()
    scores = {"loss": 1.0, "accuracy": 0.5}
    folder.write_checkpoint(next(steps), 0, weights, scores)
    content = (folder.checkpoints / name_checkpoint(0)).read_bytes()
    jobs = {
        "ours": lambda: folder.write_checkpoint(next(steps), 0, weights, scores),
        "file": lambda: (place / str(next(files))).write_bytes(content),
    }
    times = interleave(f"checkpoint {name}", jobs, rounds, clock=time.perf_counter, warm=5)
    return Result(
        name=f"checkpoint {name.rsplit(' ', 2)[0]}, {len(content) / 1e3:.0f} kB",
        ours=times["ours"],
        peer=times["file"],
        peer_name="bare write",
        bar=BAR,
        barred="ours",
    )


def results(repeats: int | None) -> Iterator[Result]:
    for name, config in MODELS.items():
        with tempfile.TemporaryDirectory() as place:
            yield time_writing(name, config, Path(place) / "run", repeats or 101)
