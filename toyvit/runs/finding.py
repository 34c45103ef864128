"""Where runs lie."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from toyvit.runs.folder import RunFolder

OF_A_RUN = ("checkpoints", "states", "tensorboard")  # folders of many files, none of them a run


def find_runs(folder: Path) -> list[RunFolder]:
    """Every run folder below a folder, by name.

    >>> find_runs(Path("no/such/folder"))
    []
    """
    paths = []
    for path, folders, files in os.walk(folder):
        if "config.json" in (*files, *folders):
            paths.append(Path(path))
            folders[:] = [name for name in folders if name not in OF_A_RUN]
    return [RunFolder(path) for path in sorted(paths)]


def find_others(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """The folder and each below it that is no run nor inside one, with its files, by name.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as place:
    ...     _ = Path(place, "sweep.csv").write_text("")
    ...     [files for _, files in find_others(Path(place))]
    [['sweep.csv']]
    """
    for path, folders, files in os.walk(folder):
        folders.sort()
        if "config.json" in (*files, *folders):
            folders.clear()
        else:
            yield Path(path), sorted(files)
