"""`sessions.jsonl`: a line for each time that a run is trained, with what it ran under."""

from __future__ import annotations

import logging

from toyvit.errors import name_file
from toyvit.runs.disk import format_line
from toyvit.runs.folder import RunFolder
from toyvit.surroundings import describe_surroundings, list_versions

logger = logging.getLogger(__name__)


def note_session(folder: RunFolder, step: int) -> None:
    """Write down that training goes on from a step, and under what.

    Where versions are other than those that the run was begun with, say so in one line: bits are
    the same only under the same.
    """
    warn_of_versions(folder, step)
    line = {"step": step, "versions": list_versions(), "surroundings": describe_surroundings()}
    with name_file(folder.sessions), folder.sessions.open("a") as file:
        file.write(format_line(line))


def warn_of_versions(folder: RunFolder, step: int) -> None:
    """One line where the run was begun under other versions than those that are here."""
    folder.read_config()
    here = list_versions()
    changes = [
        f"{name} {before} -> {here[name]}"
        for name, before in folder.versions.items()
        if name in here and here[name] != before
    ]
    if changes:
        logger.warning(
            "%s was begun under other versions (%s): from step %d on its bits may be others",
            folder.path,
            ", ".join(changes),
            step,
        )
