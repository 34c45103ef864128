"""What was typed in another way in version 0.1 and works for one version more, with a notice."""

from __future__ import annotations

import argparse

from toyvit.cli.command import Parser
from toyvit.cli.output import show

OPTIONS = {"--base": "--ablation"}  # old name: new name, one to one


class RenamedOption(argparse.Action):
    """Takes the value of an option under its old name, and says the new one."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        old = str(option_string)
        give_notice("option", old, OPTIONS[old])
        setattr(namespace, self.dest, values)


def add_old_options(parser: Parser) -> None:
    """Let a parser take its options under their old names too; help does not list them."""
    options = parser.list_options()
    for old, new in OPTIONS.items():
        if new not in options:
            continue

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
    from toyvit.analyses.names import RENAMED

    if name in RENAMED:
        give_notice("analysis", name, RENAMED[name])
    return RENAMED.get(name, name)


def give_notice(what: str, old: str, new: str) -> None:
    """A line on standard error."""
    show(f"toyvit: {what} {old!r} is called {new!r} now", error=True)
