"""What can be typed: the parser of the whole command line, from the commands' declarations."""

from __future__ import annotations

from collections.abc import Sequence

from toyvit.cli import COMMANDS
from toyvit.cli.command import Parser
from toyvit.cli.renamed import add_old_options
from toyvit.version import VERSION

DESCRIPTION = "Train tiny vision transformers, keep dense checkpoints, measure every one."
COMPLETION = """\
The tab key completes commands, recipes, analyses and runs after
  eval "$(register-python-argcomplete toyvit)"
"""


def build_parser() -> Parser:
    """The parser; what it gives has `command` (None where none is typed) and its `parser`."""
    top = Parser(prog="toyvit", description=DESCRIPTION, write_epilog=lambda: COMPLETION)
    top.add_argument("--version", action="version", version=f"toyvit {VERSION}")
    top.set_defaults(command=None)
    commands = top.add_subparsers(metavar="COMMAND", parser_class=Parser)

    for command in COMMANDS.values():
        listed = {"help": command.help} if command.help else {}
        parser = commands.add_parser(
            command.name,
            description=command.help,
            write_epilog=command.write_epilog,
            **listed,
        )
        command.add_arguments(parser)
        add_old_options(parser)
        parser.set_defaults(command=command, parser=parser)
    return top


def split_fields(typed: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of a command, and those that set fields: `--train.steps 5`, wherever.

    A field has a dot in its name. Behind `--` there are none.

    >>> split_fields(["train", "--train.steps", "5", "induction", "--task.noise=0"])
    (['train', 'induction'], ['--train.steps', '5', '--task.noise=0'])
    """
    command = COMMANDS.get(typed[0]) if typed else None
    if command is None or not command.takes_fields:
        return list(typed), []

    words: list[str] = []
    fields: list[str] = []
    rest = list(typed)
    while rest and rest[0] != "--":
        word = rest.pop(0)
        name, equals, _ = word.partition("=")
        if not (name.startswith("--") and "." in name):
            words.append(word)
            continue
        fields.append(word)
        if not equals and rest and not rest[0].startswith("--"):
            fields.append(rest.pop(0))
    return words + rest, fields
