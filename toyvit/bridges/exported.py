"""A checkpoint on its way out: the bare model, and what its files will say of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toyvit.bridges.self_descriptions import FORMAT
from toyvit.config import ModelConfig
from toyvit.config.foreign_files import JsonObject
from toyvit.data.own_pictures import OwnPictures
from toyvit.data.question_configs import ClassifyConfig, LookConfig
from toyvit.data.shown_pictures import ShownWorld
from toyvit.data.task import GIVES
from toyvit.data.world import CollectedWorld, World
from toyvit.errors import DataMissing
from toyvit.model import ViT
from toyvit.runs.handle import Run
from toyvit.runs.provenance import read_provenance
from toyvit.version import VERSION

MIDDLE = 0.5  # pictures of bytes are shown from -1 to +1


@dataclass(frozen=True)
class Exported:
    """A checkpoint on its way out: the bare model, and what its files say of it."""

    run: Run
    step: int
    model: ViT
    facts: JsonObject

    @property
    def config(self) -> ModelConfig:
        """The model's shape."""
        return self.model.config

    @property
    def classes(self) -> list[str]:
        """The names of what the head tells apart; their numbers where they have none."""
        names: list[str] = self.facts["classes"] or [str(n) for n in range(len(self.model.b_U))]
        return names

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of each channel; nothing where pictures are shown as they are."""
        return tuple(self.facts["mean"]), tuple(self.facts["deviation"])


def export_checkpoint(run: Run, step: int) -> Exported:
    """The model of a step; BadInput where heads are clamped there."""
    at = run.check_unclamped(step)
    return Exported(run, at, run.bare_model(at), describe_checkpoint(run, at))


def describe_checkpoint(run: Run, step: int) -> JsonObject:
    """What the files of a step say of themselves, as plain JSON."""
    entry = run.entries[step]
    config = run.config
    mean, deviation = read_normalization(run)
    facts = {
        "format": FORMAT,
        "version": VERSION,
        "config": config.model.list_values(),
        "answers": GIVES[config.model.readout],
        "classes": _name_classes(run),
        "mean": mean,
        "deviation": deviation,
        "provenance": {
            "run": run.name,
            "recipe": config.recipe,
            "task": config.task.name,
            "pictures": config.task.data_set,
            "seeds": config.seeds.list_values(),
            "step": step,
            "samples": entry.samples,
            "sha256": entry.sha256,
            "loss": entry.loss,
            "accuracy": entry.accuracy,
            "source": _find_source(run, step),
        },
    }
    plain: JsonObject = json.loads(json.dumps(facts))
    return plain


def _find_world(run: Run) -> World | None:
    """What the run was shown; None where its pictures are not here."""
    try:
        return run.task.world
    except DataMissing:
        return None


def _name_classes(run: Run) -> tuple[str, ...] | None:
    if isinstance(run.config.task, LookConfig):
        return run.config.task.answers or None
    return run.task.class_names if _find_world(run) is not None else None


def read_normalization(run: Run) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel, of pixels from 0 to 1, that pictures are shown with.

    Nothing for pictures that are shown as they are drawn, or as the user's floats are.
    """
    task = run.config.task
    world = _find_world(run)
    is_collected = isinstance(world, CollectedWorld | ShownWorld)
    if not isinstance(task, ClassifyConfig) or not (is_collected or task.folder):
        return (), ()
    if world is not None and _shows_floats(world):
        return (), ()
    n = run.config.model.stated("n_channels")
    return task.mean or (MIDDLE,) * n, task.deviation or (MIDDLE,) * n


def _shows_floats(world: World) -> bool:
    """Whether pictures are the user's floats, as they are."""
    if isinstance(world, ShownWorld):
        return world.as_it_is
    return isinstance(world, OwnPictures) and world.images.dtype != np.uint8


def _find_source(run: Run, step: int) -> JsonObject | None:
    """The file that an imported step is from: its name and SHA-256."""
    book = run.folder.provenance
    lines = read_provenance(book, run.folder.hash_run()) if book.exists() else []
    for line in lines:
        if line.get("step") == step and "sha256" in line:
            name = Path(str(line.get("source", ""))).name
            return {"file": name, "sha256": line["sha256"], "family": lines[0].get("family")}
    return None
