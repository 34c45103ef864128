"""The types that fields of a config may have: read once, then used to check, parse and format.

Allowed are bool, int, float, str, Path, choices between texts (`Literal["point", "line"]`), tuples
of these (`tuple[int, int]`, `tuple[str, ...]`), and unions of these and None.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin

from toyvit.errors import BadInput, suggest_nearest

ALLOWED = (
    "bool, int, float, str, Path, a Literal of texts, tuples of these, unions of these and None"
)
NAMES: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    NoneType: "none",
}
PLURALS: dict[type, str] = {
    bool: "true or false",
    int: "whole numbers",
    float: "numbers",
    str: "texts",
    Path: "paths",
}
# Values that are typed as words.
WORDS: dict[type, dict[str, bool | None]] = {
    bool: {"true": True, "false": False},
    NoneType: {"none": None, "null": None},
}

Limits = Mapping[str, float | None]  # least, above, most


class FieldType(ABC):
    """What a field may hold. `str()` of it completes the sentence "must be ..."."""

    @abstractmethod
    def holds(self, value: object) -> bool:
        """Whether a value is of this type, whatever its range."""

    @abstractmethod
    def find_problem(self, value: object, limits: Limits) -> str:
        """What the value must be and is not; empty where it is good."""

    @abstractmethod
    def parse(self, text: str) -> object:
        """The value that is typed so; ValueError where there is none."""

    def read_plain(self, plain: object) -> object:
        """The value that stands so in JSON; where there is none, what came."""
        return plain


@dataclass(frozen=True)
class Scalar(FieldType):
    """A single value of one Python type. A whole number is a number too; true and false are not."""

    kind: type

    def __str__(self) -> str:
        return NAMES[self.kind]

    def holds(self, value: object) -> bool:
        if isinstance(value, bool):
            return self.kind is bool
        return isinstance(value, (int, float) if self.kind is float else self.kind)

    def find_problem(self, value: object, limits: Limits) -> str:
        if not self.holds(value):
            return f"must be {self}, got {value!r}"
        if self.kind in (int, float) and isinstance(value, (int, float)):
            return _find_range_problem(value, limits)
        return ""

    def parse(self, text: str) -> object:
        words = WORDS.get(self.kind)
        if words is None:
            return self.kind(text)
        if text.lower() not in words:
            raise ValueError(text)
        return words[text.lower()]

    def read_plain(self, plain: object) -> object:
        return Path(plain) if self.kind is Path and isinstance(plain, str) else plain


@dataclass(frozen=True)
class Choice(FieldType):
    """One of some texts."""

    allowed: tuple[str, ...]

    def __str__(self) -> str:
        return f"one of {', '.join(self.allowed)}"

    def holds(self, value: object) -> bool:
        return isinstance(value, str) and value in self.allowed

    def find_problem(self, value: object, limits: Limits) -> str:
        if self.holds(value):
            return ""
        hint = suggest_nearest(value, self.allowed) if isinstance(value, str) else ""
        return f"cannot be {value!r}: allowed are {', '.join(self.allowed)}{hint}"

    def parse(self, text: str) -> object:
        return text


@dataclass(frozen=True)
class Several(FieldType):
    """A tuple: of so many parts, or, where it is `endless`, of any number of the one part."""

    parts: tuple[FieldType, ...]
    endless: bool

    def __str__(self) -> str:
        n = "" if self.endless else f"{len(self.parts)} "
        if len(set(self.parts)) > 1:
            return f"a list of {n}values: {', '.join(map(str, self.parts))}"
        part = self.parts[0]
        plural = PLURALS[part.kind] if isinstance(part, Scalar) else f"values, each {part}"
        return f"a list of {n}{plural}"

    def list_parts(self, n: int) -> tuple[FieldType, ...]:
        """The type of each of n values."""
        return self.parts * n if self.endless else self.parts

    def holds(self, value: object) -> bool:
        if not isinstance(value, tuple):
            return False
        parts = self.list_parts(len(value))
        if len(parts) != len(value):
            return False
        return all(part.holds(entry) for part, entry in zip(parts, value, strict=True))

    def find_problem(self, value: object, limits: Limits) -> str:
        if not isinstance(value, tuple) or len(value) != len(self.list_parts(len(value))):
            return f"must be {self}, got {value!r}"
        for part, entry in zip(self.list_parts(len(value)), value, strict=True):
            if problem := part.find_problem(entry, limits):
                return problem
        return ""

    def parse(self, text: str) -> object:
        if self.endless and text.lower() in ("", *WORDS[NoneType]):
            return ()
        words = text.split(",")
        pairs = zip(self.list_parts(len(words)), words, strict=True)
        return tuple(part.parse(word) for part, word in pairs)

    def read_plain(self, plain: object) -> object:
        if not isinstance(plain, list):
            return plain
        parts = self.list_parts(len(plain))
        if len(parts) != len(plain):
            return tuple(plain)
        return tuple(part.read_plain(entry) for part, entry in zip(parts, plain, strict=True))


@dataclass(frozen=True)
class OneOf(FieldType):
    """A union. What is typed is read as the first of its types that it can be, as text last."""

    options: tuple[FieldType, ...]

    def __str__(self) -> str:
        return " or ".join(map(str, self.options))

    def holds(self, value: object) -> bool:
        return any(option.holds(value) for option in self.options)

    def find_problem(self, value: object, limits: Limits) -> str:
        fitting = [option for option in self.options if option.holds(value)]
        valued = [option for option in self.options if option != Scalar(NoneType)]
        if not fitting and len(valued) > 1:
            return f"must be {self}, got {value!r}"
        problems = [option.find_problem(value, limits) for option in fitting or valued]
        return "" if "" in problems else problems[0]

    def parse(self, text: str) -> object:
        for option in sorted(self.options, key=_rank_option):
            try:
                value = option.parse(text)
            except ValueError:
                continue
            if option.holds(value):
                return value
        raise ValueError(text)

    def read_plain(self, plain: object) -> object:
        values = [option.read_plain(plain) for option in self.options]
        fitting = [value for value in values if self.holds(value)]
        return (fitting or values)[0]


def read_type(hint: object) -> FieldType:
    """The field type that a type hint stands for; BadInput for a hint that a config cannot hold."""
    origin = get_origin(hint)
    arguments = get_args(hint)

    if isinstance(hint, type) and hint in NAMES:
        return Scalar(hint)
    if origin is Literal and all(isinstance(text, str) for text in arguments):
        return Choice(arguments)
    if origin is tuple and arguments:
        return _read_tuple(hint, arguments)
    if origin in (Union, UnionType):
        return OneOf(tuple(read_type(option) for option in arguments))

    name = hint.__name__ if isinstance(hint, type) and not arguments else str(hint)
    raise BadInput(f"a field of a config cannot be of the type {name}: allowed are {ALLOWED}")


def _read_tuple(hint: object, arguments: tuple[object, ...]) -> Several:
    endless = arguments[-1] is Ellipsis
    parts = tuple(read_type(part) for part in arguments if part is not Ellipsis)
    for part in parts:
        if not isinstance(part, (Scalar, Choice)) or part == Scalar(NoneType):
            raise BadInput(f"a field of a config cannot be of the type {hint}: of lists of {part}")
    return Several(parts, endless)


def format_value(value: object) -> str:
    """How a value is typed: `read_type(...).parse` gives it back."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(format_value, value)) or "none"
    return str(value)


def _rank_option(option: FieldType) -> int:
    """The order in which the types of a union are tried: what reads fewest texts first."""
    if option == Scalar(NoneType):
        return 0
    return 2 if option in (Scalar(str), Scalar(Path)) else 1


def _find_range_problem(value: float, limits: Limits) -> str:
    least = limits.get("least")
    above = limits.get("above")
    most = limits.get("most")
    if (
        (isinstance(value, int) or math.isfinite(value))
        and (least is None or value >= least)
        and (above is None or value > above)
        and (most is None or value <= most)
    ):
        return ""

    limited = {">=": least, ">": above, "<=": most}
    allowed = [f"{sign} {limit}" for sign, limit in limited.items() if limit is not None]
    return f"must be {' and '.join(allowed) or 'finite'}, got {value}"
