"""Runs whose measures are planted: trained for a moment, and written into the table by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from toyvit.config import RunConfig
from toyvit.recipes import RECIPES
from toyvit.runs.cells import Cell, Row
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run
from toyvit.runs.table_writer import MeasureTable
from toyvit.train import fit

CHECKPOINTS = (0, 2, 4)
TINY = {"n_layers": 1, "n_heads": 1, "d_model": 8, "d_mlp": 0}


def write_arrays(file: Path, n: int = 100) -> Path:
    """Pictures of noise, two classes."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (n, 8, 8), dtype=np.uint8)
    np.savez(file, images=images, labels=np.arange(n) % 2)
    return file


def shrink(file: Path, **changes: object) -> RunConfig:
    """Four steps on own arrays."""
    config = RECIPES["digits"]()
    training = replace(
        config.train, steps=4, batch_size=4, n_validation=4, warmup=1, checkpoints=CHECKPOINTS
    )
    return replace(
        config,
        train=training,
        model=replace(config.model, **TINY),
        task=replace(config.task, npz=str(file), world="", factor="class"),
        **changes,
    )


def train(path: Path, config: RunConfig) -> Run:
    """A run of a config."""
    return Run(fit(config, path, progress=False))


def plant(
    run: Run,
    rows: Mapping[str, Iterable[Row]],
    steps: Iterable[int] = CHECKPOINTS,
    *,
    split: str = "test",
    images: int = 10,
    baselines: Mapping[str, float] | None = None,
) -> None:
    """Write the same rows of each analysis at some steps, and baselines."""
    digest = f"{images} of {split}"
    with MeasureTable(RunFolder(run.path)) as table:
        table.write_baselines(digest, dict(baselines or {"accuracy.majority": 0.5}))
        for step in steps:
            for analysis, values in rows.items():
                cell = Cell(step, run.entries[step].sha256, analysis, 1, digest)
                table.write(cell, split, images, list(values))
    run.refresh()


PERFORMANCE = [("accuracy", {}, 0.25), ("loss", {}, 2.0)]
