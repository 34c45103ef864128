"""Every command in the pages: the command line knows it, its options and the fields it sets."""

from __future__ import annotations

import re
import subprocess
from importlib.util import find_spec

import pytest

from tests.docs.pages import PAGES, ROOT, name_page, read_blocks, split_commands
from toyvit.analyses import ANALYSES
from toyvit.cli import COMMANDS
from toyvit.cli.parser import build_parser
from toyvit.config import ModelConfig
from toyvit.config.overrides import (
    apply_overrides,
    apply_task_overrides,
    expand_variants,
    read_values,
)
from toyvit.data.question_configs import LookConfig
from toyvit.data.worlds import find
from toyvit.errors import BadInput, choose
from toyvit.recipes import find_recipe

TARGETS = ("data", "train-toy", "train-mnist", "tensorboard", "measure", "report", "replicate")


def list_recipe_lines(target: str) -> list[str]:
    """The commands of toyvit that a target of the Makefile runs, its variables filled in."""
    dry = ["make", "--dry-run", "--silent", "VENV=venv", target]
    out = subprocess.run(dry, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    out = re.sub(r"\$\(\(.*?\)\)", "0", out)  # the shell's sums
    return [
        line.removeprefix("venv/bin/") for line in out.splitlines() if "venv/bin/toyvit" in line
    ]


OTHERS = {"source", "git", "pip", ".venv/bin/pip"}
LINES = [
    pytest.param(words, id=f"{block}-{' '.join(words)[:60]}")
    for page in PAGES
    for block in read_blocks(page)
    if block.language in ("sh", "")
    for words in split_commands(block.text)
]


def check_command(words: list[str]) -> None:
    """BadInput for a command that cannot be typed so."""
    options, rest = build_parser().parse_known_args(words[1:])
    name = options.command.name
    if name == "train":
        for recipe in options.recipes:
            apply_overrides(find_recipe(recipe)(), rest)
    elif name == "sweep":
        expand_variants(find_recipe(options.recipe)(), rest)
    elif name == "import":
        read_values({"model": ModelConfig, "task": LookConfig}, rest)
    elif name == "data" and rest:
        apply_task_overrides(find(options.name).default, rest)
    else:
        options.parser.refuse_unknown(rest)
    for analysis in (getattr(options, "analyses", None) or "").split(","):
        if analysis:
            choose(analysis, ANALYSES, "analysis")


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


@pytest.mark.parametrize("words", LINES)
def test_a_command_is_one_that_can_be_typed(words):
    check(words)


@pytest.mark.parametrize("target", TARGETS)
def test_the_commands_of_a_target_can_be_typed(target):
    lines = list_recipe_lines(target)
    assert lines
    for line in lines:
        check(line.split())


def test_there_are_commands():
    assert len(LINES) > 25


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
    named = re.findall(r"`toyvit ([a-z]+)[^`]*`", page.read_text())
    assert set(named) <= set(COMMANDS)
