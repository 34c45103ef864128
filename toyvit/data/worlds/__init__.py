"""The worlds of the lab: one ordered tuple of names, and the one place where a name leads to code.

A world is a folder here, named as it is but with underscores for dashes:

- `config.py`, which needs no torch, numpy or scipy: a record of options for each task of its own,
  and `ENTRY`, its declaration;
- `world.py`: how its factors are drawn and rendered, and `build_TASK` for each of these tasks;
  a world without tasks of its own has `load_WORLD` there and is asked to `classify`;
- `card.md`: what the data is, for readers; `python -m toyvit.data.cards` copies it to `datasets/`.

Nothing else names a world: configs, tasks, lists and the laws of the tests follow from `NAMES`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from types import ModuleType
from typing import TYPE_CHECKING

from toyvit.errors import choose

if TYPE_CHECKING:  # `toyvit.config` looks its tasks up here
    from toyvit.config.tasks import TaskConfig

NAMES = (
    "digits",
    "mnist",
    "dsprites",
    "glyphs",
    "markov",
    "repeats",
    "addition",
    "fewshot",
    "omniglot",
    "relations",
    "pointers",
    "sort-of-clevr",
    "objects",
    "counting",
)


@dataclass(frozen=True, kw_only=True)
class WorldEntry:
    """What a world declares of itself, as `ENTRY` in its `config.py`."""

    summary: str  # one line, as `toyvit data` lists it
    purpose: str  # a few words, as the index of `datasets/` lists it
    pictures: str = "rendered, endless"  # how many there are, in that index
    default: TaskConfig  # what it is asked where nothing else is said
    tasks: tuple[type[TaskConfig], ...] = ()  # the records of its own tasks


def find(name: str, what: str = "data set") -> WorldEntry:
    """The declaration of a world; BadInput that names the nearest where there is none."""
    entry: WorldEntry = import_module(f"{_name_package(choose(name, NAMES, what))}.config").ENTRY
    return entry


def list_worlds() -> dict[str, WorldEntry]:
    """Every world's declaration by its name, in order."""
    return {name: find(name) for name in NAMES}


def list_task_configs() -> dict[str, type[TaskConfig]]:
    """The record of every task's options by the task's name: questions to any world come first."""
    from toyvit.data.question_configs import QUESTIONS

    kinds: list[type[TaskConfig]] = [*QUESTIONS]
    for entry in list_worlds().values():
        kinds += entry.tasks
    return {kind.name: kind for kind in kinds}


def load_code(name: str) -> ModuleType:
    """The module `world.py` of a world."""
    return import_module(f"{_name_package(choose(name, NAMES, 'data set'))}.world")


def load_task_code(task: str) -> ModuleType:
    """The module that has the builder of a task."""
    for name, entry in list_worlds().items():
        if task in _name_all(entry.tasks):
            return load_code(name)
    return import_module("toyvit.data.questions")


def read_card(name: str) -> str:
    """The text of a world's card."""
    return files(_name_package(choose(name, NAMES, "data set"))).joinpath("card.md").read_text()


def _name_package(name: str) -> str:
    return f"{__name__}.{name.replace('-', '_')}"


def _name_all(tasks: Iterable[type[TaskConfig]]) -> list[str]:
    return [kind.name for kind in tasks]
