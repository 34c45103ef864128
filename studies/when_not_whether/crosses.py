"""The crosses: every first weights on every data stream, each run's half-way step in a record."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from tqdm import tqdm

from studies.when_not_whether.half_way import Subject, find_half_way
from toyvit.config.foreign_files import read_object
from toyvit.config.whole_files import write_atomically

CHUNK = 8  # runs between two records


@dataclass(frozen=True)
class Table:
    """Half-way steps (weights stream); infinite where a run was not half-way up in time."""

    recipe: str
    inits: list[int]
    streams: list[int]
    steps: NDArray[np.float64]

    @property
    def n_censored(self) -> int:
        return int(np.isinf(self.steps).sum())

    def take_logs(self, last: int) -> NDArray[np.float64]:
        """Natural logarithms; a censored run counts as half-way up at its last step."""
        return np.log(np.minimum(self.steps, last))


def train_cross(
    subject: Subject, inits: Sequence[int], streams: Sequence[int], file: Path, jobs: int = 1
) -> Table:
    """Train what the record in a file does not have yet, and return the whole table."""
    known = read_steps(file)
    work = [(init, stream) for init in inits for stream in streams if (init, stream) not in known]
    bar = tqdm(total=len(work), desc=f"{subject.recipe}", unit="run", disable=None)
    for start in range(0, len(work), CHUNK * jobs):
        part = work[start : start + CHUNK * jobs]
        known |= dict(zip(part, _train_all(subject, part, jobs), strict=True))
        write_steps(file, subject, known)
        bar.update(len(part))
    bar.close()
    steps = [[known[init, stream] for stream in streams] for init in inits]
    return Table(subject.recipe, list(inits), list(streams), np.array(steps))


def _train_all(subject: Subject, pairs: Sequence[tuple[int, int]], jobs: int) -> Iterator[float]:
    runs = (
        delayed(find_half_way)(subject.build_config(init, stream), subject.level)
        for init, stream in pairs
    )
    return iter(Parallel(n_jobs=jobs, inner_max_num_threads=1)(runs))


def read_steps(file: Path) -> dict[tuple[int, int], float]:
    """Half-way steps by the seeds of weights and stream; null stands for never."""
    if not file.exists():
        return {}
    rows = read_object(file)["runs"]
    return {(init, stream): math.inf if step is None else step for init, stream, step in rows}


def write_steps(file: Path, subject: Subject, known: dict[tuple[int, int], float]) -> None:
    """The record of a cross: a row a run."""
    rows = [
        [init, stream, None if math.isinf(step) else round(step, 2)]
        for (init, stream), step in sorted(known.items())
    ]
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    head = {"recipe": subject.recipe, "level": subject.level}
    text = (
        json.dumps(head)[:-1]
        + f',\n "columns": ["init", "data", "half-way step"],\n "runs": [\n{lines}\n]}}\n'
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, text.encode())
