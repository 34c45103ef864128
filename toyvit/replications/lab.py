"""Replications that are runs of the lab's own recipes: trained and measured in a folder, going on where they were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from toyvit.config import RunConfig, replace_seed
from toyvit.measuring import measure
from toyvit.runs.handle import Run, load_table
from toyvit.runs.table import select_main_rows
from toyvit.train import fit


def train_and_measure(
    run: RunConfig,
    seed: int,
    path: Path,
    analyses: Sequence[str],
    splits: Sequence[str] = ("test",),
    *,
    images: int = 512,
    every: int = 1,
) -> Path:
    """The run of one seed, trained and measured at every so many of its checkpoints; what is done is not done again."""
    fit(replace_seed(run, seed), path, resume=True)
    steps = Run(path).steps
    for split in splits:
        measure(
            path,
            analyses=list(analyses),
            steps=[*steps[:-1:every], steps[-1]],
            split=split,
            images=images,
        )
    return path


def load_curve(
    path: Path, analysis: str, quantity: str, split: str = "test", **where: object
) -> pd.Series:
    """One value a step: the strongest head, layer or token group of a quantity; `where` keeps rows with given axes or tags."""
    frame = load_table(path)
    rows = frame[(frame["analysis"] == analysis) & (frame["quantity"] == quantity)]
    for axis, value in where.items():
        rows = rows[rows[axis] == value]
    return select_main_rows(rows, split).groupby("step")["value"].max()


def to_points(values: pd.Series, times: int = 1) -> tuple[list[float], list[float]]:
    """Steps (or samples: times the batch size) and values, as panels take them."""
    return [float(step) * times for step in values.index], values.astype(float).tolist()


def find_crossing(values: pd.Series, below: float) -> float | None:
    """The first step at which a curve is under a value."""
    found = values.index[values < below]
    return float(found[0]) if len(found) else None


def find_reaching(values: pd.Series, level: float) -> float | None:
    """The first step at which a curve is at a value or over it."""
    found = values.index[values >= level]
    return float(found[0]) if len(found) else None
