"""Config records for the laws: every field, what it must refuse, and another value it takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import Field, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any

from hypothesis import strategies as st

from tests.laws.models import TABLES, configs
from toyvit.config import ModelConfig, RunConfig, Seeds, TrainConfig
from toyvit.config.field_types import Choice, FieldType, OneOf, Scalar, Several
from toyvit.config.fields import read_field_types
from toyvit.data import worlds
from toyvit.errors import BadInput
from toyvit.recipes import RECIPES

KINDS: list[type[Any]] = [ModelConfig, TrainConfig, Seeds, *worlds.list_task_configs().values()]
FIELDS = [(kind, item) for kind in KINDS for item in fields(kind)]
IDS = [f"{kind.__name__}.{item.name}" for kind, item in FIELDS]
NOWHERE = [None, {}, b"x", [2, 3], (), ("text", None)]  # no single value is one of these
NOT_A_NUMBER = [*NOWHERE, "3", True, math.nan, math.inf, -math.inf, (2, 3)]
# Values that are not of a type.
WRONG: dict[type, list[Any]] = {
    int: [*NOT_A_NUMBER, 1.5],
    float: NOT_A_NUMBER,
    bool: [*NOWHERE, "true", 1, 0.0],
    str: [*NOWHERE, 3, Path("text")],
    Path: [*NOWHERE, 3, "text"],
}
GOOD: dict[type, Any] = {int: 4, float: 4.0, bool: True, str: "0.0:previous", Path: Path("text")}


def refused(kind: type[Any], item: Field[Any]) -> list[Any]:
    """Values of the wrong type, NaN, infinities, and the nearest ones outside the stated range."""
    return list_wrong(read_field_types(kind)[item.name], item.metadata)


def list_wrong(kind: FieldType, limits: Any) -> list[Any]:
    """What a field of this type must refuse."""
    if isinstance(kind, OneOf):
        (valued,) = (option for option in kind.options if option != Scalar(NoneType))
        return [value for value in list_wrong(valued, limits) if value is not None]
    if isinstance(kind, Choice):
        return [*WRONG[str], "no-such"]
    if isinstance(kind, Several):
        return [*_list_wrong_tuples(kind, limits)]
    assert isinstance(kind, Scalar)
    return [*WRONG[kind.kind], *_list_out_of_range(kind, limits)]


def _list_out_of_range(kind: Scalar, limits: Any) -> Iterator[Any]:
    step = 1 if kind.kind is int else 1e-9
    if limits.get("least") is not None:
        yield limits["least"] - step
    if limits.get("above") is not None:
        yield from [limits["above"], limits["above"] - step]
    if limits.get("most") is not None:
        yield limits["most"] + step


def _list_wrong_tuples(kind: Several, limits: Any) -> Iterator[Any]:
    part = kind.parts[0]
    assert isinstance(part, Scalar)
    good = [GOOD[part.kind]] * (2 if kind.endless else len(kind.parts))
    yield from [None, 4, "text", {}, good]
    for wrong in list_wrong(part, limits):
        yield (*good[1:], wrong)
    if not kind.endless:
        yield from [(), tuple(good[1:]), (*good, good[0])]


def others(record: Any, item: Field[Any]) -> list[Any]:
    """Values near the field's own that it may take."""
    now = getattr(record, item.name)
    kind = read_field_types(type(record))[item.name]
    if isinstance(kind, OneOf):
        (kind,) = (option for option in kind.options if option != Scalar(NoneType))
    if isinstance(kind, Choice):
        return list(kind.allowed)
    if isinstance(kind, Several):
        return _list_tuples(kind)
    assert isinstance(kind, Scalar)
    return _list_near(kind.kind, now, item.name)


def _list_tuples(kind: Several) -> list[Any]:
    if kind.parts[0] == Scalar(str):
        return [("0.0:previous", "1:copy@3"), ("alike=0.8", "alike=0.5@3")]
    return [(0, 10, 100)] if kind.endless else [(12, 20), (28, 28)]


def _list_near(kind: type, now: Any, name: str) -> list[Any]:
    if kind is bool:
        return [not now]
    if kind is str:
        return list(TABLES.get(name, ["another"]))
    if now is None:
        return [4, 7]
    if kind is float:
        return [now / 2 + 0.001, now + 0.5]
    return [now + 1, now * 2, now - 1, now // 2]


def another(record: Any, item: Field[Any]) -> Any:
    """The record with another value of one field; None where no other value goes with the rest."""
    for value in others(record, item):
        try:
            if value != getattr(record, item.name):
                return replace(record, **{item.name: value})
        except BadInput:
            continue
    return None


@st.composite
def runs(draw: st.DrawFn) -> RunConfig:
    """Any recipe with any model and with some fields of its other parts changed."""
    run = RECIPES[draw(st.sampled_from(list(RECIPES)))]()
    if draw(st.booleans()):
        run = replace(run, model=draw(configs()))
    for _ in range(draw(st.integers(0, 3))):
        part = draw(st.sampled_from(["task", "train", "seeds", "model"]))
        record = getattr(run, part)
        item = draw(st.sampled_from(fields(record)))
        run = replace(run, **{part: another(record, item) or record})
    return run
