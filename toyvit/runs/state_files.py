"""The file of a state for resuming: what a glance at it says, before torch reads it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from toyvit.config.foreign_files import parse_object, read_file
from toyvit.errors import BadInput
from toyvit.runs.folder import RunFolder

BEFORE_DIGESTS = b"PK"  # how states of version 0.1 begin


def find_state_problem(folder: RunFolder, path: Path) -> str | None:
    """What is wrong with the file of a state, or None; those of version 0.1 have no digest."""
    try:
        content = read_file(path, "weights")
        if content.startswith(BEFORE_DIGESTS):
            return None
        head, _, body = content.partition(b"\n")
        fields = parse_object(head, str(path))
    except BadInput as error:
        why = str(error).removeprefix(f"{path} ").removeprefix("cannot be read: ")
        return f"cannot be read: {why}"
    if fields.get("sha256") != hashlib.sha256(body).hexdigest():
        return "does not have the SHA-256 that it was written with"
    if fields.get("run") != folder.hash_run():
        return "is of another run"
    named = path.stem.removeprefix("step_")
    if named.isdigit() and fields.get("step") != int(named):
        return f"is the state of step {fields.get('step')}"
    return None
