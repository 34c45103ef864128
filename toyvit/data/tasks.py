"""The tasks of the lab, one literal table, and what a task decides about the model that learns it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from toyvit.config import ModelConfig, RunConfig, TaskConfig
from toyvit.data.questions import WORLDS, build_classify, build_reconstruct, build_regress
from toyvit.data.task import Batch, OperandTable, Retrieval, Task, accuracy, loss
from toyvit.data.worlds.addition.world import build_addition
from toyvit.data.worlds.counting.world import build_counting
from toyvit.data.worlds.dsprites.world import build_dsprites
from toyvit.data.worlds.fewshot.world import build_fewshot
from toyvit.data.worlds.glyphs.world import build_induction
from toyvit.data.worlds.markov.world import build_markov
from toyvit.data.worlds.objects.world import build_objects
from toyvit.data.worlds.pointers.world import build_pointers
from toyvit.data.worlds.relations.world import build_relations
from toyvit.data.worlds.repeats.world import build_repeats
from toyvit.data.worlds.sort_of_clevr.world import build_sort_of_clevr
from toyvit.errors import BadField, BadInput

__all__ = [
    "TASKS",
    "WORLDS",
    "Batch",
    "OperandTable",
    "Retrieval",
    "Task",
    "accuracy",
    "loss",
    "resolve_config",
    "build_task",
]

TASKS: dict[str, Callable[[Any], Task]] = {
    "classify": build_classify,
    "regress": build_regress,
    "reconstruct": build_reconstruct,
    "induction": build_induction,
    "markov": build_markov,
    "repeats": build_repeats,
    "addition": build_addition,
    "counting": build_counting,
    "dsprites": build_dsprites,
    "fewshot": build_fewshot,
    "sort-of-clevr": build_sort_of_clevr,
    "objects": build_objects,
    "relations": build_relations,
    "pointers": build_pointers,
}


def build_task(config: TaskConfig) -> Task:
    """The task that a config describes."""
    return TASKS[config.name](config)


def resolve_config(run: RunConfig) -> RunConfig:
    """The run with what its task decides about the model filled in: picture, patches where cells fix them, classes."""
    from toyvit.model import options

    made = build_task(run.task)
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
            raise BadInput(
                f"model.{name} is {given}, but the task {run.task.name} has {value}: say --model.{name} none"
            )
    try:
        model: ModelConfig = replace(run.model, **decided)
    except BadField as error:
        raise BadInput(f"model.{error.field} {error.problem}") from None
    options.check_options(model)
    if model.patch_size is None:
        raise BadInput(
            f"model.patch_size is not given, and the task {run.task.name} does not fix it"
        )
    _check_readout(run, made, model.readout)
    return replace(run, model=model)


# What a read-out gives, and what a task may ask for.
GIVES = {"cls": "image", "mean": "image", "last": "image", "every": "patch", "pixels": "pixels"}


def _check_readout(run: RunConfig, made: Task, readout: str) -> None:
    if GIVES[readout] != made.output_kind:
        allowed = [name for name, gives in GIVES.items() if gives == made.output_kind]
        raise BadInput(
            f"model.readout {readout!r} gives one answer for each {GIVES[readout]}, the task {run.task.name} asks for one for "
            f"each {made.output_kind}: allowed are {', '.join(allowed)}"
        )
