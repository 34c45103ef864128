"""Fields of a recipe set on the command line: `--model.n_layers 3 --train.checkpoints 0,10,100`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from itertools import product
from typing import Any, get_type_hints

from toyvit.config import RunConfig, TaskConfig
from toyvit.errors import BadField, BadInput, suggest_nearest

PARTS = ("model", "task", "train", "seeds")
WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}


def apply_overrides(run: RunConfig, words: Sequence[str]) -> RunConfig:
    """The run with the fields set that `words` name; an unknown field or a value of the wrong kind is BadInput."""
    return replace(run, **_changed({part: getattr(run, part) for part in PARTS}, words))


def apply_task_overrides(config: TaskConfig, words: Sequence[str]) -> TaskConfig:
    """The same of a task by itself: `--task.hops 2`."""
    return _changed({"task": config}, words).get("task", config)


def _changed(records: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """The records, by their part of a run, in which `words` set a field."""
    known = {
        f"--{part}.{item.name}": (part, item.name, str(get_type_hints(type(record))[item.name]))
        for part, record in records.items()
        for item in fields(record)
    }
    changed: dict[str, dict[str, Any]] = {}
    for option, text in _pairs(words):
        if option not in known:
            raise BadInput(f"unknown argument {option!r}{suggest_nearest(option, known)}")
        part, name, hint = known[option]
        if text is None:
            raise BadInput(f"{option} needs a value")
        changed.setdefault(part, {})[name] = _value(option, text, hint)
    return {part: _set(part, records[part], values) for part, values in changed.items()}


def _set(part: str, record: Any, values: dict[str, Any]) -> Any:
    """The record with these values; what it says against them names the options that were typed, not the record."""
    try:
        return replace(record, **values)
    except BadField as error:
        raise BadInput(f"--{part}.{error.field} {error.problem}") from None
    except BadInput as error:  # fields that do not go together
        raise BadInput(
            f"{' '.join(f'--{part}.{name} {value}' for name, value in values.items())}: {error}"
        ) from None


def expand_variants(run: RunConfig, words: Sequence[str]) -> dict[str, RunConfig]:
    """Runs with every combination of the values given, `--model.n_layers 1,2,3`, by a name such as `n_layers-2`.

    A field that is itself a list takes all its values at once, as in `apply_overrides`; other lists stand after a slash:
    `--train.clamps none/0.0:previous,0.0:copy`.
    """
    hints = {
        f"--{part}.{name}": str(hint)
        for part in PARTS
        for name, hint in get_type_hints(type(getattr(run, part))).items()
    }
    choices = [
        [
            (option, value)
            for value in (text or "").split("/" if "tuple" in hints.get(option, "") else ",")
        ]
        for option, text in _pairs(words)
    ]
    out: dict[str, RunConfig] = {}
    for chosen in product(*choices):
        several = [
            f"{option.split('.')[-1]}-{re.sub('[:@,]+', '-', value)}"
            for (option, value), values in zip(chosen, choices, strict=True)
            if values[1:]
        ]
        typed = [word for pair in chosen for word in pair]
        made = apply_overrides(run, typed)
        if made in out.values():
            raise BadInput(f"{' '.join(typed)} is named twice: each setting is trained once")
        out["_".join(several)] = made
    return out


def _pairs(words: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """`--option value` and `--option=value`."""
    rest = list(words)
    while rest:
        option, equals, text = rest.pop(0).partition("=")
        if not option.startswith("--"):
            raise BadInput(
                f"unknown argument {option!r}: a field is set by --model.NAME VALUE, --task., --train. or --seeds."
            )
        yield option, text if equals else rest.pop(0) if rest else None


def _value(option: str, text: str, hint: str) -> Any:
    """Text as the field's type: `none` where a field or a list may be empty, `1,2,3` where it is a list."""
    if text.lower() in ("none", "null") and "None" in hint:
        return None
    if text.lower() in ("none", "") and "tuple[str" in hint:
        return ()
    kind = next(word for word in WORDS if word in hint)
    values = [_one(option, part, kind) for part in (text.split(",") if "tuple" in hint else [text])]
    return tuple(values) if "tuple" in hint else values[0]


def _one(option: str, text: str, kind: str) -> Any:
    try:
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        return {"int": int, "float": float, "str": str}[kind](text)
    except (ValueError, KeyError):
        raise BadInput(f"{option} takes {WORDS[kind]}, got {text!r}") from None
