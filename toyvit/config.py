"""What a run is: frozen records for the model, the task and the training, checked, to and from JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, ClassVar, get_type_hints

from toyvit.errors import BadInput, choose, nearest


def number(default: Any, least: float | None = None, above: float | None = None, most: float | None = None) -> Any:
    """A dataclass field that must lie in a range; NaN and infinity never do."""
    return field(default=default, metadata={"least": least, "above": above, "most": most})


class _Checked:
    """Checks every field's type and range when a record is made."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for item in fields(self):  # type: ignore[arg-type]
            _check(f"{type(self).__name__}.{item.name}", getattr(self, item.name), hints[item.name], item.metadata)


def _check(name: str, value: Any, hint: Any, limits: Any) -> None:
    text = str(hint)
    if value is None and "None" in text:
        return
    values = value if isinstance(value, tuple) else (value,)
    kind = int if "int" in text else float if "float" in text else bool if "bool" in text else None
    if kind in (int, float):
        for one in values:
            if isinstance(one, bool) or not isinstance(one, int if kind is int else (int, float)):
                raise BadInput(f"{name} must be {'a whole number' if kind is int else 'a number'}, got {one!r}")
            _check_range(name, one, limits)
    elif kind is bool and not isinstance(value, bool):
        raise BadInput(f"{name} must be true or false, got {value!r}")
    elif hint is str and not isinstance(value, str):
        raise BadInput(f"{name} must be text, got {value!r}")


