"""Many runs of one recipe, seeds and settings: trained, measured, and gathered into one table."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from tqdm import tqdm

from toyvit.analyses import select_analyses
from toyvit.clamps.weight_clamps import check_clamps
from toyvit.config import RunConfig, list_differences, plan_checkpoints
from toyvit.config.extensions import Extension, install, list_extensions
from toyvit.config.run import flatten
from toyvit.data.task import build_task, resolve_config
from toyvit.dynamics.transitions import detect_in_curve, find_first_step
from toyvit.errors import BadInput, Diverged
from toyvit.measuring import measure
from toyvit.model import ViT
from toyvit.runs.disk import format_line, write_atomically
from toyvit.runs.folder import RunFolder
from toyvit.runs.frames import keeping_texts
from toyvit.runs.handle import Run
from toyvit.train import fit
from toyvit.train.machine import check_machine
from toyvit.train.opening import settle_path
from toyvit.version import VERSION

if TYPE_CHECKING:
    from distributed import Client

SEEDS = ("seeds.init", "seeds.data")  # fields in which the runs of one setting differ
TABLE = "sweep.csv"
RECORD = "sweep.json"  # of the table: its digest, and the runs that it is of
Options = Mapping[str, Any]  # options of `measure`
Work = tuple[RunFolder, RunConfig, Options]


def run_sweep(
    plan: Mapping[Path, RunConfig],
    folder: Path,
    *,
    jobs: int = 1,
    cluster: str | None = None,
    progress: bool = True,
    **measuring: Any,
) -> pd.DataFrame:
    """Train and measure every run of a plan; what they came to, also in `folder/sweep.csv`.

    See `train_plan` and `gather_table`.
    """
    runs = train_plan(
        plan, jobs=jobs, cluster=cluster, label=folder.name if progress else None, **measuring
    )
    frame = gather_table(runs)
    write_table(frame, folder, runs)
    return frame


def write_table(frame: pd.DataFrame, folder: Path, runs: Sequence[Run]) -> Path:
    """The table of a sweep as `folder/sweep.csv`; its digest and its runs in `sweep.json`."""
    content = encode_table(frame)
    names = [os.path.relpath(run.path, folder) for run in runs]
    record = {
        "table": hashlib.sha256(content).hexdigest(),
        "version": VERSION,
        "runs": [] if any(name.startswith("..") for name in names) else names,
    }
    write_atomically(folder / TABLE, content)
    write_atomically(folder / RECORD, format_line(record).encode())
    return folder / TABLE


def encode_table(frame: pd.DataFrame) -> bytes:
    """A table as it stands in its file."""
    return frame.to_csv(index=False).encode()


def train_plan(
    plan: Mapping[Path, RunConfig],
    *,
    jobs: int = 1,
    cluster: str | None = None,
    label: str | None = None,
    **measuring: Any,
) -> list[Run]:
    """Train and measure every run of a plan; the opened runs, in its order.

    Runs go to `jobs` processes, or to the workers of a Dask cluster that see the same files. A run
    that is finished is not trained or measured again, one that was stopped goes on; so a sweep that
    was killed goes on when it is called again. A run that diverges is noted and the others go on.
    `measuring` are options of `measure`; performance is always measured. Settings that cannot be
    are refused before anything is trained. With a `label` there is a progress bar.
    """
    if measuring.get("analyses") is not None:
        measuring["analyses"] = list(dict.fromkeys(["performance", *measuring["analyses"]]))
    folders = check_plan(plan, **measuring)
    if not cluster:
        for config in plan.values():
            check_machine(config.train)
    work: list[Work] = [(folders[path], config, measuring) for path, config in plan.items()]
    finished = _run_on_cluster(cluster, work) if cluster else _run_here(jobs, work)

    is_quiet = label is None or None  # None: where there is no terminal
    bar = tqdm(finished, f"sweep {label}", len(work), unit="run", disable=is_quiet)
    runs = {run.path.absolute(): run for run in bar}
    return [runs[path.absolute()] for path in plan]


def check_plan(
    plan: Mapping[Path, RunConfig],
    *,
    analyses: list[str] | None = None,
    images: int = 512,
    split: str = "test",
) -> dict[Path, RunFolder]:
    """The folders of a plan, or BadInput that says what cannot be.

    That is several recipes, a run that cannot be, a folder with another config, or an analysis that
    is not allowed.
    """
    check_same_recipe(plan.values())
    if images < 2:
        raise BadInput(f"--images must be at least 2, got {images}")

    folders = {path: RunFolder(path) for path in plan}
    checked = set()
    for path, stated in plan.items():
        config = _check_run(folders[path], stated)
        if (config.task, config.model) not in checked:
            checked.add((config.task, config.model))
            batch = build_task(config.task).eval_batch(split, images, config.seeds.measure)
            select_analyses(analyses, batch, ViT(config.model))
    return folders


def _check_run(folder: RunFolder, stated: RunConfig) -> RunConfig:
    """The resolved config of a run, or BadInput where it cannot be trained in this folder."""
    config = settle_path(resolve_config(stated), folder)
    plan_checkpoints(config.train)
    check_clamps(config)
    if folder.config_file.exists():
        folder.check_same(config)
    return config


def check_same_recipe(configs: Iterable[RunConfig]) -> None:
    """BadInput unless all runs are of one recipe."""
    recipes = sorted({config.recipe for config in configs})
    if len(recipes) > 1:
        names = ", ".join(recipes)
        raise BadInput(f"runs of different recipes are not gathered into one table: {names}")


def run_one(folder: RunFolder, config: RunConfig, measuring: Options) -> Run:
    """Train and measure one run, going on where it was; one that diverges is not measured."""
    try:
        fit(config, folder, resume=True, progress=False)
    except Diverged:
        return Run(folder)
    run = Run(folder)
    measure(run, progress=False, **measuring)
    return run


def _run_in_worker(
    extensions: Iterable[Extension], folder: RunFolder, config: RunConfig, measuring: Options
) -> Run:
    """`run_one` where another process works: it may not know what this one has registered."""
    install(extensions)
    return run_one(folder, config, measuring)


def _run_here(jobs: int, work: list[Work]) -> Iterator[Run]:
    """The runs as they finish, in this process or in several of this machine."""
    n_workers = min(jobs, len(work))
    if n_workers <= 1:
        return (run_one(*arguments) for arguments in work)
    from joblib import Parallel, delayed

    parallel = Parallel(
        n_jobs=n_workers, return_as="generator_unordered", inner_max_num_threads=1, batch_size=1
    )
    return iter(
        parallel(delayed(_run_in_worker)(list_extensions(), *arguments) for arguments in work)
    )


def _connect(address: str) -> Client:
    """A client of a Dask cluster, or BadInput where there is no Dask or no cluster."""
    try:
        from distributed import Client
    except ImportError:
        raise BadInput("--cluster needs Dask: pip install 'toyvit[cluster]'") from None
    try:
        return Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(f"no Dask cluster answers at {address}: {reason}") from None


def _run_on_cluster(address: str, work: list[Work]) -> Iterator[Run]:
    """The runs as the workers of a Dask cluster finish them.

    What a lost worker had is done again by another, from where it was.
    """
    client = _connect(address)

    def collect() -> Iterator[Run]:
        from distributed import as_completed

        extensions = list_extensions()
        with client:
            futures = [
                client.submit(_run_in_worker, extensions, *arguments, pure=False, retries=2)
                for arguments in work
            ]
            for future in as_completed(futures):
                yield future.result()

    return collect()


@keeping_texts
def gather_table(runs: Sequence[Run | Path | str]) -> pd.DataFrame:
    """One row a run: its seed, the fields in which the runs differ, and what it came to.

    Columns: run, seed, the fields that differ, status, measured_step (the last step that was
    measured), accuracy and loss (of the run's last step, test; missing where that was not
    measured), and, where the detector finds a transition in the accuracy, onset, end and width;
    they are missing where it finds none, where it may not judge, and where the change comes as the
    learning rate changes. Where the task has naive predictors, half_loss is the first checkpoint
    with at most half of the loss of the best of them. These four are of the steps that were
    measured; `describe_gaps` says where those are not all.
    """
    opened = [Run.open(run) for run in runs]
    check_same_recipe(run.config for run in opened)
    varied = _list_varied([run.config for run in opened])
    return pd.DataFrame([_summarize_run(run, varied) for run in opened])


def _list_varied(configs: Sequence[RunConfig]) -> list[str]:
    """The fields, but for the seeds, in which some config differs from the first."""
    varied = set()
    for config in configs:
        varied |= {line.split(":")[0] for line in list_differences(configs[0], config)}
    return sorted(varied - set(SEEDS))


def _summarize_run(run: Run, varied: Sequence[str]) -> dict[str, Any]:
    config = flatten(run.config.to_json())
    fields = {name: config.get(name) for name in varied}
    row = {"run": run.name, "seed": run.config.seeds.init, **fields, "status": run.status}
    if row["status"] != "finished":
        return row

    accuracy = run.curve("performance", "accuracy")
    if len(accuracy):
        row["measured_step"] = int(accuracy.index[-1])
        row["accuracy"] = accuracy.get(run.last_step, nan)
        change = detect_in_curve(accuracy, run.config.train)
        if change:
            row |= {"onset": change.onset, "end": change.end, "width": change.width}

    loss = run.curve("performance", "loss")
    if len(loss):
        row["loss"] = loss.get(run.last_step, nan)
        level = halve_best_baseline(run.baselines)
        if level is not None:
            row["half_loss"] = find_first_step(loss <= level)
    return row


def describe_gaps(run: Run) -> str | None:
    """What of a finished run's performance is not measured, in a line; None where all is."""
    if run.status != "finished":
        return None
    steps = run.curve("performance", "accuracy").index
    if len(steps) == len(run):
        return None
    n_missing = len(run) - len(steps)
    text = f"{run.path} is partly measured: {n_missing} of {len(run)} checkpoints are left out"
    if run.last_step in steps:
        return f"{text}, the last is measured"
    last = f"step {steps[-1]:,}" if len(steps) else "no step"
    return f"{text}, {last} of {run.last_step:,} is the last measured: it has no final score"


def halve_best_baseline(baselines: Mapping[str, float]) -> float | None:
    """Half of the smallest loss of a naive predictor, nats; None where there is none.

    >>> halve_best_baseline({"loss.uniform": 1.6, "loss.bag_of_labels": 0.6, "accuracy.bag": 0.2})
    0.3
    """
    losses = [value for name, value in baselines.items() if name.startswith("loss.")]
    return min(losses) / 2 if losses else None
