"""Analyses x checkpoints -> rows: one traced forward pass a checkpoint serves all analyses."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from joblib import Parallel, delayed
from tqdm import tqdm

from toyvit.analyses import Analysis, explain_skipped, select_analyses
from toyvit.analyses.analysis import split_key
from toyvit.analyses.registry import name_version
from toyvit.clamps.patterns import apply_clamps, needs_retrieval
from toyvit.config import RunConfig
from toyvit.data.baselines import fit_baselines
from toyvit.data.task import Batch
from toyvit.errors import BadInput
from toyvit.model import ViT
from toyvit.model.forward import trace
from toyvit.runs.handle import Run
from toyvit.runs.table import Cell, MeasureTable, Row, build_rows
from toyvit.threads import use_one_thread

Todo = tuple[int, list[Cell]]
Computed = list[tuple[Cell, list[Row]]]
SHARE = 4  # checkpoints that a worker is handed at once


@dataclass(frozen=True, kw_only=True)
class MeasureReport:
    """What `measure` did.

    computed   cells measured now
    done       cells that were there already
    skipped    bad checkpoint files that were left out, and what is wrong with them
    unfit      analyses that were not run, and why
    clamps     the run's, under which it was measured
    diverged   steps asked for at which a sampler diverged, by analysis: they have no number
    """

    computed: int
    done: int
    skipped: dict[str, str]
    unfit: dict[str, str]
    clamps: tuple[str, ...] = ()
    diverged: dict[str, list[int]] = field(default_factory=dict)


def run_analyses(model: ViT, batch: Batch, analyses: Sequence[Analysis]) -> dict[str, list[Row]]:
    """Rows of each analysis at one checkpoint, from one shared forward pass."""
    sites = {site for analysis in analyses for site in analysis.sites}
    cache = trace(model, batch.images, sorted(sites)) if sites else {}
    rows: dict[str, list[Row]] = {}
    for analysis in analyses:
        rows[analysis.name] = []
        for key, value in analysis.measure(model, batch, cache).items():
            quantity, tags = split_key(key)
            rows[analysis.name] += build_rows(
                quantity, value, analysis.quantities[quantity].axes, tags
            )
    return rows


def evaluation_id(config: RunConfig, split: str, batch: Batch) -> str:
    """SHA-256 of the settings and of the evaluation pictures, to the bit."""
    plain = config.to_json()
    settings = {"task": plain["task"], "model": plain["model"], "split": split}
    if config.train.clamps:
        settings["clamps"] = list(config.train.clamps)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(batch.images.numpy().tobytes())
    digest.update(batch.target.numpy().tobytes())
    return digest.hexdigest()


@use_one_thread()
def measure(
    run: Run | Path | str,
    *,
    analyses: list[str] | None = None,
    steps: Sequence[int] | None = None,
    images: int = 512,
    split: str = "test",
    jobs: int = 1,
    follow: bool = False,
    skip_corrupt: bool = False,
    progress: bool = True,
) -> MeasureReport:
    """Run analyses (default: all that the task allows) on checkpoints (default: all) of a run.

    A cell that is finished is not computed again. `images` of `split` are the evaluation batch. A
    run that was trained under clamps is measured under them: at each checkpoint those that were
    active at its step. With `follow` it goes on until the run stops training. With `skip_corrupt`
    bad checkpoint files are left out and named; else they are BadInput.
    """
    if images < 2:
        raise BadInput(f"--images must be at least 2, got {images}")
    if jobs < 1:
        raise BadInput(f"--jobs must be at least 1, got {jobs}")
    run = Run.open(run)
    clamps = run.config.train.clamps
    batch = _without_counterfactuals(run.config, run.batch(split, images))

    # What cannot be measured is refused here, before anything is written.
    model = apply_clamps(ViT(run.config.model), clamps, run.config.train.steps, batch.retrieval)
    selected = select_analyses(analyses, batch, model)
    unfit = explain_skipped(batch, model) if analyses is None else {}
    _select_steps(run, steps, skip_corrupt)

    identity = evaluation_id(run.config, split, batch)
    computed = 0
    done_before: int | None = None
    skipped: dict[str, str] = {}
    with MeasureTable(run.folder) as results:
        if not results.has_baselines(identity):
            baselines = {**run.task.baselines(batch), **fit_baselines(run.config.task)}
            results.write_baselines(identity, baselines)
        while True:
            live = follow and run.folder.is_locked()
            if follow:
                run.refresh()
            wanted, bad = _select_steps(run, steps, skip_corrupt)
            skipped |= bad
            cells = _plan_cells(run, wanted, selected, identity)
            finished = results.list_done()
            if done_before is None:
                done_before = sum(cell in finished for row in cells.values() for cell in row)
            todo = _select_missing(run, cells, finished, skipped)
            for row in _compute(run, todo, batch, jobs, progress):
                for cell, numbers in row:
                    results.write(cell, split, len(batch.target), numbers)
                    computed += 1
            if not live:
                break
            time.sleep(1)
        diverged = _find_diverged(results, [cell for row in cells.values() for cell in row])

    return MeasureReport(
        computed=computed,
        done=done_before,
        skipped=skipped,
        unfit=unfit,
        clamps=clamps,
        diverged=diverged,
    )


def _without_counterfactuals(config: RunConfig, batch: Batch) -> Batch:
    """Under the clamp `match` a model can be shown only pictures whose match is known."""
    if needs_retrieval(config.train.clamps):
        return replace(batch, counterfactuals=None)
    return batch


def _select_steps(
    run: Run, steps: Sequence[int] | None, skip: bool
) -> tuple[list[int], dict[str, str]]:
    """The steps asked for, and the bad files among them; BadInput unless `skip` allows them."""
    run.check_step(None)
    wanted = run.steps if steps is None else [run.check_step(step) for step in steps]
    bad = {}
    for step in wanted:
        entry = run.entries[step]
        if problem := run.folder.find_problem(entry):
            bad[entry.file] = problem
    if bad and not skip:
        name, problem = next(iter(bad.items()))
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        path = run.folder.checkpoints / name
        raise BadInput(f"checkpoint {path} {problem}{more}: --skip-corrupt measures the rest")
    return wanted, bad


def _plan_cells(
    run: Run, steps: Sequence[int], analyses: Sequence[Analysis], identity: str
) -> dict[int, list[Cell]]:
    """The cells of each step: one an analysis."""
    cells = {}
    for step in steps:
        sha256 = run.entries[step].sha256
        cells[step] = [
            Cell(step, sha256, analysis.name, name_version(analysis), identity)
            for analysis in analyses
        ]
    return cells


def _select_missing(
    run: Run, cells: dict[int, list[Cell]], finished: set[Cell], skipped: dict[str, str]
) -> list[Todo]:
    """The cells that are not finished, by step, but for bad checkpoints."""
    todo = []
    for step, row in cells.items():
        missing = [cell for cell in row if cell not in finished]
        if missing and run.entries[step].file not in skipped:
            todo.append((step, missing))
    return todo


def _find_diverged(results: MeasureTable, cells: list[Cell]) -> dict[str, list[int]]:
    """Steps at which a sampler diverged, by analysis."""
    diverged = results.cells_where("diverged").intersection(cells)
    places = sorted((cell.analysis, cell.step) for cell in diverged)
    return {name: [step for _, step in rows] for name, rows in groupby(places, key=itemgetter(0))}


def _compute(
    run: Run, todo: list[Todo], batch: Batch, jobs: int, progress: bool
) -> Iterator[Computed]:
    """Finished cells, checkpoint by checkpoint, as workers hand them in; the caller writes them."""
    bar = tqdm(
        total=len(todo),
        desc=f"measure {run.name}",
        unit="checkpoint",
        disable=not progress or not todo,
        mininterval=0.5,
    )
    n_workers = min(jobs, len(todo))
    with bar:
        if n_workers <= 1:
            measurer = CheckpointMeasurer(run, batch)
            for step, cells in todo:
                yield measurer(step, cells)
                bar.update()
            return
        shares = [todo[place : place + SHARE] for place in range(0, len(todo), SHARE)]
        parallel = Parallel(n_jobs=n_workers, return_as="generator", inner_max_num_threads=1)
        for share in parallel(delayed(_compute_share)(run, share, batch) for share in shares):
            for row in share:
                yield row
                bar.update()


@use_one_thread()
def _compute_share(run: Run, todo: list[Todo], batch: Batch) -> list[Computed]:
    measurer = CheckpointMeasurer(run, batch)
    return [measurer(step, cells) for step, cells in todo]


class CheckpointMeasurer:
    """One model, loaded again for each checkpoint."""

    def __init__(self, run: Run, batch: Batch) -> None:
        self.run = run
        self.batch = batch
        self.bare = ViT(run.config.model)

    def __call__(self, step: int, cells: list[Cell]) -> Computed:
        model = self.run.model(step, self.batch, into=self.bare)
        names = [cell.analysis for cell in cells]
        rows = run_analyses(model, self.batch, select_analyses(names, self.batch, model))
        return [(cell, rows[cell.analysis]) for cell in cells]
