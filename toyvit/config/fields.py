"""Records that check themselves: types and ranges of their fields, unknown keys, plain JSON."""

from __future__ import annotations

import math
from dataclasses import field, fields
from typing import Any, get_type_hints

from toyvit.errors import BadField, BadInput, suggest_nearest


def number(
    default: Any, least: float | None = None, above: float | None = None, most: float | None = None
) -> Any:
    """A dataclass field that must lie in a range; NaN and infinity never do."""
    return field(default=default, metadata={"least": least, "above": above, "most": most})


def choice(*allowed: str) -> Any:
    """A dataclass field that must be one of these texts; the first is the default."""
    return field(default=allowed[0], metadata={"allowed": allowed})


class Checked:
    """Checks every field's type and range when a record is made."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for item in fields(self):  # type: ignore[arg-type]
            if problem := _problem(getattr(self, item.name), hints[item.name], item.metadata):
                raise BadField(type(self).__name__, item.name, problem)


def _problem(value: Any, hint: Any, limits: Any) -> str:
    """What the value of a field must be and is not; empty where it is good."""
    text = str(hint)
    if value is None and "None" in text:
        return ""
    if "tuple" in text and not isinstance(value, tuple):
        return f"must be a list of {'texts' if 'str' in text else 'numbers'}, got {value!r}"
    if "tuple[int, int]" in text and len(value) != 2:
        return f"must be two numbers, got {value!r}"
    values = value if "tuple" in text else (value,)
    kind = int if "int" in text else float if "float" in text else bool if "bool" in text else None
    if kind in (int, float):
        for one in values:
            if isinstance(one, bool) or not isinstance(one, int if kind is int else (int, float)):
                return f"must be {'a whole number' if kind is int else 'a number'}, got {one!r}"
            if problem := _out_of_range(one, limits):
                return problem
    elif kind is bool and not isinstance(value, bool):
        return f"must be true or false, got {value!r}"
    elif hint is str and not isinstance(value, str):
        return f"must be text, got {value!r}"
    elif value not in (allowed := limits.get("allowed", (value,))):
        return f"cannot be {value!r}: allowed are {', '.join(allowed)}{suggest_nearest(value, allowed)}"
    return ""


def _out_of_range(value: float, limits: Any) -> str:
    least, above, most = (limits.get(key) for key in ("least", "above", "most"))
    allowed = [f">= {least}" for _ in [0] if least is not None]
    allowed += [f"> {above}" for _ in [0] if above is not None]
    allowed += [f"<= {most}" for _ in [0] if most is not None]
    good = math.isfinite(value)
    good = good and (least is None or value >= least) and (above is None or value > above)
    if good and (most is None or value <= most):
        return ""
    return f"must be {' and '.join(allowed) or 'finite'}, got {value}"


def build_record(kind: type[Any], values: dict[str, Any]) -> Any:
    """A config record from plain JSON values; unknown keys are refused with the nearest match."""
    known = [item.name for item in fields(kind)]
    for key in values:
        if key not in known:
            raise BadInput(
                f"unknown key {key!r} in {kind.__name__}: allowed are {', '.join(known)}{suggest_nearest(key, known)}"
            )
    return kind(
        **{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    )
