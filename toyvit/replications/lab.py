"""Replications that are runs of the lab's own recipes: trained and measured in a folder, going on where they were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from toyvit.config import Run, with_seed
from toyvit.measure import measure
from toyvit.results import main_rows, table
from toyvit.train import fit
from toyvit.trajectory import Trajectory


def measured(
    run: Run,
    seed: int,
    path: Path,
    analyses: Sequence[str],
    splits: Sequence[str] = ("test",),
    *,
    images: int = 512,
    every: int = 1,
) -> Path:
    """The run of one seed, trained and measured at every so many of its checkpoints; what is done is not done again."""
    fit(with_seed(run, seed), path, resume=True)
    steps = Trajectory(path).steps
    for split in splits:
        measure(path, analyses=list(analyses), steps=[*steps[:-1:every], steps[-1]], split=split, images=images)
    return path


def curve(path: Path, analysis: str, quantity: str, split: str = "test", **where: object) -> pd.Series:
    """One value a step: the strongest head, layer or token group of a quantity; `where` keeps rows with given axes or tags."""
    frame = table(path)
    rows = frame[(frame["analysis"] == analysis) & (frame["quantity"] == quantity)]
    for axis, value in where.items():
        rows = rows[rows[axis] == value]
    return main_rows(rows, split).groupby("step")["value"].max()


def pair(values: pd.Series, times: int = 1) -> tuple[list[float], list[float]]:
    """Steps (or samples: times the batch size) and values, as panels take them."""
    return [float(step) * times for step in values.index], values.astype(float).tolist()


def crossing(values: pd.Series, below: float) -> float | None:
    """The first step at which a curve is under a value."""
    found = values.index[values < below]
    return float(found[0]) if len(found) else None


def reaching(values: pd.Series, level: float) -> float | None:
    """The first step at which a curve is at a value or over it."""
    found = values.index[values >= level]
    return float(found[0]) if len(found) else None
