"""Serving the live view until a signal ends it."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import uvicorn

from toyvit.errors import BadInput
from toyvit.report.live.app import build_app
from toyvit.report.live.security import EVERYWHERE, Gate, list_hosts

SECONDS_TO_BEGIN = 10
SECONDS_TO_END = 1


@contextmanager
def serve(path: Path, host: str, port: int) -> Iterator[tuple[Thread, str]]:
    """Serve the run or the runs at a path; the thread that does, and the address with its token.

    Port 0 is any that is free. At the end the thread is hardly waited for: it has no state to save.
    BadInput where there is no run, or where the port cannot be had.
    """
    listener = open_socket(host, port)
    with listener:
        port = listener.getsockname()[1]
        token = secrets.token_urlsafe()
        app = build_app(path, token, list_hosts(host, port))
        server = uvicorn.Server(build_config(app))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            wait_for_start(server)
            yield thread, f"http://{name_host(host)}:{port}/?token={token}"
        finally:
            server.should_exit = True
            thread.join(SECONDS_TO_END)


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that listens there; BadInput where it cannot."""
    if not 0 <= port <= 65535:
        raise BadInput(f"--port must be 0 (any that is free) to 65535, got {port}")
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "it is no host"
        raise BadInput(f"{host}:{port} cannot be listened on: {why}") from None


def build_config(app: Gate) -> uvicorn.Config:
    """No log (addresses hold the token), no trust in headers of proxies, no web sockets."""
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )


def wait_for_start(server: uvicorn.Server) -> None:
    """Until it answers."""
    end = time.monotonic() + SECONDS_TO_BEGIN
    while not server.started:
        if time.monotonic() > end:
            raise BadInput("the server did not begin")
        time.sleep(0.01)


def name_host(host: str) -> str:
    """What the host is called in an address; where it listens everywhere, this machine's name."""
    if host in EVERYWHERE:
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host
