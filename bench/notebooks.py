"""`python -m bench.notebooks [NAME ...]`: run notebooks, print seconds and kB, and store them.

A name is `00_tour`, or its number `00`. They run where they lie, so on the runs that are there or
on small ones, which are prepared before the clock starts. Stored without widgets: a page takes
megabytes, and a sentence stands for it.
"""

from __future__ import annotations

import base64
import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from PIL import Image

from toyvit.errors import BadInput, choose

FOLDER = Path(__file__).parents[1] / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"
NOTE = "The page of the run stands here once the cell is run: drag its slider through training."
COLOURS = 128  # of stored pictures
SIZE_BAR = 500  # kB of a stored notebook
TIME_BAR = 30  # seconds on a prepared run
PREPARE = 60 * 10  # seconds that a cell may take where a run is prepared


def execute(notebook: NotebookNode) -> float:
    """Run a notebook in a new kernel; seconds that its cells took, starting the kernel left out."""
    resources = {"metadata": {"path": str(FOLDER)}}
    client = NotebookClient(notebook, timeout=PREPARE, resources=resources)
    with client.setup_kernel():
        begun = time.perf_counter()
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
        return time.perf_counter() - begun


def shrink_picture(encoded: str) -> str:
    """A PNG in base64 with a palette of 128 colours: a third of the size."""
    picture = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    small = io.BytesIO()
    picture.quantize(COLOURS).save(small, "png", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def make_modest(notebook: NotebookNode) -> None:
    """Put a sentence where a widget is, shrink pictures, forget when cells ran."""
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if WIDGET in output.get("data", {}):
                output["data"] = {"text/plain": NOTE}
                output["metadata"] = {}
            if "image/png" in output.get("data", {}):
                output["data"]["image/png"] = shrink_picture(output["data"]["image/png"])


def find_notebooks(names: Sequence[str]) -> list[Path]:
    """The files that are meant: by name or number, `00_tour` or `00`; all where none is named.

    BadInput for a name that is none.
    """
    files = {file.stem: file for file in sorted(FOLDER.glob("*.ipynb"))}
    numbers = {stem.partition("_")[0]: stem for stem in files}
    return [files[numbers.get(name) or choose(name, files, "notebook")] for name in names or files]


def main(names: Sequence[str]) -> int:
    """Run and store notebooks (default: all), each twice where it first has to prepare a run."""
    misses = 0
    for file in find_notebooks(names):
        notebook = nbformat.read(file, 4)
        execute(notebook)
        seconds = execute(notebook)
        make_modest(notebook)
        nbformat.write(notebook, file)
        size = file.stat().st_size / 1000
        print(f"{file.stem:28} {seconds:6.1f} s  {size:6.0f} kB", flush=True)
        misses += seconds > TIME_BAR or size > SIZE_BAR
    return min(misses, 1)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BadInput as error:
        sys.exit(f"bench.notebooks: {error}")
