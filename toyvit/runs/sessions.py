"""`sessions.jsonl`: a line for each time that a run is trained, with what it ran under."""

from __future__ import annotations

import logging

from toyvit.config.foreign_files import JsonObject
from toyvit.errors import BadInput, name_file
from toyvit.runs.disk import format_line, parse_lines, read_texts, write_atomically
from toyvit.runs.folder import RunFolder

logger = logging.getLogger(__name__)


def note_session(folder: RunFolder, step: int) -> None:
    """Write down that training goes on from a step, and under what.

    Where versions are other than those that the run was begun with, say so in one line: bits are
    the same only under the same.
    """
    from toyvit.surroundings import describe_surroundings, list_versions

    warn_of_versions(folder, step)
    texts = read_texts(folder.sessions)  # half a line that a killed process left is not among them
    record = {
        "session": len(texts),
        "step": step,
        "steps": folder.read_config().train.steps,
        "versions": list_versions(),
        "surroundings": describe_surroundings(),
    }
    line = format_line(record, folder.hash_run()).encode()
    content = b"".join(text + b"\n" for text in texts) + line
    with name_file(folder.sessions):
        write_atomically(folder.sessions, content, flush=True)


def find_sessions_problem(folder: RunFolder, last: int) -> str | None:
    """What is wrong with the lines of a run that has a checkpoint at step `last`, or None.

    They are of this run, count from 0 on without a gap, and begin at its first step. Runs of
    version 0.2 and before have none, or none of their first sessions; there lines without digests
    are taken.
    """
    path = folder.sessions
    if not path.exists():
        return "is missing" if last and folder.read_file().has_digests else None
    try:
        texts = read_texts(path)
        lines = parse_lines(texts, path, folder.hash_run())
    except BadInput as error:
        return str(error).removeprefix(f"{path}").lstrip(", ")
    if path.stat().st_size != sum(len(text) + 1 for text in texts) and not folder.is_locked():
        return "ends in half a line"
    if not folder.read_file().has_digests:
        return None
    if texts and not any(b'"check"' in text for text in texts):
        return "has lost its digests"
    return _find_odd_line(lines, last)


def _find_odd_line(lines: list[JsonObject], last: int) -> str | None:
    if not lines:
        return "holds no line" if last else None
    if [line.get("session") for line in lines] != list(range(len(lines))):
        return "does not count every session"
    if lines[0].get("step") != 0:
        return f"begins at step {lines[0].get('step')}"
    return None


def warn_of_versions(folder: RunFolder, step: int) -> None:
    """One line where the run was begun under other versions than those that are here."""
    from toyvit.surroundings import list_versions

    here = list_versions()
    changes = [
        f"{name} {before} -> {here[name]}"
        for name, before in folder.read_file().versions.items()
        if name in here and here[name] != before
    ]
    if changes:
        logger.warning(
            "%s was begun under other versions (%s): from step %d on its bits may be others",
            folder.path,
            ", ".join(changes),
            step,
        )