def _check_range(name: str, value: float, limits: Any) -> None:
    least, above, most = (limits.get(key) for key in ("least", "above", "most"))
    allowed = [f">= {least}" for _ in [0] if least is not None]
    allowed += [f"> {above}" for _ in [0] if above is not None]
    allowed += [f"<= {most}" for _ in [0] if most is not None]
    good = math.isfinite(value)
    good = good and (least is None or value >= least) and (above is None or value > above)
    if not (good and (most is None or value <= most)):
        raise BadInput(f"{name} must be {' and '.join(allowed) or 'finite'}, got {value}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig(_Checked):
    """One vision transformer. Names in quotes are keys of the tables in `model/choices.py`.

    `image_size`, `patch_size`, `n_channels` and `n_classes` may be left to the task (None); a model that is
    built without a run must state them.
    """

    n_layers: int = number(2, least=1)
    n_heads: int = number(1, least=1)
    d_model: int = number(64, least=1)
    d_mlp: int = number(0, least=0)  # 0: attention only
    activation: str = "gelu"
    norm: str = "layer"
    norm_epsilon: float = number(1e-5, above=0)
    positions: str = "learned"
    position_scale: float = number(0.5, least=0)  # standard deviation of learned positions at the start
    mask: str = "bidirectional"
    window: int = number(1, least=1)  # the local mask: patches see this far in rows and columns
    cls_token: bool = True
    n_registers: int = number(0, least=0)
    readout: str = "cls"
    attention_bias: bool = False  # biases of q, k, v and the output projection
    bias: bool = True  # biases of the patch embedding, the MLP and the head
    dropout: float = number(0.0, least=0, most=0.99)
    image_size: tuple[int, int] | None = number(None, least=1)
    patch_size: int | None = number(None, least=1)
    n_channels: int | None = number(None, least=1)
    n_classes: int | None = number(None, least=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.d_model % self.n_heads:
            raise BadInput(f"d_model {self.d_model} is not a multiple of n_heads {self.n_heads}")
        if self.image_size is not None and self.patch_size is not None:
            height, width = self.image_size
            if height % self.patch_size or width % self.patch_size:
                raise BadInput(f"patches of {self.patch_size} x {self.patch_size} do not tile an image of {height} x {width}")
        for needed, value in (("readout", "cls"), ("mask", "no-cls-read")):
            if getattr(self, needed) == value and not self.cls_token:
                raise BadInput(f"{needed} {value!r} needs cls_token true, got false")

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_heads

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        height, width = self.stated("image_size")
        size = self.stated("patch_size")
        return height // size, width // size

    @property
    def n_patches(self) -> int:
        rows, columns = self.grid
        return rows * columns

    @property
    def n_prefix(self) -> int:
        """Tokens before the patches: CLS first, then the registers."""
        return int(self.cls_token) + self.n_registers

    @property
    def n_tokens(self) -> int:
        return self.n_prefix + self.n_patches

    @property
    def d_patch(self) -> int:
        """Pixel values in one patch."""
        return int(self.stated("n_channels") * self.stated("patch_size") ** 2)

    def stated(self, name: str) -> Any:
        """A field that must not be None by now."""
        value = getattr(self, name)
        if value is None:
            raise BadInput(f"ModelConfig.{name} is not stated: give it, or build the model through a run, whose task knows it")
        return value


@dataclass(frozen=True, kw_only=True)
class TaskConfig(_Checked):
    """Options of one task; each task has a subclass of its own in `TASK_CONFIGS`."""

    name: ClassVar[str]


@dataclass(frozen=True, kw_only=True)
class InductionConfig(TaskConfig):
    """Item-label pairs and a query on a grid of glyphs: which label followed the query's item?"""

    name: ClassVar[str] = "induction"
    rows: int = number(5, least=1, most=32)
    columns: int = number(5, least=1, most=32)
    n_items: int = number(64, least=1, most=256)
    n_labels: int = number(32, least=1, most=256)
    noise: float = number(0.3, least=0, most=10)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.n_pairs <= self.n_items:
            raise BadInput(
                f"a grid of {self.rows} x {self.columns} cells holds {self.n_pairs} pairs: "
                f"need at least 1 (3 cells) and at most n_items {self.n_items}"
            )

    @property
    def n_pairs(self) -> int:
        return (self.rows * self.columns - 1) // 2


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(TaskConfig):
    """Name the class of a picture from a collected data set (`world`)."""

    name: ClassVar[str] = "classify"
    world: str = "digits"


TASK_CONFIGS: dict[str, type[TaskConfig]] = {kind.name: kind for kind in (InductionConfig, ClassifyConfig)}


@dataclass(frozen=True, kw_only=True)
class TrainConfig(_Checked):
    """The optimiser (AdamW), its schedule, and when to keep a checkpoint."""

    steps: int = number(2000, least=1)
    batch_size: int = number(64, least=1)
    learning_rate: float = number(5e-4, above=0)
    warmup: int = number(100, least=0)  # steps of linear warm-up
    decay: str = "constant"  # what follows the warm-up: a key of `train/system.py` DECAYS
    beta1: float = number(0.9, least=0, most=0.9999)
    beta2: float = number(0.99, least=0, most=0.999999)
    weight_decay: float = number(0.01, least=0)
    clip: float = number(1.0, above=0)  # largest gradient norm
    checkpoints: tuple[int, ...] | None = number(None, least=0)  # steps to keep; None: the lab's schedule
    n_validation: int = number(512, least=1)  # images in the frozen batch scored at every checkpoint
    threads: int = number(1, least=1)
    accelerator: str = "auto"


@dataclass(frozen=True, kw_only=True)
class Seeds(_Checked):
    """Separate seeds, so that one can be varied alone."""

    init: int = number(0, least=0)  # weights at step 0, and dropout
    data: int = number(0, least=0)  # training samples
    measure: int = number(0, least=0)  # evaluation images


@dataclass(frozen=True, kw_only=True)
class Run:
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
    def from_json(plain: dict[str, Any]) -> Run:
        parts = dict(plain)
        task = dict(parts.pop("task", {}))
        name = choose(str(task.pop("name", "")), TASK_CONFIGS, "task")
        recipe = str(parts.pop("recipe", ""))
        kinds: dict[str, Any] = {"model": ModelConfig, "train": TrainConfig, "seeds": Seeds}
        for key in parts:
            choose(key, kinds, "part of a run")
        records = {key: record(kind, parts.get(key, {})) for key, kind in kinds.items()}
        return Run(recipe=recipe, task=record(TASK_CONFIGS[name], task), **records)


def record(kind: type[Any], values: dict[str, Any]) -> Any:
    """A config record from plain JSON values; unknown keys are refused with the nearest match."""
    known = [item.name for item in fields(kind)]
    for key in values:
        if key not in known:
            raise BadInput(f"unknown key {key!r} in {kind.__name__}: allowed are {', '.join(known)}{nearest(key, known)}")
    return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def differences(one: Run, other: Run) -> list[str]:
    """Lines `model.n_layers: 2 -> 3`, one for each field in which two runs differ."""
    left, right = _flat(one.to_json()), _flat(other.to_json())
    keys = sorted(left.keys() | right.keys())
    return [f"{key}: {left.get(key)} -> {right.get(key)}" for key in keys if left.get(key) != right.get(key)]


def _flat(plain: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in plain.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return out


def with_seed(run: Run, seed: int) -> Run:
    """The same run with another seed for weights and training data; evaluation images stay."""
    return replace(run, seeds=replace(run.seeds, init=seed, data=seed))
