"""Fields of a recipe set on the command line: `--model.n_layers 3 --train.checkpoints 0,10,100`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, product
from typing import Any

from toyvit.config import RunConfig, TaskConfig
from toyvit.config.field_types import FieldType, OneOf, Several, format_value
from toyvit.config.fields import read_field_types
from toyvit.errors import BadField, BadInput, suggest_option

PARTS = ("model", "task", "train", "seeds")


def apply_overrides(run: RunConfig, words: Sequence[str]) -> RunConfig:
    """The run with the fields set that `words` name.

    BadInput for an unknown field or a value of the wrong kind.
    """
    records = {part: getattr(run, part) for part in PARTS}
    return replace(run, **_change_records(records, words))


def list_fields(run: RunConfig) -> list[str]:
    """Every option that sets a field of a run, such as `--model.n_layers`."""
    return list(_read_options({part: type(getattr(run, part)) for part in PARTS}))


def apply_task_overrides(config: TaskConfig, words: Sequence[str]) -> TaskConfig:
    """The same of a task by itself: `--task.hops 2`."""
    return _change_records({"task": config}, words).get("task", config)


def read_values(
    kinds: Mapping[str, type[Any]], words: Sequence[str]
) -> dict[str, dict[str, object]]:
    """The values that `words` give to fields of some records, by their part; BadInput as above.

    >>> from toyvit.config import ModelConfig
    >>> read_values({"model": ModelConfig}, ["--model.n_heads", "6"])
    {'model': {'n_heads': 6}}
    """
    types = _read_options(kinds)
    values: dict[str, dict[str, object]] = {part: {} for part in kinds}
    for option, text in _split_pairs(words):
        if option not in types:
            raise BadInput(f"unknown argument {option!r}{suggest_option(option, types)}")
        if not text:
            raise BadInput(f"{option} needs a value")
        part, _, name = option.removeprefix("--").partition(".")
        values[part][name] = _parse_value(option, text, types[option])
    return values


def expand_variants(run: RunConfig, words: Sequence[str]) -> dict[str, RunConfig]:
    """Runs with every combination of the values given, by a name such as `n_layers-2`.

    Values stand between commas, `--model.n_layers 1,2,3`. A field that is itself a list takes all
    values between commas at once, as in `apply_overrides`; other lists stand after a slash:
    `--train.clamps none/0.0:previous,0.0:copy`.
    """
    choices = _split_choices(run, words)
    variants: dict[str, RunConfig] = {}
    for setting in product(*choices):
        typed = list(chain.from_iterable(setting))
        variant = apply_overrides(run, typed)
        if variant in variants.values():
            raise BadInput(f"{' '.join(typed)} is named twice: each setting is trained once")
        pairs = zip(setting, choices, strict=True)
        names = [_name_setting(*pair) for pair, values in pairs if len(values) > 1]
        variants["_".join(names)] = variant
    return variants


def _split_choices(run: RunConfig, words: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Of each option typed, the pairs of it and one of its values."""
    types = _read_options({part: type(getattr(run, part)) for part in PARTS})
    choices = []
    for option, text in _split_pairs(words):
        is_list = option in types and _holds_lists(types[option])
        values = (text or "").split("/" if is_list else ",")
        choices.append([(option, value) for value in values])
    return choices


def _change_records(records: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """The records, by their part of a run, in which `words` set a field."""
    types = _read_options({part: type(record) for part, record in records.items()})
    changes: dict[str, dict[str, object]] = {}

    for option, text in _split_pairs(words):
        if option not in types:
            raise BadInput(f"unknown argument {option!r}{suggest_option(option, types)}")
        part, _, name = option.removeprefix("--").partition(".")
        if not text and (text is None or getattr(records[part], name) != ""):
            raise BadInput(f"{option} needs a value" + ("" if text is None else ", got ''"))
        changes.setdefault(part, {})[name] = _parse_value(option, text, types[option])

    return {part: _set_fields(part, records[part], values) for part, values in changes.items()}


def _read_options(kinds: Mapping[str, type[Any]]) -> dict[str, FieldType]:
    """The type of every field that can be set, by its option."""
    options = {}
    for part, record in kinds.items():
        for name, kind in read_field_types(record).items():
            options[f"--{part}.{name}"] = kind
    return options


def _parse_value(option: str, text: str, kind: FieldType) -> object:
    try:
        return kind.parse(text)
    except ValueError:
        raise BadInput(f"{option} takes {kind}, got {text!r}") from None


def _set_fields(part: str, record: Any, values: dict[str, Any]) -> Any:
    """The record with these values; a refusal names the options that were typed, not the record."""
    try:
        return replace(record, **values)
    except BadField as error:
        raise BadInput(f"--{part}.{error.field} {error.problem}") from None
    except BadInput as error:  # fields that do not go together
        typed = [f"--{part}.{name} {format_value(value)}" for name, value in values.items()]
        raise BadInput(f"{' '.join(typed)}: {error}") from None


def _holds_lists(kind: FieldType) -> bool:
    options = kind.options if isinstance(kind, OneOf) else (kind,)
    return any(isinstance(option, Several) for option in options)


def _name_setting(option: str, value: str) -> str:
    """A part of a folder's name: `n_layers-2`."""
    return f"{option.split('.')[-1]}-{re.sub('[:@,]+', '-', value)}"


def _split_pairs(words: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """`--option value` and `--option=value`."""
    rest = list(words)
    while rest:
        option, equals, text = rest.pop(0).partition("=")
        if not option.startswith("--"):
            raise BadInput(
                f"unknown argument {option!r}: a field is set by --model.NAME VALUE, "
                "--task., --train. or --seeds."
            )

        if equals:
            yield option, text
        elif rest and not rest[0].startswith("--"):
            yield option, rest.pop(0)
        else:
            yield option, None
