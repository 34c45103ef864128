"""What a user's mistake looks like: one line that says what came, what is allowed, and the nearest match."""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from signal import Signals


class BadInput(ValueError):
    """Something the user gave cannot be used. The message is one line; the command line prints it and exits with 2."""


class BadField(BadInput):
    """A field of a record is not what it must be: `field` and `problem`, so that who set it under another name can say that."""

    def __init__(self, record: str, field: str, problem: str) -> None:
        super().__init__(
            record, field, problem
        )  # as given, so that it passes from a worker process
        self.record, self.field, self.problem = record, field, problem

    def __str__(self) -> str:
        return f"{self.record}.{self.field} {self.problem}"


class NotInstalled(BadInput):
    """What a run needs comes from a package that is not here; the message names what to install."""


class Diverged(ArithmeticError):
    """The training loss became NaN or infinite. The command line prints the message and exits with 3."""


class Stopped(Exception):
    """Training was stopped by a signal after it saved its state; `signum` says which. The exit code is 128 and that."""

    def __init__(self, signum: int, path: Path, step: int) -> None:
        super().__init__(f"{path}: stopped by {Signals(signum).name} at step {step}")
        self.signum = signum


def suggest_nearest(name: str, allowed: Iterable[str]) -> str:
    """A hint `; did you mean 'x'?`, or an empty string where nothing is close."""
    close = get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def choose(name: str, allowed: Iterable[str], what: str) -> str:
    """`name` itself if it is among `allowed`, else BadInput that lists them and names the nearest."""
    allowed = list(allowed)
    if name not in allowed:
        raise BadInput(
            f"unknown {what} {name!r}: allowed are {', '.join(allowed)}{suggest_nearest(name, allowed)}"
        )
    return name
