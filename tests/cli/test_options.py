"""What a command is given it uses: options that are declared are read, and those that are read
declared; names are completed; recipes side by side are trained as one alone.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import signal
import sys
from collections.abc import Callable
from contextlib import contextmanager
from types import SimpleNamespace
from typing import ClassVar

import pytest

from toyvit.cli import COMMANDS, FAMILIES, single_runs
from toyvit.cli.main import main
from toyvit.cli.parser import build_parser, split_fields
from toyvit.config.overrides import apply_overrides
from toyvit.recipes import RECIPES

# What the parser itself sets, and what is left of the line.
ALWAYS = {"help", "command", "parser", "words"}
# Arguments that are names of what there is: runs, recipes, worlds, analyses.
COMPLETED = {"run", "beside", "recipe", "recipes", "analyses", "names", "name"}
NEW = {("train", "name"), ("sweep", "name"), ("import", "name")}  # names that a user thinks of
NOT_YET = {("replicate", "names")}


def find_parser(command: str) -> argparse.ArgumentParser:
    (commands,) = (
        action
        for action in build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return commands.choices[command]


def list_reads(function: Callable[..., object]) -> set[str]:
    """The attributes that a function, and those of its module that it names, read off `options`."""
    module = inspect.getmodule(function)
    assert module is not None
    bodies = {
        node.name: node
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.FunctionDef)
    }

    reads: set[str] = set()
    pending = [function.__name__]
    while pending:
        body = bodies.pop(pending.pop(), None)
        for node in ast.walk(body) if body else ():
            if isinstance(node, ast.Name):
                pending.append(node.id)
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "options":
                reads.add(node.attr)
    return reads


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_reads_the_options_that_it_declares(name):
    declared = {
        action.dest
        for action in find_parser(name)._actions
        if action.help != argparse.SUPPRESS or action.dest in ("position", "unfollowed")
    }
    assert list_reads(COMMANDS[name].run) - ALWAYS == declared - ALWAYS


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_names_of_what_there_is_are_completed(family):
    for command in family.COMMANDS:
        for action in find_parser(command.name)._actions:
            place = command.name, action.dest
            is_completed = action.dest in COMPLETED and place not in NEW | NOT_YET
            assert hasattr(action, "completer") == is_completed, place


ORDERS = (
    "train --train.steps 5 induction-smoke --task.noise=0 --resume",
    "train --resume --train.steps=5 --task.noise 0 induction-smoke",
    "train --train.steps 5 --task.noise 0 --resume -- induction-smoke",
    "train --train.steps 4 induction-smoke --resume --train.steps 5 --task.noise 0",
)


@pytest.mark.parametrize("typed", ORDERS)
def test_options_and_fields_stand_anywhere_and_the_last_of_one_counts(typed):
    words, fields = split_fields(typed.split())
    options, unknown = build_parser().parse_known_args(words)
    assert (options.recipes, options.resume, unknown) == (["induction-smoke"], True, [])
    config = apply_overrides(RECIPES["induction-smoke"](), fields)
    assert (config.train.steps, config.task.noise) == (5, 0)


def test_a_command_without_fields_keeps_its_words():
    words = ["measure", "runs/a.b", "--steps", "1", "--x.y"]
    assert split_fields(words) == (words, []) and split_fields([]) == ([], [])


class Child:
    """Stands for a process that is sent a signal while it is waited for."""

    started: ClassVar[list[Child]] = []

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.signals: list[int] = []
        self.started.append(self)

    def send_signal(self, signum: int) -> None:
        self.signals.append(signum)

    def wait(self) -> int:
        if not self.signals:
            signal.raise_signal(signal.SIGTERM)
        return 4 if self is self.started[-1] else 0


@pytest.fixture
def children(monkeypatch):
    """Processes that would be started; handlers of signals are those from before afterwards."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(Child, "started", [])
    monkeypatch.setattr(single_runs.subprocess, "Popen", Child)
    yield Child.started
    for signum, handler in before.items():
        signal.signal(signum, handler)


def test_recipes_side_by_side_get_every_option_every_signal_and_the_first_failure(
    children, tmp_path, monkeypatch
):
    """One follower is for all of them, and does not outlive a signal."""
    followed, killed = [], []

    @contextmanager
    def start_follower(paths):
        followed.append(paths)
        yield SimpleNamespace(kill=lambda: killed.append(True))

    monkeypatch.setattr(single_runs, "start_follower", start_follower)
    typed = ["--runs", str(tmp_path), "--seed", "3", "--resume", "--train.steps", "5"]
    assert main(["train", "digits", "induction", *typed]) == 4
    for place, child in enumerate(children):
        name = ("digits", "induction")[place]
        assert child.words[:3] == [sys.executable, "-m", "toyvit"]
        options, rest = build_parser().parse_known_args(child.words[3:])
        alone, words = build_parser().parse_known_args(["train", name, *typed])
        assert vars(options) == vars(alone) | {
            "position": place,
            "unfollowed": True,
            "parser": options.parser,
            "command": options.command,
        }
        assert rest == words == ["--train.steps", "5"]
        assert child.signals == [signal.SIGTERM]
    assert len(children) == 2
    assert followed == [[tmp_path / "digits", tmp_path / "induction"]] and killed == [True]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["train", "induction", "--n_layers", "3"], "--model.n_layers"),
        (["train", "induction", "--layers=3"], "--model.n_layers"),
        (["train", "induction", "digits", "--batch-size", "3"], "--train.batch_size"),
        (["train", "induction", "--noise", "3"], "--task.noise"),
        (["train", "induction", "--lr", "3"], "--train.learning_rate"),
        (["train", "induction", "--train.lr", "3"], "--train.learning_rate"),
        (["train", "induction", "--nam", "3"], "--name"),
        (["sweep", "induction", "--steps", "3"], "--train.steps"),
        (["measure", "runs/x", "--setps", "3"], "--steps"),
    ],
)
def test_a_field_typed_without_its_part_is_named(capsys, words, meant):
    assert main(words) == 2
    assert capsys.readouterr().err.endswith(f"; did you mean {meant!r}?\n")
