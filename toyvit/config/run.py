"""What a run is: model, task, training and seeds, to and from JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from toyvit.config.clamps import Clamp
from toyvit.config.fields import Checked, build_record, number
from toyvit.config.model import ModelConfig
from toyvit.config.tasks import TaskConfig
from toyvit.data import worlds
from toyvit.errors import BadField, BadInput, choose


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Checked):
    """The optimiser (AdamW), its schedule, and when to keep a checkpoint."""

    steps: int = number(2000, least=1)
    batch_size: int = number(64, least=1)
    learning_rate: float = number(5e-4, above=0)
    warmup: int = number(100, least=0)  # steps of linear warm-up
    decay: str = "constant"  # what follows the warm-up: a key of `rate.py` DECAYS
    beta1: float = number(0.9, least=0, most=0.9999)
    beta2: float = number(0.99, least=0, most=0.999999)
    epsilon: float = number(1e-8, above=0)
    weight_decay: float = number(0.01, least=0)
    clip: float = number(1.0, above=0)  # largest gradient norm
    checkpoints: tuple[int, ...] | None = number(
        None, least=0
    )  # steps to keep; None: the lab's schedule
    n_validation: int = number(
        512, least=1
    )  # images in the frozen batch scored at every checkpoint
    threads: int = number(1, least=1)
    accelerator: str = "auto"
    clamps: tuple[
        str, ...
    ] = ()  # heads held while training, `0.3:previous@500`; see `circuits/clamps.py`

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            spelt = tuple(str(Clamp.parse(text)) for text in self.clamps)
        except BadInput as error:
            raise BadField("TrainConfig", "clamps", f"cannot be read: {error}") from None
        object.__setattr__(self, "clamps", spelt)  # in one spelling, so that equal runs are equal


@dataclass(frozen=True, kw_only=True)
class Seeds(Checked):
    """Separate seeds, so that one can be varied alone."""

    init: int = number(0, least=0, most=2**32 - 1)  # weights at step 0, and dropout
    data: int = number(0, least=0, most=2**32 - 1)  # training samples
    measure: int = number(0, least=0, most=2**32 - 1)  # evaluation images


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One experiment, whole: everything that decides its bits."""

    recipe: str
    task: TaskConfig
    model: ModelConfig
    train: TrainConfig
    seeds: Seeds = Seeds()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` gives an equal Run back."""
        plain = asdict(self) | {"task": {"name": self.task.name} | asdict(self.task)}
        return json.loads(json.dumps(plain))

    @staticmethod
    def from_json(plain: dict[str, Any]) -> RunConfig:
        parts = dict(plain)
        task = dict(parts.pop("task", {}))
        tasks = worlds.list_task_configs()
        name = choose(str(task.pop("name", "")), tasks, "task")
        recipe = str(parts.pop("recipe", ""))
        kinds: dict[str, Any] = {"model": ModelConfig, "train": TrainConfig, "seeds": Seeds}
        for key in parts:
            choose(key, kinds, "part of a run")
        records = {key: build_record(kind, parts.get(key, {})) for key, kind in kinds.items()}
        return RunConfig(recipe=recipe, task=build_record(tasks[name], task), **records)


def list_differences(one: RunConfig, other: RunConfig) -> list[str]:
    """Lines `model.n_layers: 2 -> 3`, one for each field in which two runs differ."""
    left, right = _flat(one.to_json()), _flat(other.to_json())
    keys = sorted(left.keys() | right.keys())
    return [
        f"{key}: {left.get(key)} -> {right.get(key)}"
        for key in keys
        if left.get(key) != right.get(key)
    ]


def _flat(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in plain.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return out


def replace_seed(run: RunConfig, seed: int) -> RunConfig:
    """The same run with another seed for weights and training data; evaluation images stay."""
    return replace(run, seeds=replace(run.seeds, init=seed, data=seed))
