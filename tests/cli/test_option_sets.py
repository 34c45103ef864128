"""Random option sets over every command: each ends with an exit code and one line, no traceback."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from bench import option_sets
from bench.option_sets import Outcome, draw_words, prepare_place, run_words, try_sets
from toyvit.cli import COMMANDS


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return prepare_place(tmp_path_factory.mktemp("sets") / "start")


@pytest.mark.slow
def test_every_set_ends_without_a_traceback(place):
    outcomes = list(try_sets(25, 7, place))
    assert [outcome for outcome in outcomes if outcome.is_bad] == []
    assert {outcome.code for outcome in outcomes} >= {0, 2}


def test_the_sets_are_the_same_for_a_seed_and_reach_every_command():
    first, again = random.Random(3), random.Random(3)
    sets = [draw_words(first) for _ in range(200)]
    assert sets == [draw_words(again) for _ in range(200)]
    assert {words[0] for words in sets} == set(COMMANDS) - option_sets.ENDLESS


def test_what_breaks_is_counted(tmp_path, monkeypatch):
    """The harness can fail: a traceback, a code of its own, and a command without end."""
    assert Outcome(("ls",), 1, "Traceback (most recent call last)").is_bad
    assert Outcome(("ls",), 99, "").is_bad and not Outcome(("ls",), 2, "toyvit: no").is_bad

    monkeypatch.setattr(option_sets.command, "main", lambda words: 1 / 0)
    broken = run_words(["ls"], tmp_path)
    assert broken.is_bad and "ZeroDivisionError" in broken.text
    monkeypatch.setattr(option_sets.command, "main", wait_without_end)
    assert run_words(["ls"], tmp_path, seconds=0.2).code is None


def wait_without_end(words):
    while True:
        time.sleep(1)


def test_a_set_leaves_the_prepared_folder_as_it_is(place):
    files = sorted(path for path in Path(place).rglob("*"))
    assert [outcome for outcome in try_sets(3, 1, place) if outcome.is_bad] == []
    assert sorted(path for path in Path(place).rglob("*")) == files
