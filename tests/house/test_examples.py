"""The examples in docstrings run, and enough of the public names have one."""

from __future__ import annotations

import doctest
import inspect
import pkgutil
from importlib import import_module
from types import ModuleType

import pytest
import torch

import toyvit
from bench.counters import EXAMPLE_ROOMS, has_example
from toyvit.config import extensions

SHARE = 0.25  # of the public functions and classes of each of these
PARSER = doctest.DocTestParser()
MODULES = [
    import_module(module.name)
    for module in pkgutil.walk_packages(toyvit.__path__, "toyvit.")
    if not module.name.endswith("__main__")
]


def list_public(module: ModuleType) -> dict[str, object]:
    """The public functions and classes that a module defines, by name."""
    values = {
        name: inspect.unwrap(value) for name, value in vars(module).items() if callable(value)
    }
    return {
        name: value
        for name, value in values.items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    }


def find_examples(module: ModuleType) -> list[doctest.DocTest]:
    """The examples of a module, of its public names and of their methods.

    Read from the docstrings themselves: the finder of `doctest` passes over functions that are
    wrapped, as those are whose shapes are checked.
    """
    documented = {module.__name__: module}
    for name, value in list_public(module).items():
        full = f"{module.__name__}.{name}"
        documented[full] = value
        if inspect.isclass(value):
            members = vars(value).items()
            documented |= {f"{full}.{part}": member for part, member in members}

    examples = []
    for name, value in documented.items():
        text = getattr(value, "__doc__", None)
        if isinstance(text, str) and ">>>" in text:
            text = inspect.cleandoc(text)
            examples.append(PARSER.get_doctest(text, vars(module).copy(), name, None, 0))
    return examples


EXAMPLES = {
    example.name: example
    for module in [toyvit, *MODULES]
    for example in find_examples(module)
    if example.examples
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_gives_what_it_says(name, monkeypatch):
    """And leaves nothing behind: what it registers is known to it alone."""
    monkeypatch.setattr(extensions, "_registered", dict(extensions._registered))
    torch.manual_seed(0)
    lines: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(EXAMPLES[name], out=lines.append, clear_globs=False)
    assert not runner.failures, "".join(lines)


@pytest.mark.parametrize("room", EXAMPLE_ROOMS)
def test_a_quarter_of_the_public_names_have_an_example(room):
    n = 0
    without = []
    inside = [module for module in MODULES if module.__name__.split(".")[1] == room]
    for module in inside:
        for name, value in list_public(module).items():
            n += 1
            if not has_example(inspect.getdoc(value)):
                without.append(name)
    assert n - len(without) >= SHARE * n, without


def test_an_example_that_is_wrong_is_seen():
    example = PARSER.get_doctest(">>> 1 + 1\n3", {}, "wrong", None, 0)
    lines: list[str] = []
    runner = doctest.DocTestRunner()
    runner.run(example, out=lines.append)
    assert runner.failures == 1 and "Expected:\n    3" in "".join(lines)
