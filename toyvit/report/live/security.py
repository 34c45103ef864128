"""Who is answered: a request for this address, from its own page, that holds the token."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Mapping

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOCAL = ("127.0.0.1", "localhost")
EVERYWHERE = ("0.0.0.0", "::")
HEADER = "x-toyvit-token"
OF_DATA = "/api/"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def refuse(status: int, problem: str, headers: Mapping[str, str] | None = None) -> Response:
    """One line of JSON that says what is wrong.

    >>> refuse(404, "no run 3").body
    b'{"error": "no run 3"}\\n'
    """
    body = json.dumps({"error": problem}) + "\n"
    return Response(body, status, headers, media_type="application/json")


def list_hosts(host: str, port: int) -> frozenset[str] | None:
    """What a request may call this server; None for anything, where it listens everywhere.

    >>> sorted(list_hosts("127.0.0.1", 8000))
    ['127.0.0.1:8000', 'localhost:8000']
    """
    if host in EVERYWHERE:
        return None
    names = {*LOCAL, f"[{host}]" if ":" in host else host.lower()}
    plain = names if port == 80 else set()  # which browsers leave out
    return frozenset({f"{name}:{port}" for name in names} | plain)


class Gate:
    """The app behind what every request is asked; every answer gets `HEADERS`."""

    def __init__(self, app: ASGIApp, token: str, hosts: Collection[str] | None) -> None:
        self.app = app
        self.token = token.encode()
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        problem = self.find_problem(HTTPConnection(scope))
        answer = refuse(403, problem) if problem else self.app
        await answer(scope, receive, send_with_headers)

    def find_problem(self, asked: HTTPConnection) -> str | None:
        """Why a request is refused, or None.

        The token is in the address of what is looked at, and in a header of what a page asks.
        """
        host = asked.headers.get("host", "")
        if self.hosts is not None and host.lower() not in self.hosts:
            return "this host is not served: use the address that was printed"
        origin = asked.headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host}".lower():
            return "this origin is not served: use the address that was printed"

        is_data = asked.url.path.startswith(OF_DATA)
        given = asked.headers.get(HEADER) if is_data else asked.query_params.get("token")
        if given is None or not secrets.compare_digest(given.encode(), self.token):
            return "the token is missing or wrong: use the address that was printed"
        return None
