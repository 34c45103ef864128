"""The command line as a function: a user's mistake becomes one line and exit code 2."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import signal
import sys
from collections.abc import Sequence

from toyvit.cli.completion import answer_shell
from toyvit.cli.output import EscapingFormatter, show
from toyvit.cli.parser import build_parser, split_fields
from toyvit.errors import BadInput, Diverged, Stopped, Unfinished
from toyvit.runs.signals import CLOCK

# Of a disk that takes nothing more, or not from this user.
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was typed.

    Exit code: 0 done, 1 the reader of the output is gone, 2 bad input, 3 diverged, 4 training ended
    before its last step, 130 and 143 stopped by a signal and resumable.
    """
    parser = build_parser()
    answer_shell(parser)
    how = "the same command goes on"

    try:
        typed, fields = split_fields(sys.argv[1:] if argv is None else argv)
        options, unknown = parser.parse_known_args(typed)
        if options.command is None:
            parser.refuse_unknown(unknown)
            parser.print_help()
            return 0
        options.parser.refuse_unknown(unknown, list_settable(options) if unknown else ())
        options.words = fields
        how = options.command.how_to_go_on
        code = run_command(options)
        sys.stdout.flush()
        return code
    except BadInput as error:
        return fail(error, 2)
    except Diverged as error:
        return fail(error, 3)
    except Unfinished as error:
        return fail(error, 4)
    except Stopped as stop:
        return fail(f"{stop}; {how}", 128 + stop.signum)
    except BrokenPipeError:  # who read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return fail(describe_problem(error, how), 2)
    except MemoryError:
        return fail(f"there is not enough memory for this; what was finished is kept, {how}", 2)
    except KeyboardInterrupt as stop:
        signum = getattr(stop, "signum", signal.SIGINT)
        return fail(f"stopped by {signal.Signals(signum).name}", 128 + signum)


def list_settable(options: argparse.Namespace) -> list[str]:
    """The options that set fields of the recipe typed; none where the command takes no recipe's."""
    recipe = getattr(options, "recipe", None) or next(iter(getattr(options, "recipes", [])), None)
    if recipe is None or not options.command.takes_fields:
        return []
    from toyvit.config.overrides import list_fields
    from toyvit.recipes import find_recipe

    return list_fields(find_recipe(recipe)())


def run_command(options: argparse.Namespace) -> int:
    """Run a command with its options, and with the fields that were typed."""
    command = options.command
    CLOCK.advice = f"; what was finished is kept, {command.how_to_go_on}"
    handler = logging.StreamHandler()
    handler.setFormatter(EscapingFormatter("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    return int(command.run(options))


def describe_problem(error: OSError, how: str) -> str:
    """A file that could not be read or written; of a full disk also what is kept, and what next."""
    why = error.strerror or str(error)
    if error.errno not in DISK:
        return f"{error.filename}: {why}" if error.filename else why
    place = error.filename or "the output"  # files are named where they are written
    return f"{place}: {why}; what was finished is kept: when that is mended, {how}"


def fail(problem: object, code: int) -> int:
    """Print the line of a failure, and give its exit code back."""
    show(f"toyvit: {problem}", error=True)
    return code
