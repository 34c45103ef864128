"""A process with the lab imported that forks: the command line started without its imports.

They take seconds. `python -m tests.stories.warm SOCKET` serves one test process: to {"words": ...,
"cwd": ..., "environ": ...} and three files it answers with the pid of a `python -m toyvit WORDS` in
a session of its own, to {"wait": pid} with its return code, null while it runs. When the socket is
closed it kills what still runs, and ends.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MOST = 1 << 17  # bytes of a message: an environment has its place


class Warm:
    """A command line in a fork, as `subprocess.Popen` has it: its two outputs go to files."""

    def __init__(self, *words: str) -> None:
        self.returncode: int | None = None
        self.out = tempfile.TemporaryFile("w+")  # noqa: SIM115  `close` closes it
        self.err = tempfile.TemporaryFile("w+")  # noqa: SIM115
        start = {"words": words, "cwd": os.getcwd(), "environ": dict(os.environ)}
        with open(os.devnull) as nothing:
            self.pid: int = ask(start, nothing.fileno(), self.out.fileno(), self.err.fileno())

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = ask({"wait": self.pid})
        return self.returncode

    def wait(self, timeout: float = 300) -> int:
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("toyvit", timeout)
            time.sleep(0.005)
        return code

    def communicate(self, timeout: float = 300) -> tuple[str, str]:
        self.wait(timeout)
        self.out.seek(0)
        self.err.seek(0)
        texts = (self.out.read(), self.err.read())
        self.close()
        return texts

    def close(self) -> None:
        self.out.close()
        self.err.close()

    def send_signal(self, number: int) -> None:
        """A process that has ended is reaped only when asked after: its number is still its own."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@cache
def channel() -> socket.socket:
    """To the server of this test process, started with the first command.

    It ends with this process.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    words = [sys.executable, "-m", "tests.stories.warm", str(theirs.fileno())]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    server = subprocess.Popen(
        words, cwd=ROOT, pass_fds=[theirs.fileno()], start_new_session=True, **quiet
    )
    theirs.close()
    ours.settimeout(600)

    def end() -> None:
        ours.close()
        server.wait()

    atexit.register(end)
    return ours


def ask(message: dict[str, Any], *files: int) -> Any:
    """Send a message and files to the server; its answer."""
    socket.send_fds(channel(), [json.dumps(message).encode()], files)
    answer = channel().recv(MOST)
    assert answer, "the server has ended"
    return json.loads(answer)


def serve(ours: socket.socket) -> None:
    """Answer until the other side is closed.

    Returns in a fork as soon as it is set up, with its words in `sys.argv`.
    """
    running: set[int] = set()
    while True:
        text, files, *_ = socket.recv_fds(ours, MOST, 3)
        if not text:
            break
        message = json.loads(text)
        if "wait" in message:
            ended, status = os.waitpid(message["wait"], os.WNOHANG)
            running.discard(ended)
            ours.send(json.dumps(os.waitstatus_to_exitcode(status) if ended else None).encode())
            continue

        pid = os.fork()
        if not pid:
            become(message, files)
            ours.send(json.dumps(os.getpid()).encode())
            ours.close()
            return
        running.add(pid)
        for file in files:
            os.close(file)

    for pid in running:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    sys.exit()


def become(message: dict[str, Any], files: list[int]) -> None:
    """A process of its own: session, files, folder, environment, words."""
    os.setsid()
    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    os.chdir(message["cwd"])
    os.environ.clear()
    os.environ.update(message["environ"])
    sys.argv[1:] = message["words"]


if __name__ == "__main__":
    # Every other module that a command takes long to import comes with it.
    from joblib.externals.loky.backend.context import set_start_method

    import toyvit.sweeping  # noqa: F401
    from tests import standins

    standins.trust()

    set_start_method("fork")  # workers of a command too
    serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module("toyvit", run_name="__main__", alter_sys=True)
