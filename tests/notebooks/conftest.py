"""What tests of notebooks need: their shared package, and a kernel in which they all run."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
sys.path.insert(0, str(NOTEBOOKS))


def read(name: str) -> NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4)


@pytest.fixture(scope="session")
def execute() -> Iterator[Callable[..., float]]:
    """Runs a notebook from an empty namespace, in the environment that there is now; seconds.

    One kernel for all: what they import takes most of their time. A cell that fails is not raised,
    its outputs tell; or, where `stops` is set, it is the last that runs, as in Jupyter.
    """
    resources = {"metadata": {"path": str(NOTEBOOKS)}}
    client = NotebookClient(new_notebook(), timeout=600, resources=resources)

    def run(notebook: NotebookNode, stops: bool = False) -> float:
        environ = f"os.environ.update({dict(os.environ)!r})"
        fresh = f"%reset -f\nimport os\nos.environ.clear()\n{environ}\ndel os"
        for cell in notebook.cells:  # what is stored is no output of this time
            if cell.cell_type == "code":
                cell.outputs = []
        notebook.cells.insert(0, new_code_cell(fresh))
        client.nb = notebook
        client.allow_errors = not stops
        begun = time.perf_counter()
        client.execute(cleanup_kc=False)
        return time.perf_counter() - begun

    yield run
    if client.kc is not None:
        client.nb = new_notebook()
        client.execute(cleanup_kc=True)
