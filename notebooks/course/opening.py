"""Opening the run that a notebook reads, or a small one that is prepared where there is none."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import toyvit
from course.needs import NEEDS, Need
from toyvit.config.run import replace_seed
from toyvit.errors import BadInput, choose

RUNS = "TOYVIT_RUNS"  # of the environment: the folder of all runs, if it is not the repository's


def locate_runs() -> Path:
    """The folder of all runs, as a notebook sees it."""
    return Path(os.environ.get(RUNS, "../runs"))


def locate_prepared(name: str) -> Path:
    """Where the small runs of a need are."""
    return locate_runs() / "prepared" / name


def open_run(name: str) -> toyvit.Run:
    """The run that a notebook reads; BadInput for one that it cannot use.

    That is the run which the need's environment variable names, else the full run if it was made,
    else a small one, which is trained into `runs/prepared` once.
    """
    return open_runs(name)[0]


def open_runs(name: str) -> list[toyvit.Run]:
    """The same of a need with several runs: all that lie in the folder."""
    need = NEEDS[choose(name, NEEDS, "need of a notebook")]
    folder = _choose_folder(need)
    runs = [toyvit.Run(saved.path) for saved in toyvit.find_runs(folder)]
    check_runs(runs, need, folder)

    many = f"{len(runs)} runs, " if len(runs) > 1 else ""
    print(f"reading {folder}: {many}{len(runs[0])} checkpoints to step {runs[0].last_step}")
    return runs


def find_beside(run: toyvit.Run, name: str) -> toyvit.Run | None:
    """The measured run of a name in the same folder, to draw beside this one, if it is there."""
    path = run.path.with_name(name)
    if not (path / "config.json").exists():
        return None
    beside = toyvit.Run(path)
    return beside if beside.is_measured else None


def find_run(variable: str, name: str) -> toyvit.Run | None:
    """A run that a part of a notebook needs, or None, with a sentence that says what makes it."""
    path = Path(os.environ.get(variable) or locate_runs() / name)
    if (path / "config.json").exists():
        return toyvit.Run(path)
    print(f"{path} is not there: this part is passed over; `toyvit train {name}` makes it")
    return None


def check_runs(runs: Sequence[toyvit.Run], need: Need, folder: Path) -> None:
    """BadInput that says what is missing, and what makes it, where a need is not met."""
    full = f"`{need.command}` makes one"
    if len(runs) < need.n_runs:
        fewest = "a run" if need.n_runs == 1 else f"at least {need.n_runs} runs"
        raise BadInput(f"this notebook reads {fewest}, and {folder} has {len(runs)}: {full}")
    for run in runs:
        if not need.fits(run.config):
            kind = f"{run.path} is a run of {run.config.recipe!r}"
            raise BadInput(f"{kind}; this notebook reads {need.what}: {full}")
        if len(run) < need.least:
            few = f"{run.path} has {len(run)} checkpoints"
            raise BadInput(f"{few}; this notebook needs at least {need.least}: {full}")
        if missing := [name for name in need.analyses if name not in list_measured(run)]:
            names = ",".join(missing)
            command = f"toyvit measure {run.path} --analyses {names}"
            raise BadInput(f"{run.path} is not measured in full: run `{command}`")


def list_measured(run: toyvit.Run) -> set[str]:
    """Names of the analyses that a run's table has."""
    return set(run.table["analysis"]) if run.is_measured else set()


def _choose_folder(need: Need) -> Path:
    """The folder that was asked for, else the full one, else the prepared one."""
    if asked := os.environ.get(need.variable):
        if not Path(asked).exists():
            raise BadInput(
                f"{need.variable} says {asked}, and nothing is there: `{need.command}` makes one"
            )
        return Path(asked)
    full = locate_runs() / need.full
    return full if full.exists() else prepare(need, locate_prepared(need.name))


def prepare(need: Need, folder: Path) -> Path:
    """Train and measure a need's small runs into a folder, unless they are there; say so first."""
    config = need.config()
    plan = {folder: config}
    if len(need.seeds) > 1:
        plan = {folder / f"seed-{seed}": replace_seed(config, seed) for seed in need.seeds}
    if not _is_ready(need, list(plan)):
        print(
            f"preparing a small run in {folder}: about {need.seconds} seconds, once;"
            f" the full one is made by `{need.command}`",
            flush=True,
        )
        from toyvit.sweeping import train_plan  # slow to import

        train_plan(plan, analyses=list(need.analyses), images=need.images)
    return folder


def _is_ready(need: Need, paths: Sequence[Path]) -> bool:
    """Whether every run is trained to its end and measured at all its checkpoints."""
    for path in paths:
        if not (path / "config.json").exists():
            return False
        run = toyvit.Run(path)
        if run.status != "finished" or not set(need.analyses) <= list_measured(run):
            return False
        if run.table["step"].max() < run.last_step:
            return False
    return True


def show_bad_input() -> None:
    """In a notebook, show bad input as its one sentence; the cells after it do not run."""
    if "IPython" in sys.modules and (shell := sys.modules["IPython"].get_ipython()):
        shell.set_custom_exc((BadInput,), _print_sentence)


def _print_sentence(
    shell: object, kind: type, error: BadInput, trace: object, tb_offset: int | None = None
) -> None:
    print(error)
