"""Fields of a recipe set on the command line: `--model.n_layers 3 --train.checkpoints 0,10,100`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from toyvit.config import Run
from toyvit.errors import BadInput, nearest

PARTS = ("model", "task", "train", "seeds")


def overridden(run: Run, words: Sequence[str]) -> Run:
    """The run with the fields set that `words` name; an unknown field or a value of the wrong kind is BadInput."""
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False, add_help=False)
    for part in PARTS:
        parser.add_class_arguments(type(getattr(run, part)), part)
    known = [f"--{part}.{item.name}" for part in PARTS for item in fields(getattr(run, part))]
    for word in words:
        name = word.split("=")[0]
        if name.startswith("--") and name not in known:
            raise BadInput(f"unknown argument {name!r}{nearest(name, known)}")
    defaults = {
        f"{part}.{item.name}": getattr(getattr(run, part), item.name) for part in PARTS for item in fields(getattr(run, part))
    }
    parser.set_defaults(defaults)
    try:
        given = parser.parse_args([_listed(word, name) for name, word in zip(["", *words], words, strict=False)])
    except (ArgumentError, SystemExit) as error:
        raise BadInput(" ".join(str(error).replace("Parser key ", "").split())) from None
    changed = {part: replace(getattr(run, part), **_values(given[part])) for part in PARTS if given.get(part)}
    return replace(run, **changed)


def _listed(word: str, option: str) -> str:
    """`1,2,3` behind an option is a list."""
    is_list = option.startswith("--") and "," in word and word.replace(",", "").isdigit()
    return f"[{word}]" if is_list else word


def _values(given: Namespace) -> dict[str, Any]:
    return dict(vars(given))
