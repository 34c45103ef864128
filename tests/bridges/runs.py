"""Runs whose checkpoints are models with large random weights, for what reads runs."""

from __future__ import annotations

from pathlib import Path

from tests.laws.models import build
from toyvit.config import ModelConfig, RunConfig, TrainConfig
from toyvit.data.question_configs import LookConfig
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run

SCORES = {"loss": 1.5, "accuracy": 0.25}


def write_run(path: Path, model: ModelConfig, steps: tuple[int, ...] = (0, 100), **train) -> Run:
    """A run of this model without training; the checkpoint of step s is `build(model, s + 1)`."""
    task = LookConfig(n_answers=model.n_classes, size=model.image_size, channels=model.n_channels)
    config = RunConfig(
        recipe="digits", task=task, model=model, train=TrainConfig(steps=steps[-1] or 1, **train)
    )
    folder = RunFolder(path)
    folder.create(config)
    for step in steps:
        folder.write_checkpoint(step, step, build(model, step + 1).state_dict(), SCORES)
    return Run(path)
