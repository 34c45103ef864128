"""What a model from elsewhere is shown, as the config of its run, and how it scores there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from toyvit.bridges.descriptions import Description
from toyvit.config import ModelConfig, RunConfig, TrainConfig
from toyvit.config.fields import build_record
from toyvit.data.question_configs import LookConfig
from toyvit.data.task import Batch, accuracy, build_task, loss, resolve_config
from toyvit.errors import BadField, BadInput
from toyvit.model import ViT

N_VALIDATION = 64


def describe_run(
    model: ModelConfig,
    recipe: str,
    described: Description,
    pictures: Mapping[str, object],
    steps: Sequence[int],
) -> RunConfig:
    """The config of a run of such a model, by the name of its family.

    `pictures` are the fields of `LookConfig` that a user gives; the size and the channels are the
    model's. A model without classes gets those of its pictures. BadInput where they do not fit.
    """
    n_classes = model.n_classes
    names = described.answers if len(described.answers) == n_classes else ()
    shown: dict[str, object] = {
        "size": model.image_size,
        "channels": model.n_channels,
        "mean": described.mean,
        "deviation": described.deviation,
        "answers": names,
        "n_answers": n_classes or 1,
        **pictures,
    }
    try:
        task: LookConfig = build_record(LookConfig, shown)
    except BadField as error:
        raise BadInput(f"task.{error.field} {error.problem}") from None
    if n_classes is None:
        task = _name_answers(task)
    if task.answers and len(task.answers) != task.n_answers:
        raise BadInput(f"task.answers names {len(task.answers)} classes of {task.n_answers}")
    if len(set(task.answers)) < len(task.answers):
        raise BadInput("task.answers must be different: a class is found by its name")
    train = TrainConfig(steps=max(1, *steps), checkpoints=tuple(steps), n_validation=N_VALIDATION)
    named = replace(model, n_classes=task.n_answers)
    return resolve_config(RunConfig(recipe=recipe, task=task, model=named, train=train))


def _name_answers(task: LookConfig) -> LookConfig:
    """The classes of the pictures themselves, for a model that has none."""
    world = build_task(task).world
    factor = getattr(world, "class_factor", "")
    if not factor:
        raise BadInput(
            "the model has no head, and its pictures have no classes to fit one to: give"
            " --task.folder, --task.npz or a --task.world with classes"
        )
    names = getattr(world, "class_names", ())
    return replace(task, n_answers=world.factors[factor], answers=tuple(names))


@torch.no_grad()
def score_known(model: ViT, batch: Batch) -> dict[str, float | None]:
    """Loss and accuracy of the pictures whose class is known; None where none is."""
    if not batch.is_answered:
        return {"loss": None, "accuracy": None}
    logits = model(batch.images)
    return {
        "loss": loss(logits, batch.target).item(),
        "accuracy": accuracy(logits, batch.target).item(),
    }
