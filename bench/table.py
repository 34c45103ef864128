"""The table of measures: bytes a row of its frame, and one quantity of 100 long runs, drawn.

The runs are of the default recipe's shape and have its 167 checkpoints, all of one drawn model: its
numbers are measured once. They are read in fresh interpreters, whose peak memory is theirs alone.
"""

from __future__ import annotations

import json
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from bench.timing import Result

RUNS = 100
IMAGES = 32
BYTES, SECONDS, MEMORY = 80, 3, 1024  # a row; CPU time; MiB
QUERY = """
select step, value from cells join numbers on cells.id = cell join places on places.id = place
where analysis = 'performance' and quantity = 'loss'
"""


def build_run(path: Path, most: int | None = None) -> None:
    """A run of the default recipe's checkpoints, or the first of them, with all quick analyses."""
    from toyvit.analyses import select_analyses
    from toyvit.analyses.registry import name_version
    from toyvit.config import plan_checkpoints
    from toyvit.data.task import resolve_config
    from toyvit.measuring import evaluation_id, run_analyses
    from toyvit.model import ViT
    from toyvit.recipes import RECIPES
    from toyvit.runs.cells import Cell
    from toyvit.runs.folder import RunFolder
    from toyvit.runs.handle import Run
    from toyvit.runs.table_writer import MeasureTable

    config = resolve_config(RECIPES["induction"]())
    model = ViT(config.model, seed=0)
    folder = RunFolder(path)
    folder.create(config)
    scores = {"loss": 3.0, "accuracy": 0.1}
    for step in plan_checkpoints(config.train)[:most]:
        folder.write_checkpoint(step, step * config.train.batch_size, model.state_dict(), scores)

    run = Run(folder)
    batch = run.batch("test", IMAGES)
    analyses = select_analyses(None, batch, model)
    rows = run_analyses(model, batch, analyses)
    evaluation = evaluation_id(config, "test", batch)
    with MeasureTable(folder) as table:
        table.write_baselines(evaluation, run.task.baselines(batch))
        for step, entry in run.entries.items():
            cells = []
            for analysis in analyses:
                version = name_version(analysis)
                cell = Cell(step, entry.sha256, analysis.name, version, evaluation)
                cells.append((cell, rows[analysis.name]))
            table.write_all(cells, "test", IMAGES)


def copy_runs(first: Path, n: int) -> None:
    """Runs beside the first with its config and its table: checkpoints are not read here."""
    for place in range(1, n):
        other = first.with_name(f"seed-{place}")
        shutil.copytree(first, other, ignore=shutil.ignore_patterns("*.safetensors"))


def draw_runs(runs: list[Path]) -> None:
    """Read one quantity of every run, and draw it into a file beside them."""
    from toyvit.report.matplotlib_renderer import save_figure
    from toyvit.report.sweeps import draw_sweep_losses, open_settings

    save_figure(draw_sweep_losses(open_settings(runs)), runs[0].with_name("loss.png"))


def query_runs(runs: list[Path]) -> None:
    """The same numbers by SQL alone: nothing is compared with its digest, nothing is drawn."""
    for path in runs:
        with closing(sqlite3.connect(path / "measures.sqlite")) as db:
            db.execute(QUERY).fetchall()


def do_nothing(runs: list[Path]) -> None:
    """Only what was imported before counts."""


JOBS = {"drawn": draw_runs, "sqlite3": query_runs, "imports": do_nothing}


def run_job(name: str, folder: Path) -> tuple[float, float]:
    """CPU milliseconds of a job in a fresh interpreter, imports apart, and its peak in MiB."""
    # By a shell, since Linux counts the memory of who starts a process as its own.
    words = [sys.executable, "-m", "bench.table", name, str(folder)]
    shell = ["sh", "-c", '"$@"; exit $?', "sh", *words]
    printed = subprocess.run(shell, stdout=subprocess.PIPE, text=True, check=True).stdout
    milliseconds, peak = json.loads(printed)
    return milliseconds, peak


def time_job(name: str, folder: Path) -> tuple[float, float]:
    """What `run_job` gives, in the interpreter that it starts: one run is drawn first."""
    import torch

    torch.set_num_threads(1)
    runs = sorted(folder.glob("seed-*"))
    draw_runs(runs[:1])

    start = time.process_time()
    JOBS[name](runs)
    milliseconds = 1e3 * (time.process_time() - start)
    return milliseconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def weigh_row(path: Path) -> Result:
    """Bytes a row of a run's frame, beside the same frame with texts and 64-bit numbers."""
    from toyvit.runs.handle import load_table

    frame = load_table(path)
    plain = frame.copy()
    for name, kind in frame.dtypes.items():
        wide = {"category": "object", "Int16": "Int64", "Int32": "Int64", "int32": "int64"}
        plain[name] = frame[name].astype(wide.get(str(kind), kind))
    sizes = [float(part.memory_usage(deep=True).sum() / len(part)) for part in (frame, plain)]
    return Result(
        name=f"frame of {len(frame):,} measures, bytes a row",
        ours=[sizes[0]] * 2,
        peer=[sizes[1]] * 2,
        peer_name="texts",
        bar=BYTES,
        barred="ours",
        unit="bytes",
    )


def results(repeats: int | None) -> Iterator[Result]:
    with tempfile.TemporaryDirectory() as name:
        first = Path(name, "runs", "seed-0")
        build_run(first)
        yield weigh_row(first)
        copy_runs(first, RUNS)
        measured: dict[str, list[tuple[float, float]]] = {job: [] for job in JOBS}
        for _ in range(repeats or 3):
            for job, of_job in measured.items():
                of_job.append(run_job(job, first.parent))

    times = {job: [time for time, _ in of_job] for job, of_job in measured.items()}
    peaks = {job: [peak for _, peak in of_job] for job, of_job in measured.items()}
    what = f"one quantity of {RUNS} runs of 167 checkpoints, read and drawn"
    yield Result(
        name=f"{what} (CPU time, imports apart)",
        ours=times["drawn"],
        peer=times["sqlite3"],
        peer_name="sqlite3 alone, unchecked",
        bar=1e3 * SECONDS,
        barred="ours",
    )
    yield Result(
        name=f"{what}, peak memory",
        ours=peaks["drawn"],
        peer=peaks["imports"],
        peer_name="imports alone",
        bar=MEMORY,
        barred="ours",
        unit="MiB",
    )


if __name__ == "__main__":
    print(json.dumps(time_job(sys.argv[1], Path(sys.argv[2]))))
