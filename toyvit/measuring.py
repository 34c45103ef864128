"""Analyses x trajectory -> rows: the loop over checkpoints, with one traced forward pass for all analyses."""

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
from toyvit.clamps.patterns import apply_clamps, needs_retrieval
from toyvit.config import RunConfig
from toyvit.data.baselines import fit_baselines
from toyvit.data.tasks import Batch, build_task
from toyvit.errors import BadInput
from toyvit.model import ViT
from toyvit.model.forward import trace
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run
from toyvit.runs.table import Cell, MeasureTable, Row, build_rows
from toyvit.threads import use_one_thread


@dataclass(frozen=True, kw_only=True)
class MeasureReport:
    """What a sweep did: cells computed now, cells found done, bad checkpoints and analyses that were left out, and why.

    `clamps` are the run's, under which it was measured. `diverged` are the steps asked for at which a sampler diverged, by
    analysis: they have no number.
    """

    computed: int
    found: int
    skipped: dict[str, str]
    left_out: dict[str, str]
    clamps: tuple[str, ...] = ()
    diverged: dict[str, list[int]] = field(default_factory=dict)


def run_analyses(model: ViT, batch: Batch, analyses: Sequence[Analysis]) -> dict[str, list[Row]]:
    """Rows of each analysis at one checkpoint, from one shared forward pass."""
    wanted = {site for analysis in analyses for site in analysis.sites}
    seen = trace(model, batch.images, sorted(wanted)) if wanted else {}
    out: dict[str, list[Row]] = {}
    for analysis in analyses:
        values = analysis.measure(model, batch, seen)
        out[analysis.name] = [
            row
            for quantity, value in values.items()
            for row in build_rows(quantity, value, analysis.axes[quantity.split("[")[0]])
        ]
    return out


def evaluation_id(run: RunConfig, split: str, batch: Batch) -> str:
    """Identity of the settings and of the evaluation images, to the bit."""
    settings = {"task": run.to_json()["task"], "model": run.to_json()["model"], "split": split}
    if run.train.clamps:
        settings["clamps"] = list(run.train.clamps)
    found = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    found.update(batch.images.numpy().tobytes())
    found.update(batch.target.numpy().tobytes())
    return found.hexdigest()


