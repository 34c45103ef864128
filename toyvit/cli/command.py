"""A command as a record, and the parser of its arguments."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from toyvit.errors import BadInput, choose, suggest_option


@dataclass(frozen=True, kw_only=True)
class Command:
    """What can be typed after `toyvit`.

    name           as it is typed
    help           one line; a command without one is not listed
    add_arguments  adds what it takes to its parser
    run            does it, and returns the exit code; words that are no argument are in `words`
    takes_fields   whether it takes any field of a recipe, `--model.n_layers 3`, as such words
    write_epilog   what follows in its help
    how_to_go_on   after a signal, or on a disk that was full
    """

    name: str
    help: str
    add_arguments: Callable[[Parser], None]
    run: Callable[[argparse.Namespace], int]
    takes_fields: bool = False
    write_epilog: Callable[[], str] | None = None
    how_to_go_on: str = "the same command goes on"


class Parser(argparse.ArgumentParser):
    """argparse without abbreviations: its errors are BadInput, its epilog is written when shown.

    Of an option that is given twice the last value counts; an empty value is refused.
    """

    def __init__(
        self,
        *,
        prog: str,
        description: str,
        write_epilog: Callable[[], str] | None = None,
    ) -> None:
        super().__init__(
            prog=prog,
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.write_epilog = write_epilog

    def error(self, message: str) -> NoReturn:
        """A wrong argument, as every other mistake of a user."""
        raise BadInput(message)

    def _print_message(self, message: str, file: object = None) -> None:
        """Print a help or a version; argparse would keep quiet where that cannot be written."""
        sys.stdout.write(message)

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> object:
        """As argparse, which takes `--option=--` for one without a value."""
        if action.option_strings and arg_strings == ["--"]:
            raise BadInput(f"{action.option_strings[0]} needs a value, got '--'")
        return super()._get_values(action, arg_strings)

    def _get_value(self, action: argparse.Action, arg_string: str) -> object:
        """As argparse, but an empty word is no value: it stands for a variable that is not set."""
        if not arg_string and action.nargs != argparse.PARSER:
            name = action.option_strings[0] if action.option_strings else action.metavar
            raise BadInput(f"{name or action.dest} needs a value, got ''")
        return super()._get_value(action, arg_string)

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """As argparse, but the nearest choice is named, and what help hides is not."""
        if action.choices is None or value in action.choices:
            return
        listed = getattr(action, "_choices_actions", None)
        allowed = action.choices if listed is None else [item.dest for item in listed]
        choose(str(value), [str(name) for name in allowed], str(action.metavar or "value").lower())

    def format_help(self) -> str:
        """The help, with the epilog if there is one."""
        if self.write_epilog is not None:
            self.epilog = self.write_epilog()
        return super().format_help()

    def refuse_unknown(self, words: Sequence[str], fields: Sequence[str] = ()) -> None:
        """BadInput for words that this command has not claimed, naming the nearest option.

        `fields` are options too: those that set a field.
        """
        if not words:
            return
        option = words[0].partition("=")[0]
        hint = suggest_option(option, [*fields, *self.list_options()])
        raise BadInput(f"unknown argument {words[0]!r}{hint}")

    def list_options(self) -> dict[str, argparse.Action]:
        """Every option that help lists, and what it does."""
        options: dict[str, argparse.Action] = {}
        for action in self._actions:
            if action.help != argparse.SUPPRESS:
                options |= dict.fromkeys(action.option_strings, action)
        return options
