"""`toyvit view`: what it refuses and prints, how it ends, and sockets that do not behave."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from toyvit.cli.main import main
from toyvit.report.live.serving import serve

ROOT = Path(__file__).parents[3]
# Whoever started the tests may ignore it, as a shell does for what runs in the background.
VIEW = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from toyvit.__main__ import main
sys.exit(main())
"""


def refuse(capsys, *words: object) -> str:
    """The one line of a refusal."""
    assert main(["view", *map(str, words)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_what_cannot_be_served_is_refused(capsys, tmp_path, folder):
    assert "holds no run" in refuse(capsys, tmp_path)
    assert "holds no run" in refuse(capsys, tmp_path / "nowhere")
    assert "--port must be 0" in refuse(capsys, folder, "--port", 70_000)
    assert "cannot be listened on" in refuse(capsys, folder, "--host", "no host\u00e4" * 40)
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        assert f"{port} cannot be listened on" in refuse(capsys, folder, "--port", port)


def send(address: str, data: bytes) -> bytes:
    """What a server answers to raw bytes."""
    with socket.create_connection((urlsplit(address).hostname, urlsplit(address).port)) as client:
        client.settimeout(10)
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        parts = []
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts)


RAW = {
    "no HTTP": (b"\x00\xff\r\n\r\n", b"400"),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", b"400"),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: HOST\r\nHost: evil\r\n\r\n", b"400"),
    "an address elsewhere": (b"GET http://evil/ HTTP/1.1\r\nHost: evil\r\n\r\n", b"403"),
    "above": (b"GET /../../etc/passwd?token=TOKEN HTTP/1.1\r\nHost: HOST\r\n\r\n", b"404"),
    "a proxy's word": (
        b"GET / HTTP/1.1\r\nHost: evil\r\nX-Forwarded-Host: HOST\r\n\r\n",
        b"403",
    ),
    "more than is allowed": (
        b"POST /api/look HTTP/1.1\r\nHost: HOST\r\nX-ToyViT-Token: TOKEN\r\n"
        b"Content-Length: 2000001\r\n\r\n" + b" " * 2_000_001,
        b"413",
    ),
}


@pytest.fixture(scope="module")
def address(folder):
    with serve(folder, "127.0.0.1", 0) as (_, address):
        yield address


@pytest.mark.parametrize("what", RAW)
def test_raw_requests_are_refused(address, what):
    data, status = RAW[what]
    parts = urlsplit(address)
    data = data.replace(b"HOST", parts.netloc.encode())
    answer = send(address, data.replace(b"TOKEN", parts.query.removeprefix("token=").encode()))
    assert answer.split()[1] == status and b"Traceback" not in answer


def test_an_address_has_a_token_of_its_own(folder, address):
    with serve(folder, "127.0.0.1", 0) as (thread, other):
        assert thread.is_alive()
        tokens = {urlsplit(url).query for url in (address, other)}
        assert len(tokens) == 2 and all(len(token) > 40 for token in tokens)


@pytest.mark.slow
def test_ctrl_c_ends_it_in_two_seconds_with_a_line(folder):
    words = [sys.executable, "-c", VIEW, "view", str(folder)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(words, env=os.environ | {"PYTHONPATH": str(ROOT)}, **pipes)
    line = process.stdout.readline()
    assert line.startswith("open http://127.0.0.1:") and line.endswith("Ctrl-C ends it\n")
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=30)
    assert time.monotonic() - begun < 2
    assert (process.returncode, out, error) == (130, "", "toyvit: stopped by SIGINT\n")
