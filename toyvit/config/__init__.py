"""Frozen records that say what a run is: its model, its task, its training and its seeds.

The record of a task's options stands beside the code of the task; all of them are names here too:
`from toyvit.config import InductionConfig`.
"""

from typing import TYPE_CHECKING

from toyvit.config.clamps import Clamp
from toyvit.config.curriculum import plan_stages
from toyvit.config.model import ModelConfig
from toyvit.config.run import PATHS, RunConfig, Seeds, TrainConfig, list_differences, replace_seed
from toyvit.config.schedule import (
    DECAYS,
    N_KEPT_STATES,
    find_events,
    find_rate_changes,
    find_rate_difference,
    find_task_changes,
    learning_rate,
    plan_checkpoints,
    plan_states,
    sum_rates,
)
from toyvit.config.tasks import TaskConfig
from toyvit.data import worlds

__all__ = [
    "DECAYS",
    "N_KEPT_STATES",
    "PATHS",
    "Clamp",
    "ModelConfig",
    "RunConfig",
    "Seeds",
    "TaskConfig",
    "TrainConfig",
    "find_events",
    "find_rate_changes",
    "find_rate_difference",
    "find_task_changes",
    "learning_rate",
    "list_differences",
    "plan_checkpoints",
    "plan_stages",
    "plan_states",
    "replace_seed",
    "sum_rates",
]


if not TYPE_CHECKING:  # to a type checker a misspelt name stays an error

    def __getattr__(name: str) -> type[TaskConfig]:
        """The record of a task's options, by the name of its class."""
        if name.endswith("Config"):
            for kind in worlds.list_task_configs().values():
                if kind.__name__ == name:
                    return kind
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
