"""A process with the lab imported that forks: the command line started without its imports.

They take seconds. A bare one has imported only what others have written, which takes most of them:
its forks find out by themselves what the lab's modules import. One of them imports them all, and
is the server for commands that start with the lab.

`python -m tests.stories.warm SOCKET` serves one test process: to {"words": ..., "cwd": ...,
"environ": ...} and three files it answers with the pid of a `python -m toyvit WORDS`, or of a
`python -c CODE` where the words are these, in a session of its own, to {"wait": pid} with its
return code, null while it runs, to {"lab": true} and a socket with the pid of the server with the
lab, which listens there. When its socket is closed a server kills what still runs, and ends.
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
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MOST = 1 << 17  # bytes of a message: an environment has its place


class Warm:
    """A command line in a fork, as `subprocess.Popen` has it: its two outputs go to files."""

    def __init__(
        self,
        *words: str,
        cwd: Path | None = None,
        environ: Mapping[str, str] = os.environ,
        bare: bool = False,
    ) -> None:
        self.bare = bare
        self.returncode: int | None = None
        self.out = tempfile.TemporaryFile("w+")  # noqa: SIM115  `close` closes it
        self.err = tempfile.TemporaryFile("w+")  # noqa: SIM115
        start = {"words": words, "cwd": str(cwd or Path.cwd()), "environ": dict(environ)}
        with open(os.devnull) as nothing:
            files = (nothing.fileno(), self.out.fileno(), self.err.fileno())
            self.pid: int = ask(bare, start, *files)

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = ask(self.bare, {"wait": self.pid})
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
def channel(bare: bool) -> socket.socket:
    """To a server of this test process, started with the first command.

    It ends with this process.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    wait = start_server(theirs) if bare else fork_server(theirs)
    theirs.close()
    ours.settimeout(600)

    def end() -> None:
        ours.close()
        wait()

    atexit.register(end)
    return ours


def start_server(theirs: socket.socket) -> Callable[[], object]:
    """A bare server at that end of a socket, in an interpreter of its own; what waits for it."""
    words = [sys.executable, "-m", "tests.stories.warm", str(theirs.fileno())]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    server = subprocess.Popen(
        words, cwd=ROOT, pass_fds=[theirs.fileno()], start_new_session=True, **quiet
    )
    return server.wait


def fork_server(theirs: socket.socket) -> Callable[[], object]:
    """A fork of the bare one that imports the lab; what waits for it."""
    pid = ask(True, {"lab": True}, theirs.fileno())

    def wait() -> None:
        while ask(True, {"wait": pid}) is None:
            time.sleep(0.005)

    return wait


def ask(bare: bool, message: dict[str, Any], *files: int) -> Any:
    """Send a message and files to a server; its answer."""
    socket.send_fds(channel(bare), [json.dumps(message).encode()], files)
    answer = channel(bare).recv(MOST)
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
        if not pid and "lab" in message:
            os.setsid()
            running.clear()
            ours.send(json.dumps(os.getpid()).encode())
            ours.close()
            ours = socket.socket(fileno=files[0])
            load_lab()
            continue
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
    """A process of its own: session, files, folder, environment, where to import from, words."""
    os.setsid()
    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    os.chdir(message["cwd"])
    os.environ.clear()
    os.environ.update(message["environ"])
    places = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [place for place in places if place and place not in sys.path]
    sys.argv[1:] = message["words"]


def load_lab() -> None:
    """Every module that a command takes long to import comes with this one."""
    from joblib.externals.loky.backend.context import set_start_method

    import toyvit.sweeping  # noqa: F401
    from tests import standins

    standins.trust()
    set_start_method("fork")  # workers of a command too


def load_others() -> None:
    """The packages of others, each as `import PACKAGE` leaves it, and the module that lets them."""
    for name in ("toyvit.torchvision_guard", "pytorch_lightning", "pandas", "matplotlib"):
        import_module(name)
    lab = {name for name in sys.modules if name.split(".")[0] == "toyvit"}
    assert lab == {"toyvit", "toyvit.version", "toyvit.torchvision_guard"}


if __name__ == "__main__":
    load_others()
    serve(socket.socket(fileno=int(sys.argv[1])))
    if sys.argv[1] == "-c":
        exec(sys.argv[2], {"__name__": "__main__"})
    else:
        runpy.run_module("toyvit", run_name="__main__", alter_sys=True)
