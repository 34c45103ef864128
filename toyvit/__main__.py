# PYTHON_ARGCOMPLETE_OK
"""The command `toyvit`, and `python -m toyvit`: its streams, its signals, its end.

What can be typed is in `toyvit.cli`.
"""

from __future__ import annotations

import os
import sys

try:  # what takes longest in a command's life is to import: a signal may come here already
    import signal

    from toyvit.runs.signals import CLOCK, end_by_signals, end_now, handle_signals, leave

    if __name__ == "__main__" or os.path.basename("".join(sys.argv[:1])).startswith("toyvit"):
        end_by_signals()  # not where somebody else's process imports this

    import atexit
    import gc
    import warnings
    from collections.abc import Sequence
    from io import TextIOWrapper
except KeyboardInterrupt:
    os.write(2, b"toyvit: stopped by SIGINT\n")
    os._exit(130)

STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was typed; its exit code. Without `argv`, as the process that a shell started."""
    if argv is None:
        return _run_process()
    from toyvit.cli.main import main as run_words

    return run_words(argv)


def _run_process() -> int:
    code = 1
    atexit.register(gc.freeze)  # what is left is given back whole: no search for cycles in it
    try:
        handle_signals()
        open_streams()
        _hush_workers()
        code = _run_words()
        end_by_signals()
    except KeyboardInterrupt as stop:  # before the command began, or when it had ended
        end_now(getattr(stop, "signum", signal.SIGINT))
    except Exception:
        if not CLOCK.is_running:
            raise
        end_now(CLOCK.signum)  # a library has made something else of the signal
    if CLOCK.is_running:
        leave(code)
    return code


def _run_words() -> int:
    """The exit code of what was typed, and 1 where nobody could be told."""
    try:
        from toyvit.cli.main import main as run_words

        code = run_words()
    except SystemExit as end:  # --help and --version
        code = int(end.code or 0)
    return code if flush_output() else code or 1


def _hush_workers() -> None:
    """joblib says what it gave up when it is ended in a hurry: a signal has its own line.

    One warning comes from a process of joblib's, which is given this process's options.
    """
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")
    warnings.filterwarnings("ignore", ".*still being processed by the workers", UserWarning)


def open_streams() -> None:
    """Standard streams that are closed lead nowhere, and no letter is too strange to be printed.

    Else a file that is opened next would have their number, and what a library prints lie in it.
    """
    for number, (name, mode) in enumerate(STREAMS):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def flush_output() -> bool:
    """Whether what was printed could be written; what could not is given up."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
