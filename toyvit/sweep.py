"""Many runs of one recipe, seeds and settings: trained, measured, and gathered into one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from toyvit.analyses import chosen
from toyvit.config import Run, differences, rate_changes
from toyvit.data.tasks import resolve, task
from toyvit.errors import BadInput, Diverged
from toyvit.measure import measure
from toyvit.model import ViT
from toyvit.results import baselines, main_rows, table
from toyvit.runs import RunFolder, write_atomically
from toyvit.train import fit
from toyvit.train.clamps import check as check_clamps
from toyvit.train.snapshots import schedule
from toyvit.transitions import found

SEEDS = ("seeds.init", "seeds.data")  # fields in which the runs of one setting differ
TABLE = "sweep.csv"
Work = tuple[str, Run, Mapping[str, Any]]  # path, run, options of `measure`


def sweep(
    plan: Mapping[Path, Run],
    folder: Path,
    *,
    jobs: int = 1,
    cluster: str | None = None,
    progress: bool = True,
    **measuring: Any,
) -> pd.DataFrame:
    """Train and measure every run of a plan, and write what they came to into `folder/sweep.csv`; see `gathered`.

    Runs go to `jobs` processes, or to the workers of a Dask cluster that see the same files. A run that is finished is not
    trained or measured again, one that was stopped goes on; so a sweep that was killed goes on when it is called again.
    A run that diverges is noted and the others go on. `measuring` are options of `measure`; performance is always measured.
    Settings that cannot be are refused before anything is trained.
    """
    if measuring.get("analyses") is not None:
        measuring["analyses"] = list(dict.fromkeys(["performance", *measuring["analyses"]]))
    check(plan, **measuring)
    work: list[Work] = [(str(path), run, measuring) for path, run in plan.items()]
    finished = _on_cluster(cluster, work) if cluster else _here(jobs, work)
    for _ in tqdm(finished, total=len(work), desc=f"sweep {folder.name}", unit="run", disable=not progress):
        pass
    frame = gathered(list(plan))
    write_atomically(folder / TABLE, frame.to_csv(index=False).encode())
    return frame


def check(plan: Mapping[Path, Run], *, analyses: list[str] | None = None, images: int = 512, split: str = "test") -> None:
    """BadInput for several recipes, a run that cannot be, a folder with another config, or an analysis that is not allowed."""
    alike(plan)
    if images < 2:
        raise BadInput(f"--images must be at least 2, got {images}")
    seen = set()
    for path, given in plan.items():
        run, folder = resolve(given), RunFolder(path)
        schedule(run.train)
        check_clamps(run)
        if folder.config_file.exists():
            folder.check_same(run)
        if (run.task, run.model) not in seen:
            seen.add((run.task, run.model))
            chosen(analyses, task(run.task).frozen(run.seeds.measure, split, images), ViT(run.model))


def alike(plan: Mapping[Path, Run]) -> None:
    """BadInput unless all runs are of one recipe."""
    recipes = sorted({run.recipe for run in plan.values()})
    if len(recipes) > 1:
        raise BadInput(f"runs of different recipes are not gathered into one table: {', '.join(recipes)}")


def one(path: str, run: Run, measuring: Mapping[str, Any]) -> str:
    """Train and measure one run, going on where it was."""
    try:
        fit(run, path, resume=True, progress=False)
    except Diverged:
        return path
    measure(path, progress=False, **measuring)
    return path


def _here(jobs: int, work: list[Work]) -> Iterator[str]:
    n = min(jobs, len(work))
    if n <= 1:
        return (one(*arguments) for arguments in work)
    parallel = Parallel(n_jobs=n, return_as="generator_unordered", inner_max_num_threads=1, batch_size=1)
    return iter(parallel(delayed(one)(*arguments) for arguments in work))


def _on_cluster(address: str, work: list[Work]) -> Iterator[str]:
    """Futures of a Dask cluster as they finish; what a lost worker had is done again by another, from where it was."""
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise BadInput("--cluster needs Dask: pip install 'toyvit[cluster]'") from None
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise BadInput(f"no Dask cluster answers at {address}: {str(error).splitlines()[0]}") from None

    def finished() -> Iterator[str]:
        with client:
            futures = [client.submit(one, path, run, measuring, pure=False, retries=2) for path, run, measuring in work]
            yield from (future.result() for future in as_completed(futures))

    return finished()


def gathered(paths: list[Path]) -> pd.DataFrame:
    """One row a run: its seed, the fields in which the runs differ, its status, and what its accuracy came to.

    Columns: run, seed, the fields that differ, status, accuracy and loss (last step, test), and, where the detector
    finds a transition in the accuracy, onset, end and width; they are missing where it finds none, where it may not judge, and
    where the change comes as the learning rate changes. Where the task has naive predictors, half_loss is the first checkpoint
    with at most half of the loss of the best of them.
    """
    runs = {path: RunFolder(path).existing().run() for path in paths}
    alike(runs)
    first = next(iter(runs.values()))
    varied = sorted({line.split(":")[0] for run in runs.values() for line in differences(first, run)} - set(SEEDS))
    return pd.DataFrame([_row(path, run, varied) for path, run in runs.items()])


def _row(path: Path, run: Run, varied: list[str]) -> dict[str, Any]:
    fields = {name: _field(run, name) for name in varied}
    row = {"run": path.name, "seed": run.seeds.init, **fields, "status": RunFolder(path).status()}
    if row["status"] != "finished":
        return row
    frame = main_rows(table(path))
    for name in ("accuracy", "loss"):
        values = frame[(frame["analysis"] == "performance") & (frame["quantity"] == name)].set_index("step")["value"]
        if not len(values):
            continue
        row[name] = values.iloc[-1]
        if name == "accuracy" and (change := found(values, rate_changes(run.train))):
            row |= {"onset": change.onset, "end": change.end, "width": change.width}
        if name == "loss" and (level := half_naive(baselines(path))) is not None:
            row["half_loss"] = first_at_most(values, level)
    return row


def half_naive(naive: Mapping[str, float]) -> float | None:
    """Half of the smallest loss of a naive predictor, nats; None where there is none."""
    losses = [value for name, value in naive.items() if name.startswith("loss.")]
    return min(losses) / 2 if losses else None


def first_at_most(values: pd.Series, level: float) -> int | None:
    """The first step at which a curve over steps is at or below a level; None where it never is."""
    below = values.index[values <= level]
    return int(below[0]) if len(below) else None


def _field(run: Run, name: str) -> Any:
    value: Any = run.to_json()
    for part in name.split("."):
        value = value[part]
    return value
