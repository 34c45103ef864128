"""Every command in the pages: the command line knows it, its options and the fields it sets."""

from __future__ import annotations

import re
from importlib.util import find_spec

import pytest

from tests.docs.pages import PAGES, ROOT, name_page, read_blocks, split_commands
from toyvit.analyses import ANALYSES
from toyvit.cli.overrides import apply_overrides, apply_task_overrides, expand_variants
from toyvit.cli.parser import build_parser
from toyvit.data.questions import WORLDS
from toyvit.errors import BadInput, choose
from toyvit.recipes import RECIPES

OTHERS = {"source", "git", "pip", ".venv/bin/pip"}
COMMANDS = [
    pytest.param(words, id=f"{block}-{' '.join(words)[:60]}")
    for page in PAGES
    for block in read_blocks(page)
    if block.language in ("sh", "")
    for words in split_commands(block.text)
]


def check_command(words: list[str]) -> None:
    """BadInput for a command that cannot be typed so."""
    top, commands = build_parser()
    options, rest = top.parse_known_args(words[1:])
    if options.command == "train":
        for name in options.recipes:
            apply_overrides(RECIPES[choose(name, RECIPES, "recipe")](), rest)
    elif options.command == "sweep":
        expand_variants(RECIPES[choose(options.recipe, RECIPES, "recipe")](), rest)
    elif options.command == "data" and rest:
        task = WORLDS[choose(options.name, WORLDS, "data set")][0]()
        apply_task_overrides(task.config, rest)
    else:
        commands[options.command].refuse_unknown(rest)
    for name in (getattr(options, "analyses", None) or "").split(","):
        if name:
            choose(name, ANALYSES, "analysis")


def check(words: list[str]) -> None:
    """AssertionError or BadInput for a line that nobody could run here."""
    if words[0] == "toyvit":
        check_command(words)
    elif words[0] == "make":
        targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M)
        assert words[1] in targets, words[1]
    elif words[0].endswith("python"):
        assert words[1] == "-m" and find_spec(words[2]) is not None, words
    else:
        assert words[0] in OTHERS, words[0]


@pytest.mark.parametrize("words", COMMANDS)
def test_a_command_is_one_that_can_be_typed(words):
    check(words)


def test_there_are_commands():
    assert len(COMMANDS) > 25


@pytest.mark.parametrize(
    "line",
    [
        "toyvit trian induction",
        "toyvit train inductoin",
        "toyvit train induction --model.n_layer 3",
        "toyvit train induction --train.steps many",
        "toyvit measure runs/deep --job 2",
        "toyvit measure runs/deep --analyses flows",
        "toyvit data pointers --task.hop 2",
        "make train-toys",
        "python -m bench.no_such",
        "rm -rf runs",
    ],
)
def test_the_check_can_fail(line):
    with pytest.raises((BadInput, AssertionError)):
        check(line.split())


@pytest.mark.parametrize("page", PAGES, ids=name_page)
def test_commands_named_in_the_text_are_there(page):
    """Inline: `toyvit NAME ...`. Placeholders may follow: only the command's name is looked at."""
    _, commands = build_parser()
    named = re.findall(r"`toyvit ([a-z]+)[^`]*`", page.read_text())
    assert set(named) <= set(commands)
