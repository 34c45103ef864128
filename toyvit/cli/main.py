"""The command line as a function: a user's mistake becomes one line and exit code 2."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from toyvit.cli.completion import answer_shell
from toyvit.cli.output import EscapingFormatter, show
from toyvit.cli.parser import build_parser
from toyvit.errors import BadInput, Diverged, Stopped, Unfinished


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was typed.

    Exit code: 0 done, 1 the reader of the output is gone, 2 bad input, 3 diverged, 4 training ended
    before its last step, 130 and 143 stopped by a signal and resumable.
    """
    parser = build_parser()
    answer_shell(parser)

    try:
        options, words = parser.parse_known_args(argv)
        if options.command is None:
            parser.refuse_unknown(words)
            parser.print_help()
            return 0
        return run_command(options, words)
    except BadInput as error:
        return fail(error, 2)
    except Diverged as error:
        return fail(error, 3)
    except Unfinished as error:
        return fail(error, 4)
    except BrokenPipeError:  # who read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        why = error.strerror or str(error)
        return fail(f"{error.filename}: {why}" if error.filename else why, 2)
    except KeyboardInterrupt:
        return fail("stopped by SIGINT", 130)


def run_command(options: argparse.Namespace, words: list[str]) -> int:
    """Run a command with its options, and with the words that its parser has not claimed."""
    command = options.command
    unknown = words
    if command.takes_fields:  # a field has a dot, `--model.n_layers`: others are misspelt options
        unknown = [word for word in words if word.startswith("--") and "." not in word]
    options.parser.refuse_unknown(unknown)
    options.words = words

    handler = logging.StreamHandler()
    handler.setFormatter(EscapingFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        return int(command.run(options))
    except Stopped as stop:
        resumes = command.name == "train"
        how = "`--resume` goes on from there" if resumes else "the same command goes on"
        return fail(f"{stop}; {how}", 128 + stop.signum)


def fail(problem: object, code: int) -> int:
    """Print the line of a failure, and give its exit code back."""
    show(f"toyvit: {problem}", error=True)
    return code
