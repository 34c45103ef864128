"""Frozen records that say what a run is: its model, its task, its training and its seeds."""

from toyvit.config.clamps import Clamp
from toyvit.config.model import ModelConfig
from toyvit.config.rate import DECAYS, learning_rate, rate_changes
from toyvit.config.run import Run, Seeds, TrainConfig, differences, with_seed
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
    "Run",
    "Seeds",
    "SortOfClevrConfig",
    "TaskConfig",
    "TrainConfig",
    "differences",
    "learning_rate",
    "rate_changes",
    "with_seed",
]
