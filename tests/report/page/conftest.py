"""A browser (Chromium), and pages of small runs. What uses them runs with `make test-page`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.report.conftest import SmallRuns
from tests.report.page.opened import Opened
from toyvit.report import compute_figures
from toyvit.report.page.document import write_page
from toyvit.runs.handle import Run

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Nothing that a fresh browser would look up by itself.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
PICTURES = Path(__file__).parents[3] / "build" / "page"  # kept for review


def find_browser() -> str:
    """The browser's program: `CHROMIUM`, or what the system has."""
    paths = [os.environ.get("CHROMIUM"), *map(shutil.which, NAMES)]
    path = next((path for path in paths if path), None)
    if path is None:
        raise pytest.UsageError(
            "these tests need Chromium: install your system's package, or set CHROMIUM to a program"
        )
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser) -> Iterator[Callable[..., Opened]]:
    """Opens a file without a network; at the end no page may have said or fetched anything."""
    opened: list[Opened] = []

    def open_file(file: Path, **options: object) -> Opened:
        opened.append(Opened(browser, file, **options))
        return opened[-1]

    yield open_file
    for page in opened:
        page.close()
        assert page.problems == []


@pytest.fixture(scope="session")
def glyphs_page(runs: SmallRuns, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the run on glyphs, digits beside it."""
    file = tmp_path_factory.mktemp("page") / "page.html"
    main, beside = runs["glyphs"], runs["digits"]
    figures = [figure.data for figure in compute_figures(main)]
    return write_page([main, beside], file, {main.path: figures})


@pytest.fixture(scope="session")
def glyphs(runs: SmallRuns) -> Run:
    return runs["glyphs"]


@pytest.fixture(scope="session")
def large_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run of 257 tokens and 12 heads in 2 layers, untrained."""
    from bench.large_run import make_large_run

    folder = tmp_path_factory.mktemp("large")
    return write_page([make_large_run(folder / "run")], folder / "page.html")
