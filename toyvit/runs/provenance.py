"""Where a run comes from that was not trained here: `provenance.jsonl`.

Its first line says what the run is (`kind`: `imported` or `watched`), each further one where a
checkpoint comes from: its step, the file and its SHA-256. Lines carry digests, as other books of a
run do.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from toyvit.config.foreign_files import JsonObject
from toyvit.errors import BadInput, name_file
from toyvit.runs.disk import format_line, read_lines, write_atomically

IMPORTED, WATCHED = "imported", "watched"
ELSEWHERE = (IMPORTED, WATCHED)


def read_provenance(file: Path, run: str) -> list[JsonObject]:
    """The lines of a run with this digest; nothing for one that was trained here.

    BadInput for a damaged line, and for another run's.

    >>> read_provenance(Path("no/such/run/provenance.jsonl"), run="")
    []
    """
    return read_lines(file, run)


def add_provenance(file: Path, run: str, facts: JsonObject) -> None:
    """A line more.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as place:
    ...     file = Path(place, "provenance.jsonl")
    ...     add_provenance(file, "", {"kind": IMPORTED, "family": "timm"})
    ...     read_kind(file, "")
    'imported'
    """
    with name_file(file), file.open("a") as book:
        book.write(format_line(facts, run))


def cut_provenance(file: Path, run: str, steps: Collection[int]) -> None:
    """The lines of what the run is and of checkpoints at these steps, the last of each; no others.

    Also without a line that was cut off.
    """
    first, *others = read_provenance(file, run)
    by_step = {line["step"]: line for line in others if line["step"] in steps}
    lines = [first, *by_step.values()]
    write_atomically(file, "".join(format_line(line, run) for line in lines).encode())


def read_kind(file: Path, run: str) -> str:
    """What a run that has this file is; BadInput where the file is damaged."""
    lines = read_provenance(file, run)
    return str(lines[0]["kind"]) if lines else IMPORTED


def find_provenance_problem(file: Path, run: str, steps: Sequence[int]) -> str | None:
    """What is wrong with the lines of a run that has checkpoints at these steps; or None."""
    try:
        lines = read_provenance(file, run)
    except BadInput as error:
        return str(error).removeprefix(f"{file}, ")
    if not lines or lines[0].get("kind") not in ELSEWHERE:
        return "does not begin with what the run is"
    told = [line.get("step") for line in lines[1:]]
    untold = [step for step in steps if step not in told]
    if untold:
        return f"does not tell where the checkpoint of step {untold[0]} is from"
    # A line of a watched model is written before its checkpoint: a kill may come between them.
    if told != list(steps) and lines[0]["kind"] == IMPORTED:
        return f"tells of {len(told)} checkpoints, the manifest has {len(steps)}"
    return None
