"""What a user's mistake looks like: one line with what came, what is allowed, the nearest match."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from signal import Signals

# What fields are called elsewhere.
SHORT_NAMES = {"depth": "n_layers", "lr": "learning_rate", "width": "d_model", "wd": "weight_decay"}


class BadInput(ValueError):
    """Something the user gave cannot be used; the message is one line.

    The command line prints it and exits with 2.
    """


class BadField(BadInput):
    """A field of a record is not what it must be.

    It has `field` and `problem`, so that who set the field under another name can say that.
    """

    def __init__(self, record: str, field: str, problem: str) -> None:
        super().__init__(record, field, problem)  # as given: it passes from a worker process
        self.record = record
        self.field = field
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.record}.{self.field} {self.problem}"


class DataMissing(BadInput):
    """The pictures of a run are not here, or not those that it was begun with.

    What was measured can be shown without them.
    """


class NotInstalled(DataMissing):
    """What a run needs comes from a package that is not here; the message names what to install."""


class Diverged(ArithmeticError):
    """The training loss became NaN or infinite; the command line says so and exits with 3."""


class Stopped(Exception):
    """Training was stopped by a signal after it saved its state; `signum` says which.

    The exit code is 128 and that.
    """

    def __init__(self, signum: int, path: Path, step: int) -> None:
        super().__init__(f"{path}: stopped by {Signals(signum).name} at step {step}")
        self.signum = signum


class Unfinished(Exception):
    """Training ended before its last step, and no signal asked for it; the exit code is 4."""


def escape_text(text: str) -> str:
    """A text that may come from elsewhere, in one line, as it can be shown anywhere.

    What does not print stands as its escape: control characters, line breaks, what turns the
    direction of writing, halves of characters.

    >>> print(escape_text("a\\x1b[31mb\\u202e"))
    a\\x1b[31mb\\u202e
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def escape_lines(text: str) -> str:
    """A text of several lines, each as `escape_text` has it."""
    return "\n".join(map(escape_text, text.split("\n")))


def quote_code(text: str) -> str:
    """A text that may come from elsewhere as code in a page: Markdown and HTML show it as it is.

    >>> print(quote_code("<b>_a|b_`"))
    `<b>_a\\|b_'`
    """
    plain = escape_text(text).replace("`", "'").replace("|", r"\|")
    return f"`{plain}`"


def escape_file_name(text: str) -> str:
    """A text as a part of a file's name: what could lead elsewhere or mean something is `_`.

    >>> escape_file_name("noise=0.1"), escape_file_name("../a b")
    ('noise=0.1', '___a_b')
    """
    plain = "".join(char if char.isalnum() or char in "=,+-._" else "_" for char in text)
    return plain.replace("..", "__")


@contextmanager
def name_file(path: Path | str) -> Iterator[None]:
    """What the system refuses within has a file's name: of a full disk it gives none.

    >>> try:
    ...     with name_file("runs/first/metrics.jsonl"):
    ...         raise OSError(28, "No space left on device")
    ... except OSError as error:
    ...     print(error.filename)
    runs/first/metrics.jsonl
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def suggest_nearest(name: str, allowed: Iterable[str]) -> str:
    """A hint `; did you mean 'x'?`, or an empty string where nothing is close.

    >>> suggest_nearest("induktion", ["induction", "digits"])
    "; did you mean 'induction'?"
    """
    close = get_close_matches(name, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def suggest_option(option: str, allowed: Iterable[str]) -> str:
    """A hint at the option that was meant, found also by a field's name without its part.

    >>> suggest_option("--steps", ["--seed", "--train.steps", "--train.learning_rate"])
    "; did you mean '--train.steps'?"
    """
    typed = option.removeprefix("--")
    name = typed.rpartition(".")[2].replace("-", "_")
    name = SHORT_NAMES.get(name, name)
    by_name = {re.sub(r"^--|.*\.", "", other).replace("-", "_"): other for other in allowed}
    if name in by_name:
        return f"; did you mean {by_name[name]!r}?"
    if "." in typed or not option.startswith("--"):
        return suggest_nearest(option, allowed)
    close = get_close_matches(name, by_name, n=1)
    return f"; did you mean {by_name[close[0]]!r}?" if close else ""


def choose(name: str, allowed: Iterable[str], what: str) -> str:
    """`name` itself if it is allowed, else BadInput that lists what is and names the nearest."""
    names = list(allowed)
    if name not in names:
        hint = suggest_nearest(name, names)
        raise BadInput(f"unknown {what} {name!r}: allowed are {', '.join(names)}{hint}")
    return name
