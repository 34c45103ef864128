"""What can be typed: the parser of the whole command line, from the commands' declarations."""

from __future__ import annotations

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