@use_one_thread()
def measure(
    path: Path | str,
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

    A cell that is finished is not computed again. `images` of `split` are the evaluation batch. A run that was trained under
    clamps is measured under them: at each checkpoint those that were in force at its step. With `follow` the sweep goes on
    until the run stops training. With `skip_corrupt` bad checkpoint files are left out and named; else they are BadInput.
    """
    if images < 2:
        raise BadInput(f"--images must be at least 2, got {images}")
    if jobs < 1:
        raise BadInput(f"--jobs must be at least 1, got {jobs}")
    folder = RunFolder(path).check_exists()
    run = folder.read_config()
    made = build_task(run.task)
    batch = _known(run, made.eval_batch(split, images, run.seeds.measure))
    model = apply_clamps(ViT(run.model), run.train.clamps, run.train.steps, batch.retrieval)  # refused here where it cannot be
    picked, unfit = select_analyses(analyses, batch, model), explain_skipped(batch, model) if analyses is None else {}
    identity = evaluation_id(run, split, batch)
    computed, found = 0, None
    skipped: dict[str, str] = {}
    _wanted(Run(path), steps, skip_corrupt)  # refused before anything is written
    with MeasureTable(folder) as results:
        if not results.has_baselines(identity):
            results.write_baselines(identity, {**made.baselines(batch), **fit_baselines(run.task)})
        while True:
            live = follow and folder.is_locked()
            trajectory = Run(path)
            wanted, bad = _wanted(trajectory, steps, skip_corrupt)
            skipped |= bad
            done = results.list_done()
            cells = {
                step: [Cell(step, trajectory.entries[step].sha256, one.name, one.version, identity) for one in picked]
                for step in wanted
            }
            missing = {step: [cell for cell in row if cell not in done] for step, row in cells.items()}
            if found is None:
                found = sum(map(len, cells.values())) - sum(map(len, missing.values()))
            todo = [(step, row) for step, row in missing.items() if row and trajectory.entries[step].file not in skipped]
            for cells_of_a_step in _computed(Path(path), todo, batch, jobs, progress):
                for cell, numbers in cells_of_a_step:
                    results.write(cell, split, len(batch.target), numbers)
                    computed += 1
            if not live:
                lost = _diverged(results, [cell for row in cells.values() for cell in row])
                return MeasureReport(
                    computed=computed, found=found, skipped=skipped, left_out=unfit, clamps=run.train.clamps, diverged=lost
                )
            time.sleep(1)


def _diverged(results: MeasureTable, cells: list[Cell]) -> dict[str, list[int]]:
    """Steps at which a sampler diverged, by analysis."""
    lost = sorted((cell.analysis, cell.step) for cell in results.cells_where("diverged").intersection(cells))
    return {name: [step for _, step in pairs] for name, pairs in groupby(lost, key=itemgetter(0))}


def _known(run: RunConfig, batch: Batch) -> Batch:
    """Under the clamp `match` a model can be shown only pictures whose match is known, and so no counterfactual ones."""
    return replace(batch, counterfactuals=None) if needs_retrieval(run.train.clamps) else batch


def _wanted(trajectory: Run, steps: Sequence[int] | None, skip: bool) -> tuple[list[int], dict[str, str]]:
    """The steps asked for, and the bad files among their checkpoints with what is wrong; BadInput unless `skip` allows them."""
    folder = trajectory.folder
    wanted = trajectory.steps if steps is None else [trajectory.kept(step) for step in steps]
    bad = {entry.file: problem for step in wanted if (problem := folder.find_problem(entry := trajectory.entries[step]))}
    if bad and not skip:
        name, problem = next(iter(bad.items()))
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise BadInput(f"checkpoint {folder.checkpoints / name} {problem}{more}: --skip-corrupt measures the rest")
    return wanted, bad


def _computed(
    path: Path, todo: list[tuple[int, list[Cell]]], batch: Batch, jobs: int, progress: bool
) -> Iterator[list[tuple[Cell, list[Row]]]]:
    """Finished cells, checkpoint by checkpoint, as workers hand them in; the caller writes them."""
    bar = tqdm(
        total=len(todo), desc=f"measure {path.name}", unit="checkpoint", disable=not progress or not todo, mininterval=0.5
    )
    n = min(jobs, len(todo))
    with bar:
        if n <= 1:
            worker = CheckpointMeasurer(path, batch)
            for step, cells in todo:
                yield worker(step, cells)
                bar.update()
            return
        shares = [todo[place : place + 4] for place in range(0, len(todo), 4)]
        parallel = Parallel(n_jobs=n, return_as="generator", inner_max_num_threads=1)
        for share in parallel(delayed(_share)(path, share, batch) for share in shares):
            for one in share:
                yield one
                bar.update()


@use_one_thread()
def _share(path: Path, todo: list[tuple[int, list[Cell]]], batch: Batch) -> list[list[tuple[Cell, list[Row]]]]:
    worker = CheckpointMeasurer(path, batch)
    return [worker(step, cells) for step, cells in todo]


class CheckpointMeasurer:
    """One model, loaded again for each checkpoint."""

    def __init__(self, path: Path, batch: Batch) -> None:
        self.trajectory, self.batch = Run(path), batch
        self.model = ViT(self.trajectory.config.model)

    def __call__(self, step: int, cells: list[Cell]) -> list[tuple[Cell, list[Row]]]:
        bare = self.trajectory.load(self.model, step)
        model = apply_clamps(bare, self.trajectory.config.train.clamps, step, self.batch.retrieval)
        found = run_analyses(model, self.batch, select_analyses([cell.analysis for cell in cells], self.batch, model))
        return [(cell, found[cell.analysis]) for cell in cells]
