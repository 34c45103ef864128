"""A kernel in which all notebooks of a test process run, one after the other: what they import
takes most of their time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@pytest.fixture(scope="session")
def pictures_of() -> Iterator[Callable[..., int]]:
    """Runs a notebook from an empty namespace, in the environment that there is now, and counts the
    pictures that it shows. What makes it smaller is given by what stands there.
    """
    client = NotebookClient(
        new_notebook(), timeout=300, resources={"metadata": {"path": str(NOTEBOOKS)}}
    )

    def run(name: str, smaller: Mapping[str, str] | None = None) -> int:
        client.nb = nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4)
        for old, new in (smaller or {}).items():
            cells = [cell for cell in client.nb.cells if old in cell.source]
            assert cells, f"{name} has no {old!r}"
            for cell in cells:
                cell.source = cell.source.replace(old, new)
        environ = f"os.environ.update({dict(os.environ)!r})"
        fresh = f"%reset -f\nimport os\nos.environ.clear()\n{environ}\ndel os"
        client.nb.cells.insert(0, new_code_cell(fresh))
        client.execute(cleanup_kc=False)
        return sum(
            "image/png" in out.get("data", {})
            for cell in client.nb.cells
            for out in cell.get("outputs", [])
        )

    yield run
    if client.kc is not None:
        client.nb = new_notebook()
        client.execute(cleanup_kc=True)
