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

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

from toyvit.config.extensions import Origin, find_extensions, merge_extensions
from toyvit.errors import BadInput, choose

if TYPE_CHECKING:  # `toyvit.config` looks its tasks up here
    from toyvit.config.tasks import TaskConfig

NAMES = (
    "digits",
    "mnist",
    "dsprites",
    "glyphs",
    "markov",
    "repeats",
    "hidden-states",
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
    """What a world declares of itself, as `ENTRY` in its `config.py`.

    A world from outside also says its `name`, and either the `module` that has its builders or, in
    a notebook, the `builders` themselves: `{"stripes": build_stripes}`.
    """

    extends: ClassVar[str] = "worlds"

    name: str = ""  # the lab's own have theirs from `NAMES`
    module: str = ""
    builders: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    summary: str  # one line, as `toyvit data` lists it
    purpose: str  # a few words, as the index of `datasets/` lists it
    pictures: str = "rendered, endless"  # how many there are, in that index
    reads_files: bool = False  # whether they come from files that are not installed with the lab
    default: TaskConfig  # what it is asked where nothing else is said
    tasks: tuple[type[TaskConfig], ...] = ()  # the records of its own tasks

    @property
    def code(self) -> Any:
        """Where its work is done: the builder that a notebook gives, or its record of options."""
        return next(iter(self.builders.values()), type(self.default))


def find(name: str, what: str = "data set") -> WorldEntry:
    """The declaration of a world; BadInput that names the nearest where there is none."""
    if name in NAMES:
        return _find_own(name)
    worlds = list_worlds()
    return worlds[choose(name, worlds, what)]


def list_worlds() -> dict[str, WorldEntry]:
    """Every world's declaration by its name, in order: the lab's own, then those from outside."""
    return merge_extensions(_list_own(), "worlds")


def list_task_configs() -> dict[str, type[TaskConfig]]:
    """The record of every task's options by the task's name: questions to any world come first."""
    return _collect_tasks(list_worlds().values())


def find_task_config(name: str) -> type[TaskConfig]:
    """The record of a task's options; BadInput that names the nearest where there is none."""
    for kind in _iterate_own_tasks():
        if kind.name == name:
            return kind
    configs = list_task_configs()
    return configs[choose(name, configs, "task")]


def load_code(name: str) -> ModuleType:
    """The module that has a world's code: `world.py` of the lab's own."""
    return import_module(find(name).module)


def load_builder(task: str) -> Callable[[Any], Any]:
    """The function that makes a task from its options."""
    builder = f"build_{task.replace('-', '_')}"
    for entry in (*_list_own().values(), *_list_outside()):
        if task in entry.builders:
            return entry.builders[task]
        if task in _name_all(entry.tasks):
            return getattr(import_module(entry.module), builder)
    return getattr(import_module("toyvit.data.questions"), builder)


def find_origin(task: str) -> Origin | None:
    """Where a task's world comes from; None for the lab's own."""
    if task in _collect_tasks(_list_own().values()):
        return None
    for extension in find_extensions("worlds").values():
        if task in _name_all(extension.value.tasks):
            return extension.origin
    return None


def describe_origin(task: str) -> dict[str, list[dict[str, str]]]:
    """`extensions` of config.json: where a task's world comes from; nothing for the lab's own."""
    origin = find_origin(task)
    if origin is None:
        return {}
    return {"extensions": [{"kind": "worlds", "name": task, **origin.to_json()}]}


def read_card(name: str) -> str:
    """The text of a world's card; BadInput for a world from outside that has none."""
    from importlib.resources import files

    package = find(name).module.rpartition(".")[0]
    file = files(package).joinpath("card.md") if package else None
    if file is None or not file.is_file():
        raise BadInput(f"the world {name} has no card")
    return file.read_text()


@cache
def _find_own(name: str) -> WorldEntry:
    package = f"{__name__}.{name.replace('-', '_')}"
    entry: WorldEntry = import_module(f"{package}.config").ENTRY
    return replace(entry, name=name, module=f"{package}.world")


def _list_own() -> dict[str, WorldEntry]:
    return {name: _find_own(name) for name in NAMES}


def _list_outside() -> list[WorldEntry]:
    return [extension.value for extension in find_extensions("worlds").values()]


def _collect_tasks(entries: Iterable[WorldEntry]) -> dict[str, type[TaskConfig]]:
    from toyvit.data.question_configs import QUESTIONS

    kinds: list[type[TaskConfig]] = [*QUESTIONS]
    for entry in entries:
        kinds += entry.tasks
    return {kind.name: kind for kind in kinds}


def _iterate_own_tasks() -> Iterator[type[TaskConfig]]:
    """The records of the lab's own tasks, each world declared when it is its turn."""
    from toyvit.data.question_configs import QUESTIONS

    yield from QUESTIONS
    for name in NAMES:
        yield from _find_own(name).tasks


def _name_all(tasks: Iterable[type[TaskConfig]]) -> list[str]:
    return [kind.name for kind in tasks]
