"""What a run is: model, task, training and seeds, to and from JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from toyvit.config.clamps import Clamp
from toyvit.config.curriculum import read_changes
from toyvit.config.extensions import Origin
from toyvit.config.fields import Checked, build_record, choice, number
from toyvit.config.foreign_files import JsonObject
from toyvit.config.model import ModelConfig
from toyvit.config.tasks import MissingTaskConfig, TaskConfig
from toyvit.data import worlds
from toyvit.errors import BadField, BadInput, choose

# How a run computes logits, from its first step to its last: the two differ in the last bits.
PATHS = {
    "full": "every token of every block",
    "read": "in the last block, only the token that the head reads",
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Checked):
    """The optimiser, its schedule, and when to keep a checkpoint.

    steps         updates
    optimizer     `adamw`; `adam`, which decays no weights; or `sgd`, which has no use for betas and
                  epsilon, and adds weight_decay times the weights to their gradients
    momentum      of `sgd`
    warmup        steps of linear warm-up
    decay         what follows the warm-up: a key of `DECAYS`
    clip          largest gradient norm
    checkpoints   steps to keep; None: the lab's schedule
    n_validation  images in the frozen batch that is scored at every checkpoint
    path          how logits are computed, a key of `PATHS`; None: `read`, but `full` where a clamp
                  holds a pattern
    clamps        heads that are held while training, `0.3:previous@500`: see `CLAMPS`
    curriculum    what training shows before it shows the task, `alike=0.8`, `alike=0.5@1440`: see
                  `plan_stages`
    """

    later: ClassVar[tuple[str, ...]] = ("optimizer", "momentum", "curriculum")

    steps: int = number(2000, least=1)
    batch_size: int = number(64, least=1)
    learning_rate: float = number(5e-4, above=0)
    warmup: int = number(100, least=0)
    decay: str = "constant"
    optimizer: str = choice("adamw", "adam", "sgd")
    momentum: float = number(0.0, least=0, most=0.9999)
    beta1: float = number(0.9, least=0, most=0.9999)
    beta2: float = number(0.99, least=0, most=0.999999)
    epsilon: float = number(1e-8, above=0)
    weight_decay: float = number(0.01, least=0)
    clip: float = number(1.0, above=0)
    checkpoints: tuple[int, ...] | None = number(None, least=0)
    n_validation: int = number(256, least=1)
    path: str | None = None
    threads: int = number(1, least=1)
    accelerator: str = "auto"
    clamps: tuple[str, ...] = ()
    curriculum: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_optimizer()
        # In one spelling, so that equal runs are equal.
        self._spell("clamps", lambda texts: map(Clamp.parse, texts))
        self._spell("curriculum", read_changes)

    def _check_optimizer(self) -> None:
        """BadField for what the optimiser does not have."""
        if self.optimizer == "adam" and self.weight_decay:
            problem = f"must be 0 with optimizer 'adam' (adamw has one), got {self.weight_decay:g}"
            raise BadField("TrainConfig", "weight_decay", problem)
        if self.optimizer != "sgd" and self.momentum:
            problem = f"is of optimizer 'sgd': with {self.optimizer!r} it must be 0"
            raise BadField("TrainConfig", "momentum", problem)

    def _spell(self, name: str, read: Callable[[tuple[str, ...]], Iterable[object]]) -> None:
        """A field of texts as the lab writes them; BadField for one that cannot be read."""
        try:
            spelt = tuple(str(part) for part in read(getattr(self, name)))
        except BadInput as error:
            raise BadField("TrainConfig", name, f"cannot be read: {error}") from None
        object.__setattr__(self, name, spelt)


@dataclass(frozen=True, kw_only=True)
class Seeds(Checked):
    """Separate seeds, so that one can be varied alone.

    init     weights at step 0, and dropout
    data     training samples
    measure  evaluation images
    """

    init: int = number(0, least=0, most=2**32 - 1)
    data: int = number(0, least=0, most=2**32 - 1)
    measure: int = number(0, least=0, most=2**32 - 1)


MOST_BUILT = 256
_BUILT: dict[tuple[type[Checked], str], Checked] = {}  # of what was read, the last records
Record = TypeVar("Record", bound=Checked)
# The records of a run but for its task, whose record depends on its name.
RECORDS: dict[str, type[Checked]] = {"model": ModelConfig, "train": TrainConfig, "seeds": Seeds}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One experiment, whole: everything that decides its bits."""

    recipe: str
    task: TaskConfig
    model: ModelConfig
    train: TrainConfig
    seeds: Seeds = Seeds()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` gives an equal record back.

        Later fields at their defaults are left out: `Checked.later`.
        """
        plain = {"recipe": self.recipe, "task": self.task.to_json()}
        plain |= {part: getattr(self, part).list_values() for part in RECORDS}
        return json.loads(json.dumps(plain, default=str))

    @staticmethod
    def from_json(plain: dict[str, Any], origins: Mapping[str, Origin] | None = None) -> RunConfig:
        """The config that `to_json` described; BadInput for what it cannot be.

        `origins` says where tasks that may not be known here come from, by name.
        """
        parts = dict(plain)
        recipe = str(parts.pop("recipe", ""))
        task = _read_task(dict(parts.pop("task", {})), origins or {})
        for key in parts:
            choose(key, RECORDS, "part of a run")

        if isinstance(parts.get("train"), dict):  # a run from before paths had names
            parts["train"] = {"path": "full"} | parts["train"]
        return RunConfig(
            recipe=recipe,
            task=task,
            model=_build_once(ModelConfig, parts.get("model", {})),
            train=_build_once(TrainConfig, parts.get("train", {})),
            seeds=_build_once(Seeds, parts.get("seeds", {})),
        )


def _read_task(options: dict[str, Any], origins: Mapping[str, Origin]) -> TaskConfig:
    """The record of a task's options; one whose world is not here keeps them as they are."""
    name = str(options.pop("name", ""))
    try:
        kind = worlds.find_task_config(name)
    except BadInput:
        if name not in origins:
            raise
        return MissingTaskConfig(task=name, origin=origins[name], options=options)
    return _build_once(kind, options)


def _build_once(kind: type[Record], options: JsonObject) -> Record:
    """`build_record`, once for equal options: in a folder of runs many parts are alike."""
    key = (kind, repr(options))
    record = _BUILT.get(key)
    if not isinstance(record, kind):
        if len(_BUILT) >= MOST_BUILT:
            _BUILT.clear()
        record = build_record(kind, options)
        _BUILT[key] = record
    return record


def list_differences(run: RunConfig, other: RunConfig) -> list[str]:
    """Lines `model.n_layers: 2 -> 3`, one for each field in which two runs differ."""
    left = flatten(run.to_json())
    right = flatten(other.to_json())
    keys = sorted(left.keys() | right.keys())
    return [
        f"{key}: {left.get(key)} -> {right.get(key)}"
        for key in keys
        if left.get(key) != right.get(key)
    ]


def flatten(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested record as one, its keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def replace_seed(run: RunConfig, seed: int) -> RunConfig:
    """The same run with another seed for weights and training data; evaluation images stay."""
    return replace(run, seeds=replace(run.seeds, init=seed, data=seed))
