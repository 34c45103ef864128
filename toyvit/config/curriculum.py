"""How a run says that its task is easier at first: `alike=0.8`, `alike=0.5@1440`.

Training alone sees other options than the task's. What a run is scored on, at every checkpoint, are
pictures of its task as it stands in the config, which is the task that the curriculum ends with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

from toyvit.config.field_types import format_value
from toyvit.config.fields import read_field_types
from toyvit.config.tasks import TaskConfig
from toyvit.errors import BadField, BadInput, choose

if TYPE_CHECKING:
    from toyvit.config.run import RunConfig

SPELLING = "OPTION=VALUE@STEP, or OPTION=VALUE from step 0 on; several stand between commas"
PATTERN = re.compile(r"(?P<option>\w+)=(?P<value>[^=@,\s]+)(@(?P<start>\d+))?")


@dataclass(frozen=True, kw_only=True)
class TaskChange:
    """Training shows pictures of the task with `option` at `value`, from step `start` on.

    That is, to a model that has seen at least `start` updates.

    >>> TaskChange.parse("alike=0.5@1440")
    TaskChange(option='alike', value='0.5', start=1440)
    """

    option: str
    value: str  # as it is typed
    start: int = 0

    @staticmethod
    def parse(text: str) -> TaskChange:
        """A change from its spelling; BadInput for any other text."""
        match = PATTERN.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise BadInput(f"a change of the task is spelt {SPELLING}, got {text!r}")
        start = int(match["start"] or 0)
        return TaskChange(option=match["option"], value=match["value"], start=start)

    def __str__(self) -> str:
        start = f"@{self.start}" if self.start else ""
        return f"{self.option}={self.value}{start}"


def read_changes(curriculum: Sequence[str]) -> list[TaskChange]:
    """The changes of a curriculum; BadInput where their steps do not ascend."""
    changes = [TaskChange.parse(text) for text in curriculum]
    for before, change in pairwise(changes):
        if change.start < before.start:
            raise BadInput(f"{str(change)!r} comes after {str(before)!r}: steps must ascend")

    places = [(change.option, change.start) for change in changes]
    for place, change in zip(places, changes, strict=True):
        if places.count(place) > 1:
            raise BadInput(f"{change.option} has two values at step {change.start}")
    return changes


def plan_stages(task: TaskConfig, curriculum: Sequence[str]) -> dict[int, TaskConfig]:
    """The task that training shows from each of these steps on, ascending from 0.

    BadInput for an option that a curriculum cannot change, for a value that it cannot have, and
    where the last task is not the run's.

    >>> from toyvit.data.worlds.relations.config import RelationsConfig
    >>> stages = plan_stages(RelationsConfig(), ["alike=0.8", "alike=0.5@1440"])
    >>> {start: stage.alike for start, stage in stages.items()}
    {0: 0.8, 1440: 0.5}
    """
    stages = {0: task}
    values: dict[str, object] = {}
    for start, changes in groupby(read_changes(curriculum), lambda change: change.start):
        values |= {change.option: _read_value(task, change) for change in changes}
        stages[start] = _set_options(task, values, start)

    for option, value in values.items():
        if value != getattr(task, option):
            last = format_value(value)
            own = format_value(getattr(task, option))
            raise BadInput(
                f"train.curriculum ends with {option} {last}, but the task has {own}, which is "
                f"what is tested: say --task.{option} {last}, or end with {option}={own}@STEP"
            )
    return stages


def settle_curriculum(
    run: RunConfig, describe: Callable[[TaskConfig], Mapping[str, object]]
) -> tuple[str, ...]:
    """A run's curriculum with its values as the lab writes them, so that equal runs are equal.

    BadInput as `plan_stages`; where training would not reach a change; and where what `describe`
    says of the task would be another from there on.
    """
    curriculum = run.train.curriculum
    if not curriculum:
        return ()

    own = describe(run.task)
    for start, stage in plan_stages(run.task, curriculum).items():
        if start >= run.train.steps:
            raise BadInput(
                f"train.curriculum changes the task at step {start}, "
                f"but training ends at step {run.train.steps}"
            )
        other = describe(stage)
        for name, value in own.items():
            if other.get(name) != value:
                raise BadInput(
                    f"train.curriculum: from step {start} on the task would have {name} "
                    f"{other.get(name)}, but it has {value}, which cannot change while training"
                )
    return tuple(_spell(run.task, change) for change in read_changes(curriculum))


def _spell(task: TaskConfig, change: TaskChange) -> str:
    return str(replace(change, value=format_value(_read_value(task, change))))


def _read_value(task: TaskConfig, change: TaskChange) -> object:
    if not task.schedulable:
        raise BadInput(f"train.curriculum: the task {task.name} has no option that may change")
    choose(change.option, task.schedulable, "option of train.curriculum")
    kind = read_field_types(type(task))[change.option]
    try:
        return kind.parse(change.value)
    except ValueError:
        raise BadInput(
            f"train.curriculum: {change.option} takes {kind}, got {change.value!r}"
        ) from None


def _set_options(task: TaskConfig, values: Mapping[str, Any], start: int) -> TaskConfig:
    try:
        return replace(task, **values)
    except BadField as error:
        raise BadInput(f"train.curriculum: task.{error.field} {error.problem}") from None
    except BadInput as error:  # options that do not go together
        raise BadInput(f"train.curriculum, from step {start} on: {error}") from None
