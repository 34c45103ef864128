"""The live view as an ASGI application: what is answered where, and how it is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from toyvit.config.foreign_files import parse_object
from toyvit.errors import BadInput, escape_text
from toyvit.report.live.answers import Answers
from toyvit.report.live.documents import Document, Documents
from toyvit.report.live.run_rows import RunRows
from toyvit.report.live.security import Gate, refuse
from toyvit.report.live.shelf import RunShelf
from toyvit.report.plain import Plain

Answer = TypeVar("Answer")
MOST_BYTES = 2_000_000  # of what is sent with a request


def build_app(path: Path, token: str, hosts: Collection[str] | None) -> Gate:
    """The application that serves the run or the runs at a path; BadInput where there is none."""
    views = Views(RunShelf(path))
    if not views.shelf.is_single:
        views.rows.read_ahead()
    return Gate(views.build(), token, hosts)


class Views:
    """What can be asked of a shelf of runs."""

    def __init__(self, shelf: RunShelf) -> None:
        self.shelf = shelf
        self.answers = Answers(shelf)
        self.rows = RunRows(shelf)
        self.documents = Documents(shelf, self.rows)
        self.worker = ThreadPoolExecutor(1)  # what torch is set to belongs to the process

    def build(self) -> Starlette:
        """The routes, and one line for whatever is refused."""
        handlers = {HTTPException: refuse_plainly}
        routes = [
            Route("/", self.show_first),
            Route("/page", self.show_page),
            Route("/api/runs", self.list_runs),
            Route("/api/compare", self.compare_runs),
            Route("/api/news", self.tell_news),
            Route("/api/look", self.look, methods=["POST"]),
        ]
        return Starlette(routes=routes, exception_handlers=handlers)

    async def show_first(self, request: Request) -> Response:
        """The page of the run, or the table of runs."""
        if self.shelf.is_single:
            return await answer(self.compute(partial(self.documents.show_page, ["0"])), build_html)
        return await answer(run_in_threadpool(self.documents.show_table), build_html)

    async def show_page(self, request: Request) -> Response:
        """The page of the runs that are named."""
        names = request.query_params.getlist("run")
        return await answer(self.compute(partial(self.documents.show_page, names)), build_html)

    async def list_runs(self, request: Request) -> Response:
        """The runs that are asked for, as rows of the columns that are."""
        return await answer(run_in_threadpool(self.rows.select, request.query_params))

    async def compare_runs(self, request: Request) -> Response:
        """Some runs side by side."""
        return await answer(run_in_threadpool(self.rows.compare, request.query_params))

    async def tell_news(self, request: Request) -> Response:
        """How far a run is."""
        name = request.query_params.get("run", "0")
        return await answer(run_in_threadpool(lambda: self.shelf.tell_news(self.shelf.find(name))))

    async def look(self, request: Request) -> Response:
        """What a model does with a picture."""
        body = await read_body(request)
        if body is None:
            return refuse(413, f"at most {MOST_BYTES:,} bytes can be sent")
        return await answer(
            self.compute(lambda: self.answers.look(parse_object(body, "what was sent")))
        )

    def compute(self, job: Callable[[], Answer]) -> Awaitable[Answer]:
        """The answer of what computes with torch, one after the other."""
        return asyncio.get_running_loop().run_in_executor(self.worker, job)


async def read_body(request: Request) -> bytes | None:
    """What was sent, no more of it than is allowed; None where there is more."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            return None
    return bytes(body)


def build_json(value: Plain) -> Response:
    """A value as JSON."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Response(text, media_type="application/json")


def build_html(page: Document) -> Response:
    """A page under its policy."""
    policy = f"{page.policy}; frame-ancestors 'none'"
    return HTMLResponse(page.text, headers={"Content-Security-Policy": policy})


async def answer(
    computed: Awaitable[Answer], build: Callable[..., Response] = build_json
) -> Response:
    """The response to a request, when it is computed; one line where it cannot be."""
    try:
        return build(await computed)
    except BadInput as error:
        return refuse(400, escape_text(str(error)))
    except OSError as error:
        return refuse(409, escape_text(f"{error.filename or 'a file'}: {error.strerror}"))
    except Exception as error:  # a fault of the lab's: no traceback leaves it
        return refuse(500, escape_text(f"{type(error).__name__}: {error}"))


async def refuse_plainly(request: Request, error: Exception) -> Response:
    """What starlette refuses (no such place, no such method), as everything else."""
    assert isinstance(error, HTTPException)
    return refuse(error.status_code, str(error.detail).lower(), error.headers)
