"""The tasks of the lab, one literal table, and what a task decides about the model that learns it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from toyvit.config import ModelConfig, Run, TaskConfig
from toyvit.data.addition import addition
from toyvit.data.clevr import sort_of_clevr
from toyvit.data.counting import counting
from toyvit.data.fewshot import fewshot
from toyvit.data.generic import WORLDS, classify, reconstruct, regress
from toyvit.data.glyphs import induction
from toyvit.data.markov import markov
from toyvit.data.objects import objects
from toyvit.data.pointers import pointers
from toyvit.data.relations import relations
from toyvit.data.repeats import repeats
from toyvit.data.sprites import dsprites
from toyvit.data.task import Batch, Grid, Pairs, Task, accuracy, loss
from toyvit.errors import BadField, BadInput

__all__ = ["TASKS", "WORLDS", "Batch", "Grid", "Pairs", "Task", "accuracy", "loss", "resolve", "task"]

TASKS: dict[str, Callable[[Any], Task]] = {
    "classify": classify,
    "regress": regress,
    "reconstruct": reconstruct,
    "induction": induction,
    "markov": markov,
    "repeats": repeats,
    "addition": addition,
    "counting": counting,
    "dsprites": dsprites,
    "fewshot": fewshot,
    "sort-of-clevr": sort_of_clevr,
    "objects": objects,
    "relations": relations,
    "pointers": pointers,
}


def task(config: TaskConfig) -> Task:
    """The task that a config describes."""
    return TASKS[config.name](config)


def resolve(run: Run) -> Run:
    """The run with what its task decides about the model filled in: picture, patches where cells fix them, classes."""
    from toyvit.model import choices

    made = task(run.task)
    decided: dict[str, Any] = {
        "image_size": made.world.image_size,
        "n_channels": made.world.n_channels,
        "n_classes": made.n_classes,
    }
    if made.world.patch_size is not None:
        decided["patch_size"] = made.world.patch_size
    for name, value in decided.items():
        given = getattr(run.model, name)
        if given is not None and given != value:
            raise BadInput(f"model.{name} is {given}, but the task {run.task.name} has {value}: say --model.{name} none")
    try:
        model: ModelConfig = replace(run.model, **decided)
    except BadField as error:
        raise BadInput(f"model.{error.field} {error.problem}") from None
    choices.check(model)
    if model.patch_size is None:
        raise BadInput(f"model.patch_size is not given, and the task {run.task.name} does not fix it")
    _check_readout(run, made, model.readout)
    return replace(run, model=model)


# What a read-out gives, and what a task may ask for.
GIVES = {"cls": "image", "mean": "image", "last": "image", "every": "patch", "pixels": "pixels"}


def _check_readout(run: Run, made: Task, readout: str) -> None:
    if GIVES[readout] != made.answers:
        allowed = [name for name, gives in GIVES.items() if gives == made.answers]
        raise BadInput(
            f"model.readout {readout!r} gives one answer for each {GIVES[readout]}, the task {run.task.name} asks for one for "
            f"each {made.answers}: allowed are {', '.join(allowed)}"
        )
