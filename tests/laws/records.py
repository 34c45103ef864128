"""Config records for the laws: every field of every record, what it must refuse, and another value that it takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import Field, fields, replace
from typing import Any, get_type_hints

from hypothesis import strategies as st

from tests.laws.models import TABLES, configs
from toyvit.config import ModelConfig, RunConfig, Seeds, TrainConfig
from toyvit.data import worlds
from toyvit.errors import BadInput
from toyvit.recipes import RECIPES

KINDS: list[type[Any]] = [ModelConfig, TrainConfig, Seeds, *worlds.list_task_configs().values()]
FIELDS = [(kind, item) for kind in KINDS for item in fields(kind)]
IDS = [f"{kind.__name__}.{item.name}" for kind, item in FIELDS]


def hint(kind: type[Any], item: Field[Any]) -> str:
    """The field's type in words: `int`, `tuple[int, int] | None`."""
    found = get_type_hints(kind)[item.name]
    return found.__name__ if isinstance(found, type) and "[" not in str(found) else str(found)


def refused(kind: type[Any], item: Field[Any]) -> Iterator[Any]:
    """Values of the wrong type, NaN, infinities, and the nearest ones outside the stated range."""
    words = hint(kind, item)
    scalar = "tuple" not in words
    bad: list[Any] = [{}, b"x"]
    if "None" not in words:
        bad.append(None)
    if "int" in words or "float" in words:
        bad += ["3", True, math.nan, math.inf, -math.inf]
        least, above, most = (item.metadata.get(key) for key in ("least", "above", "most"))
        step = 1 if "int" in words else 1e-9
        bad += [] if least is None else [least - step]
        bad += [] if above is None else [above, above - step]
        bad += [] if most is None else [most + 1]
        bad += [] if "float" in words else [1.5]
        if scalar:
            bad += [(2, 3), [2, 3], ()]
        else:
            bad = [*bad, 4, *((4, one) for one in bad)]
    elif words == "bool":
        bad += ["true", 1, 0.0]
    else:
        bad += [3, ("text",), *["no-such"] * ("allowed" in item.metadata)]
    if "tuple[int, int]" in words:
        bad += [(), (4,), (4, 4, 4)]
    yield from bad


def _texts(record: Any, name: str) -> list[str]:
    """What a text field may be: a table's keys, or what the field itself says is allowed."""
    (allowed,) = (
        item.metadata.get("allowed", ("another",)) for item in fields(record) if item.name == name
    )
    return list(TABLES.get(name, allowed))


def others(record: Any, item: Field[Any]) -> Iterator[Any]:
    """Values near the field's own that it may take."""
    now, words = getattr(record, item.name), hint(type(record), item)
    if words == "bool":
        yield not now
    elif words == "str":
        yield from _texts(record, item.name)
    elif "tuple[int, int]" in words:
        yield from [(12, 20), (28, 28)]
    elif "tuple[str" in words:
        yield ("0.0:previous", "1:copy@3")
    elif "tuple" in words:
        yield (0, 10, 100)
    elif "float" in words:
        yield from [now / 2 + 0.001, now + 0.5]
    else:
        yield from [now + 1, now * 2, now - 1, now // 2] if isinstance(now, int) else [4, 7]


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
        run = replace(
            run, **{part: another(record, draw(st.sampled_from(fields(record)))) or record}
        )
    return run
