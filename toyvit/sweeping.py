"""Many runs of one recipe, seeds and settings: trained, measured, and gathered into one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed
from tqdm import tqdm

from toyvit.analyses import select_analyses
from toyvit.clamps.weights import check_clamps
from toyvit.config import RunConfig, find_rate_changes, list_differences
from toyvit.data.task import build_task, resolve_config
from toyvit.dynamics.transitions import detect_in_curve
from toyvit.errors import BadInput, Diverged
from toyvit.measuring import measure
from toyvit.model import ViT
from toyvit.runs.folder import RunFolder, write_atomically
from toyvit.runs.handle import load_baselines, load_table
from toyvit.runs.table import select_main_rows
from toyvit.train import fit
from toyvit.train.snapshots import plan_checkpoints

SEEDS = ("seeds.init", "seeds.data")  # fields in which the runs of one setting differ
TABLE = "sweep.csv"
Work = tuple[str, RunConfig, Mapping[str, Any]]  # path, run, options of `measure`


def run_sweep(
    plan: Mapping[Path, RunConfig],
    folder: Path,
    *,
    jobs: int = 1,
    cluster: str | None = None,
    progress: bool = True,
    **measuring: Any,
) -> pd.DataFrame:
    """Train and measure every run of a plan, and write what they came to into `folder/sweep.csv`; see `gather_table`.

    Runs go to `jobs` processes, or to the workers of a Dask cluster that see the same files. A run that is finished is not
    trained or measured again, one that was stopped goes on; so a sweep that was killed goes on when it is called again.
    A run that diverges is noted and the others go on. `measuring` are options of `measure`; performance is always measured.
    Settings that cannot be are refused before anything is trained.
    """
    if measuring.get("analyses") is not None:
        measuring["analyses"] = list(dict.fromkeys(["performance", *measuring["analyses"]]))
    check_plan(plan, **measuring)
    work: list[Work] = [(str(path), run, measuring) for path, run in plan.items()]
    finished = _on_cluster(cluster, work) if cluster else _here(jobs, work)
    for _ in tqdm(
        finished, total=len(work), desc=f"sweep {folder.name}", unit="run", disable=not progress
    ):
        pass
    frame = gather_table(list(plan))
    write_atomically(folder / TABLE, frame.to_csv(index=False).encode())
    return frame


def check_plan(
    plan: Mapping[Path, RunConfig],
    *,
    analyses: list[str] | None = None,
    images: int = 512,
    split: str = "test",
) -> None:
    """BadInput for several recipes, a run that cannot be, a folder with another config, or an analysis that is not allowed."""
    check_same_recipe(plan)
    if images < 2:
        raise BadInput(f"--images must be at least 2, got {images}")
    seen = set()
    for path, given in plan.items():
        run, folder = resolve_config(given), RunFolder(path)
        plan_checkpoints(run.train)
        check_clamps(run)
        if folder.config_file.exists():
            folder.check_same(run)
        if (run.task, run.model) not in seen:
            seen.add((run.task, run.model))
            select_analyses(
                analyses,
                build_task(run.task).eval_batch(split, images, run.seeds.measure),
                ViT(run.model),
            )


def check_same_recipe(plan: Mapping[Path, RunConfig]) -> None:
    """BadInput unless all runs are of one recipe."""
    recipes = sorted({run.recipe for run in plan.values()})
    if len(recipes) > 1:
        raise BadInput(
            f"runs of different recipes are not gathered into one table: {', '.join(recipes)}"
        )


def run_one(path: str, run: RunConfig, measuring: Mapping[str, Any]) -> str:
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
        return (run_one(*arguments) for arguments in work)
    parallel = Parallel(
        n_jobs=n, return_as="generator_unordered", inner_max_num_threads=1, batch_size=1
    )
    return iter(parallel(delayed(run_one)(*arguments) for arguments in work))


def _on_cluster(address: str, work: list[Work]) -> Iterator[str]:
    """Futures of a Dask cluster as they finish; what a lost worker had is done again by another, from where it was."""
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise BadInput("--cluster needs Dask: pip install 'toyvit[cluster]'") from None
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise BadInput(
            f"no Dask cluster answers at {address}: {str(error).splitlines()[0]}"
        ) from None

    def finished() -> Iterator[str]:
        with client:
            futures = [
                client.submit(run_one, path, run, measuring, pure=False, retries=2)
                for path, run, measuring in work
            ]
            yield from (future.result() for future in as_completed(futures))

    return finished()


def gather_table(paths: list[Path]) -> pd.DataFrame:
    """One row a run: its seed, the fields in which the runs differ, its status, and what its accuracy came to.

    Columns: run, seed, the fields that differ, status, accuracy and loss (last step, test), and, where the detector
    finds a transition in the accuracy, onset, end and width; they are missing where it finds none, where it may not judge, and
    where the change comes as the learning rate changes. Where the task has naive predictors, half_loss is the first checkpoint
    with at most half of the loss of the best of them.
    """
    runs = {path: RunFolder(path).check_exists().read_config() for path in paths}
    check_same_recipe(runs)
    first = next(iter(runs.values()))
    varied = sorted(
        {line.split(":")[0] for run in runs.values() for line in list_differences(first, run)}
        - set(SEEDS)
    )
    return pd.DataFrame([_row(path, run, varied) for path, run in runs.items()])


def _row(path: Path, run: RunConfig, varied: list[str]) -> dict[str, Any]:
    fields = {name: _field(run, name) for name in varied}
    row = {
        "run": path.name,
        "seed": run.seeds.init,
        **fields,
        "status": RunFolder(path).read_status(),
    }
    if row["status"] != "finished":
        return row
    frame = select_main_rows(load_table(path))
    for name in ("accuracy", "loss"):
        values = frame[
            (frame["analysis"] == "performance") & (frame["quantity"] == name)
        ].set_index("step")["value"]
        if not len(values):
            continue
        row[name] = values.iloc[-1]
        if name == "accuracy" and (change := detect_in_curve(values, find_rate_changes(run.train))):
            row |= {"onset": change.onset, "end": change.end, "width": change.width}
        if name == "loss" and (level := halve_best_baseline(load_baselines(path))) is not None:
            row["half_loss"] = find_first_at_most(values, level)
    return row


def halve_best_baseline(naive: Mapping[str, float]) -> float | None:
    """Half of the smallest loss of a naive predictor, nats; None where there is none."""
    losses = [value for name, value in naive.items() if name.startswith("loss.")]
    return min(losses) / 2 if losses else None


def find_first_at_most(values: pd.Series, level: float) -> int | None:
    """The first step at which a curve over steps is at or below a level; None where it never is."""
    below = values.index[values <= level]
    return int(below[0]) if len(below) else None


def _field(run: RunConfig, name: str) -> Any:
    value: Any = run.to_json()
    for part in name.split("."):
        value = value[part]
    return value
