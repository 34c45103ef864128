"""Analyses x checkpoints -> rows: one traced forward pass a checkpoint serves all analyses."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

from tqdm import tqdm

from toyvit.analyses import Analysis, explain_skipped, select_analyses
from toyvit.analyses.analysis import Measures, split_key
from toyvit.analyses.passes import check_device, check_room, run_pass
from toyvit.analyses.registry import name_version
from toyvit.clamps.patterns import apply_clamps, needs_retrieval
from toyvit.config import RunConfig
from toyvit.data.baselines import fit_baselines
from toyvit.data.task import Batch
from toyvit.errors import BadInput
from toyvit.model import ViT
from toyvit.runs.cells import Cell, Row
from toyvit.runs.handle import Run
from toyvit.runs.measured import MeasureReport, Request, list_steps, note_request
from toyvit.runs.table import build_rows
from toyvit.runs.table_writer import MeasureTable
from toyvit.runs.workers import map_shares
from toyvit.surroundings import pin_torch

Todo = tuple[int, list[Cell]]
Computed = list[tuple[Cell, list[Row]]]
SHARE = 4  # checkpoints that a worker is handed at once


def list_rows(analysis: Analysis, measures: Measures) -> list[Row]:
    """The rows of what an analysis has measured; ValueError for what its row does not declare."""
    rows = []
    for key, value in measures.items():
        quantity, tags = split_key(key)
        if quantity not in analysis.quantities:
            raise ValueError(f"{analysis.name} measures {quantity!r}, which it does not declare")
        rows += build_rows(quantity, value, analysis.quantities[quantity].axes, tags)
    return rows


def run_analyses(
    model: ViT, batch: Batch, analyses: Sequence[Analysis], device: str = "cpu"
) -> dict[str, list[Row]]:
    """Rows of each analysis at one checkpoint, by its name, from one shared forward pass."""
    sites: set[str] = set()
    for analysis in analyses:
        sites |= set(analysis.sites)
    trace = run_pass(model, batch.images, sites, device)
    return {
        analysis.name: list_rows(analysis, analysis.measure(model, batch, trace))
        for analysis in analyses
    }


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


@pin_torch()
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
    device: str = "cpu",
) -> MeasureReport:
    """Run analyses (default: all that the task allows) on checkpoints (default: all) of a run.

    A cell that is finished is not computed again; one that is damaged is, and that is said.
    `images` of `split` are the evaluation batch. A run that was trained under clamps is measured
    under them: at each checkpoint those that were active at its step. With `follow` it goes on
    until the run stops training. With `skip_corrupt` bad checkpoint files are left out and named;
    else they are BadInput. On another `device`, `cuda` or `mps`, the forward pass of each
    checkpoint is run there.
    """
    if images < 2:
        raise BadInput(f"--images must be at least 2, got {images}")
    if jobs < 1:
        raise BadInput(f"--jobs must be at least 1, got {jobs}")
    check_device(device, jobs)
    run = Run.open(run)
    # By default every layer's values are recorded; a single analysis may need one layer at a time.
    n_layers = 1 if analyses else run.config.model.n_layers
    check_room(run.config.model, images, n_layers)
    batch = _without_counterfactuals(run.config, run.batch(split, images))

    # What cannot be measured is refused here, before anything is written.
    clamps = run.config.train.clamps
    last = run.config.train.steps
    model = apply_clamps(ViT(run.config.model), clamps, last, batch.retrieval)
    selected = select_analyses(analyses, batch, model)
    unfit = explain_skipped(batch, model) if analyses is None else {}
    measurer = RunMeasurer(run, batch, split, selected, steps, skip_corrupt, device)
    measurer.select_steps()

    with MeasureTable(run.folder) as table:
        measurer.write_baselines(table)
        done = measurer.count_finished(table)
        while True:
            is_live = follow and run.folder.is_locked()
            if follow:
                run.refresh()
            measurer.write_missing(table, jobs, progress)
            if not is_live:
                break
            time.sleep(1)
        diverged = table.cells_where("diverged", 1)
        not_local = table.cells_where("local", 0) - diverged

    request = Request(None if analyses is None else tuple(analyses), images, split)
    versions = [(analysis.name, name_version(analysis)) for analysis in selected]
    note_request(run.folder, request, measurer.identity, versions, unfit)
    return MeasureReport(
        computed=measurer.computed,
        done=done,
        skipped=measurer.skipped,
        unfit=unfit,
        clamps=clamps,
        diverged=measurer.select_steps_of(diverged),
        not_local=measurer.select_steps_of(not_local),
    )


def _without_counterfactuals(config: RunConfig, batch: Batch) -> Batch:
    """Under the clamp `match` a model can be shown only pictures whose match is known."""
    if needs_retrieval(config.train.clamps):
        return replace(batch, counterfactuals=None)
    return batch


class RunMeasurer:
    """What is to be measured of a run, and what came of it: see `MeasureReport`."""

    def __init__(
        self,
        run: Run,
        batch: Batch,
        split: str,
        analyses: list[Analysis],
        steps: Sequence[int] | None,
        skip_corrupt: bool,
        device: str,
    ) -> None:
        self.run = run
        self.batch = batch
        self.split = split
        self.analyses = analyses
        self.steps = steps
        self.skip_corrupt = skip_corrupt
        self.device = device
        self.identity = evaluation_id(run.config, split, batch)
        self.selected_steps: list[int] = []
        self.computed = 0
        self.skipped: dict[str, str] = {}

    def select_steps(self) -> None:
        """Look up the steps asked for; bad files among them are skipped, or else BadInput."""
        run = self.run
        run.check_step(None)
        wanted = run.steps if self.steps is None else [run.check_step(step) for step in self.steps]
        bad = {}
        for step in wanted:
            entry = run.entries[step]
            if problem := run.folder.find_problem(entry):
                bad[entry.file] = problem

        if bad and not self.skip_corrupt:
            name, problem = next(iter(bad.items()))
            more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
            path = run.folder.checkpoints / name
            raise BadInput(f"checkpoint {path} {problem}{more}: --skip-corrupt measures the rest")
        self.skipped |= bad
        self.selected_steps = wanted

    def list_cells(self, step: int) -> list[Cell]:
        """The cells of a step: one an analysis."""
        sha256 = self.run.entries[step].sha256
        return [
            Cell(step, sha256, analysis.name, name_version(analysis), self.identity)
            for analysis in self.analyses
        ]

    def write_baselines(self, table: MeasureTable) -> None:
        """What predictors that know less score on these pictures, once."""
        if not (table.has_baselines(self.identity) or table.is_read_only):
            baselines = self.run.task.baselines(self.batch)
            table.write_baselines(
                self.identity, {**baselines, **fit_baselines(self.run.config.task)}
            )

    def count_finished(self, table: MeasureTable) -> int:
        """How many of the cells are in the table."""
        finished = table.list_done()
        n = 0
        for step in self.selected_steps:
            n += sum(cell in finished for cell in self.list_cells(step))
        return n

    def write_missing(self, table: MeasureTable, jobs: int, progress: bool) -> None:
        """Measure and write the cells that are not finished."""
        self.select_steps()
        finished = table.list_done()
        todo: list[Todo] = []
        for step in self.selected_steps:
            missing = [cell for cell in self.list_cells(step) if cell not in finished]
            if missing and self.run.entries[step].file not in self.skipped:
                todo.append((step, missing))
        if todo and table.is_read_only:
            n = sum(len(missing) for _, missing in todo)
            raise BadInput(
                f"{table.path} cannot be written to, and {n} cells are not measured: "
                "measure a copy of it"
            )

        for rows_of_cells in _compute(self, todo, jobs, progress):
            table.write_all(rows_of_cells, self.split, len(self.batch.target))
            self.computed += len(rows_of_cells)

    def select_steps_of(self, cells: Set[Cell]) -> dict[str, list[int]]:
        """The steps asked for of some cells, by analysis."""
        asked = chain.from_iterable(map(self.list_cells, self.selected_steps))
        return list_steps(asked, cells)


def _compute(
    measurer: RunMeasurer, todo: list[Todo], jobs: int, progress: bool
) -> Iterator[Computed]:
    """Finished cells, checkpoint by checkpoint, as workers hand them in; the caller writes them."""
    bar = tqdm(
        total=len(todo),
        desc=f"measure {measurer.run.name}",
        unit="checkpoint",
        disable=not progress or not todo or None,  # and where there is no terminal
        mininterval=0.5,
    )

    with bar:
        for computed in _compute_on_workers(measurer, todo, min(jobs, len(todo))):
            yield computed
            bar.update()


def _compute_on_workers(
    measurer: RunMeasurer, todo: list[Todo], n_workers: int
) -> Iterator[Computed]:
    open_measurer = partial(
        CheckpointMeasurer, measurer.run, measurer.batch, measurer.analyses, measurer.device
    )
    if n_workers <= 1:
        measure_checkpoint = open_measurer()
        for step, cells in todo:
            yield measure_checkpoint(step, cells)
        return

    shares = [todo[place : place + SHARE] for place in range(0, len(todo), SHARE)]
    for computed in map_shares(_compute_share, open_measurer, shares, n_workers):
        yield from computed


@pin_torch()
def _compute_share(measure_checkpoint: CheckpointMeasurer, todo: list[Todo]) -> list[Computed]:
    return [measure_checkpoint(step, cells) for step, cells in todo]


class CheckpointMeasurer:
    """One model, loaded again for each checkpoint."""

    def __init__(self, run: Run, batch: Batch, analyses: list[Analysis], device: str) -> None:
        self.run = run
        self.device = device
        self.batch = batch
        self.analyses = {analysis.name: analysis for analysis in analyses}
        self.bare = ViT(run.config.model)

    def __call__(self, step: int, cells: list[Cell]) -> Computed:
        """The rows of these cells of one checkpoint."""
        model = self.run.model(step, self.batch, into=self.bare)
        wanted = [self.analyses[cell.analysis] for cell in cells]
        rows = run_analyses(model, self.batch, wanted, self.device)
        return [(cell, rows[cell.analysis]) for cell in cells]
