"""Replications that are runs of the lab's own recipes: trained, measured, resumed if stopped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from toyvit.config import RunConfig, replace_seed
from toyvit.measuring import measure
from toyvit.runs.handle import Run
from toyvit.train import fit


def train_and_measure(
    config: RunConfig,
    seed: int,
    path: Path,
    analyses: Sequence[str],
    splits: Sequence[str] = ("test",),
    *,
    images: int = 512,
    every: int = 1,
) -> Run:
    """The run of one seed, trained, and measured at every so many of its checkpoints.

    The last checkpoint is always measured. What is done is not done again.
    """
    run = Run(fit(replace_seed(config, seed), path, resume=True))
    steps = [*run.steps[:-1:every], run.last_step]
    for split in splits:
        measure(run, analyses=list(analyses), steps=steps, split=split, images=images)
    return run


def to_points(values: pd.Series, times: int = 1) -> tuple[list[float], list[float]]:
    """Steps (or samples: times the batch size) and values, as panels take them."""
    return [float(step) * times for step in values.index], values.astype(float).tolist()
