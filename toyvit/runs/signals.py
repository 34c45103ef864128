"""Signals end a process of the command line in time: also while it imports or waits. No other."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from subprocess import Popen

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SECONDS_TO_END = 1.5  # after a signal, for what can be saved: everything written is whole without


class EndedBySignal(KeyboardInterrupt):
    """A signal came; `signum` says which."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum

    def __str__(self) -> str:
        return signal.Signals(self.signum).name


class Clock:
    """Started by the first signal of a process of the command line; when it is out, so is that."""

    def __init__(self) -> None:
        self.is_set = False
        self.is_running = False
        self.signum = 0  # of the signal that started it
        self.advice = ""  # how to go on, where there is more to say than the signal's name
        self.children: list[Popen[bytes]] = []  # that have nothing left to do without this process

    def start(self, signum: int) -> bool:
        """Whether this is the first signal; a thread that takes no lock then waits for the end."""
        is_first = not self.is_running
        self.is_running = True
        self.signum = self.signum or signum
        if self.is_set and is_first:
            _thread.start_new_thread(self._wait, (signum,))
        return is_first

    def _wait(self, signum: int) -> None:
        time.sleep(SECONDS_TO_END)
        end_now(signum)


CLOCK = Clock()


def handle_signals() -> None:
    """From now on a signal raises EndedBySignal once, and the process ends soon after.

    A signal that the process was started to ignore stays ignored.
    """
    CLOCK.is_set = True
    os.register_at_fork(after_in_child=_leave_to_parent)
    sys.unraisablehook = _end_if_lost
    _set_handler(_receive)


def end_by_signals() -> None:
    """From now on a signal ends the process at once, with its line: there is nothing to save."""
    _set_handler(end_now)


def _set_handler(handler: Callable[[int, FrameType | None], None]) -> None:
    for signum in SIGNALS:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, handler)


def _leave_to_parent() -> None:
    """A forked worker is ended by the process that it works for, not by the terminal."""
    CLOCK.is_set = False
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _receive(signum: int, frame: FrameType | None) -> None:
    if CLOCK.start(signum):
        raise EndedBySignal(signum)


def _end_if_lost(unraisable: sys.UnraisableHookArgs) -> None:
    """Python drops what is raised where it can go nowhere, as in what cleans up after an import."""
    if isinstance(unraisable.exc_value, EndedBySignal):
        end_now(unraisable.exc_value.signum)
    sys.__unraisablehook__(unraisable)


def end_now(signum: int, frame: FrameType | None = None) -> NoReturn:
    """Say which signal came, and end the process."""
    line = f"toyvit: stopped by {EndedBySignal(signum)}{CLOCK.advice}\n"
    with suppress(OSError):
        os.write(2, line.encode())
    leave(128 + signum)


def leave(code: int) -> NoReturn:
    """End the process and its workers now: what libraries do at the end of one can take long."""
    with suppress(Exception):
        sys.stdout.flush()
    for child in CLOCK.children:
        child.kill()
    if "multiprocessing" in sys.modules:
        for worker in sys.modules["multiprocessing"].active_children():
            worker.kill()
    os._exit(code)
