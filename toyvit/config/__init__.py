"""Frozen records that say what a run is: its model, its task, its training and its seeds."""

from toyvit.config.clamps import Clamp
from toyvit.config.model import ModelConfig
from toyvit.config.run import RunConfig, Seeds, TrainConfig, list_differences, replace_seed
from toyvit.config.schedule import DECAYS, find_rate_changes, learning_rate
from toyvit.config.tasks import (
    TASK_CONFIGS,
    AdditionConfig,
    ClassifyConfig,
    CountingConfig,
    DspritesConfig,
    FewshotConfig,
    InductionConfig,
    MarkovConfig,
    ObjectsConfig,
    PointersConfig,
    ReconstructConfig,
    RegressConfig,
    RelationsConfig,
    RepeatsConfig,
    SortOfClevrConfig,
    TaskConfig,
)

__all__ = [
    "DECAYS",
    "TASK_CONFIGS",
    "AdditionConfig",
    "Clamp",
    "ClassifyConfig",
    "CountingConfig",
    "DspritesConfig",
    "FewshotConfig",
    "InductionConfig",
    "MarkovConfig",
    "ModelConfig",
    "ObjectsConfig",
    "PointersConfig",
    "ReconstructConfig",
    "RegressConfig",
    "RelationsConfig",
    "RepeatsConfig",
    "RunConfig",
    "Seeds",
    "SortOfClevrConfig",
    "TaskConfig",
    "TrainConfig",
    "list_differences",
    "learning_rate",
    "find_rate_changes",
    "replace_seed",
]
