"""Records that check themselves: types and ranges of their fields, unknown keys, plain JSON."""

from __future__ import annotations

from dataclasses import Field, field, fields
from typing import Any, ClassVar, get_type_hints

from toyvit.config.field_types import Choice, FieldType, Limits, read_type
from toyvit.errors import BadField, BadInput, suggest_nearest

Limited = tuple[str, FieldType, Limits]  # a field's name, type and range
_FIELD_TYPES: dict[type, dict[str, FieldType]] = {}  # what was read, by record
_LIMITED: dict[type, list[Limited]] = {}


def number(
    default: Any, least: float | None = None, above: float | None = None, most: float | None = None
) -> Any:
    """A dataclass field that must lie in a range; NaN and infinity never do."""
    return field(default=default, metadata={"least": least, "above": above, "most": most})


def choice(*allowed: str) -> Any:
    """A dataclass field that must be one of these texts; the first is the default."""
    return field(default=allowed[0], metadata={"allowed": allowed})


class Checked:
    """Checks every field's type and range when a record is made.

    `later` names fields that came after the first records were written.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    later: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for name, field_type, limits in _list_limited(self):
            problem = field_type.find_problem(getattr(self, name), limits)
            if problem:
                raise BadField(type(self).__name__, name, problem)

    def list_values(self) -> dict[str, object]:
        """The fields by name, later ones where they are not at their default.

        Records from before these, and what is hashed of them, stay as they are.
        """
        values: dict[str, object] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name not in self.later or value != item.default:
                values[item.name] = value
        return values


def _list_limited(record: Checked) -> list[Limited]:
    kind = type(record)
    if kind not in _LIMITED:
        types = read_field_types(kind)
        _LIMITED[kind] = [(item.name, types[item.name], item.metadata) for item in fields(kind)]
    return _LIMITED[kind]


def read_field_types(kind: type[Any]) -> dict[str, FieldType]:
    """The type of each field of a record, by name; BadInput for one that a config cannot hold."""
    if kind not in _FIELD_TYPES:
        hints = get_type_hints(kind)
        _FIELD_TYPES[kind] = {
            item.name: _read_field_type(kind, item, hints[item.name]) for item in fields(kind)
        }
    return _FIELD_TYPES[kind]


def _read_field_type(kind: type[Any], item: Field[Any], hint: object) -> FieldType:
    if "allowed" in item.metadata:
        return Choice(item.metadata["allowed"])
    try:
        return read_type(hint)
    except BadInput as error:
        raise BadInput(f"{kind.__name__}.{item.name}: {error}") from None


def build_record(kind: type[Any], values: dict[str, Any]) -> Any:
    """A config record from plain JSON values; unknown keys are refused with the nearest match."""
    types = read_field_types(kind)
    for key in values:
        if key not in types:
            raise BadInput(
                f"unknown key {key!r} in {kind.__name__}: "
                f"allowed are {', '.join(types)}{suggest_nearest(key, types)}"
            )
    return kind(**{key: types[key].read_plain(value) for key, value in values.items()})
