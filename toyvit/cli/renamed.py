"""What was typed in another way in version 0.1 and works for one version more, with a notice."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

# Old name: new name, one to one.
OPTIONS = {"--base": "--ablation"}
ANALYSES = {"flow": "attention_knockout", "knock_outs": "head_ablation"}


class RenamedOption(argparse.Action):
    """Takes the value of an option under its old name, and says the new one."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        old = str(option_string)
        give_notice("option", old, OPTIONS[old])
        setattr(namespace, self.dest, values)


def add_old_options(parser: argparse.ArgumentParser) -> None:
    """Let a parser take its options under their old names too; help does not list them."""
    options = {option: action for action in parser._actions for option in action.option_strings}
    for old, new in OPTIONS.items():
        if new in options:
            parser.add_argument(
                old,
                dest=options[new].dest,
                type=options[new].type or str,
                default=argparse.SUPPRESS,
                action=RenamedOption,
                help=argparse.SUPPRESS,
            )


def rename_analysis(name: str) -> str:
    """The name of today of an analysis."""
    if name in ANALYSES:
        give_notice("analysis", name, ANALYSES[name])
    return ANALYSES.get(name, name)


def give_notice(what: str, old: str, new: str) -> None:
    """A line on standard error."""
    print(f"toyvit: {what} {old!r} is called {new!r} now", file=sys.stderr)
