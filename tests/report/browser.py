"""Where the browser is, and what it is started with."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

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
PICTURES = Path(__file__).parents[2] / "build" / "page"  # kept for review


def find_browser() -> str:
    """The browser's program: `CHROMIUM`, or what the system has."""
    paths = [os.environ.get("CHROMIUM"), *map(shutil.which, NAMES)]
    path = next((path for path in paths if path), None)
    if path is None:
        raise pytest.UsageError(
            "these tests need Chromium: install your system's package, or set CHROMIUM to a program"
        )
    return path
