"""Whether all that `measure` is asked for is measured already, found out without torch.

Which pictures an evaluation shows, and which analyses fit them, is known when they are drawn. So
each `measure` notes in `requests.jsonl` what its request came to, under a digest of all that it
follows from. While that is the same, and the checkpoints asked for and the whole table are what was
written, the note says which cells to look for. Wherever anything is another or in doubt, the answer
is None: then it is found out as if there were no note.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from pathlib import Path

from toyvit.config.extensions import list_extensions
from toyvit.config.foreign_files import JsonObject
from toyvit.config.whole_files import remove_leftovers
from toyvit.errors import BadInput
from toyvit.runs.access import is_writable
from toyvit.runs.database import find_damage, open_to_read
from toyvit.runs.digests import (
    CELLS,
    IDENTITIES,
    Cell,
    hash_place,
    hash_words,
    read_baselines,
)
from toyvit.runs.disk import find_altered, format_line, parse_lines, read_texts, write_atomically
from toyvit.runs.folder import RunFolder
from toyvit.runs.manifest import ManifestEntry
from toyvit.version import AT_START, STARTED

PACKAGE = Path(__file__).parents[1]
PROCESSOR = Path("/proc/cpuinfo")
MOST = 32  # requests that are noted of a run
Versions = Sequence[tuple[str, int | str]]  # of analyses, by name


@dataclass(frozen=True, kw_only=True)
class MeasureReport:
    """What `measure` did.

    computed   cells measured now
    done       cells that were there already
    skipped    bad checkpoint files that were left out, and what is wrong with them
    unfit      analyses that were not run, and why
    clamps     the run's, under which it was measured
    diverged   steps asked for at which a sampler diverged, by analysis: they have no number
    not_local  others at which what was sampled is not local: the number is that of the settings
    """

    computed: int
    done: int
    skipped: dict[str, str]
    unfit: dict[str, str]
    clamps: tuple[str, ...] = ()
    diverged: dict[str, list[int]] = field(default_factory=dict)
    not_local: dict[str, list[int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What `measure` is asked for, but for the steps: see there."""

    analyses: tuple[str, ...] | None
    images: int
    split: str

    def hash(self) -> str:
        """A digest of it and of all that its evaluation and its analyses follow from.

        That is the lab's own source, every distribution that is installed, the processor and the
        variables that choose its kernels.
        """
        digest = hashlib.sha256(repr(self).encode())
        for path in sorted(PACKAGE.rglob("*.py")):
            digest.update(f"\n{path.relative_to(PACKAGE)}\n".encode() + path.read_bytes())
        digest.update(repr([*_list_installed()]).encode())
        digest.update(repr((sys.version, os.uname(), AT_START)).encode())
        with suppress(OSError), PROCESSOR.open("rb") as file:
            digest.update(b"\n".join(_list_facts(file.read(4096))))
        return digest.hexdigest()


def _list_installed() -> Iterator[tuple[str, int]]:
    """Every distribution that is installed: its name with its version, and since when."""
    for folder in sys.path:
        if Path(folder).name not in ("site-packages", "dist-packages"):
            continue
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.name.endswith((".dist-info", ".egg-info", ".egg-link", ".pth")):
                    yield entry.name, entry.stat().st_mtime_ns


def _is_as_imported() -> bool:
    """Whether nothing was installed, and no source of the lab written to, since this process began.

    What it has imported may else be another than what a digest is of.
    """
    times = [path.stat().st_mtime_ns for path in PACKAGE.rglob("*.py")]
    return max([*times, *(time for _, time in _list_installed())]) < STARTED


def _list_facts(text: bytes) -> list[bytes]:
    """Of the first processor its model and its flags; its clock changes."""
    lines = text.partition(b"\n\n")[0].splitlines()
    return [line for line in lines if line.startswith((b"model name", b"flags", b"Features"))]


def note_request(
    folder: RunFolder, request: Request, evaluation: str, versions: Versions, unfit: dict[str, str]
) -> None:
    """Note what a request came to: the digest of its evaluation, its analyses, those left out.

    Not where it may come to something else tomorrow: where pictures are read from files that are
    not installed with the lab, where anything from outside the package is known, and where what is
    installed was changed meanwhile.
    """
    is_settled = not (folder.read_config().task.reads_files or list_extensions())
    if not (is_settled and is_writable(folder.path) and _is_as_imported()):
        return
    answer = {"evaluation": evaluation, "analyses": [list(pair) for pair in versions]}
    line: JsonObject = {"request": request.hash(), **answer, "unfit": unfit}
    lines = _read_notes(folder)
    if line in lines:
        return
    others = [other for other in lines if other.get("request") != line["request"]]
    texts = [format_line(other, folder.hash_run()) for other in [*others, line][-MOST:]]
    with suppress(OSError):  # what was measured is written: a full disk can do without the note
        remove_leftovers(folder.path, folder.requests.name)
        write_atomically(folder.requests, "".join(texts).encode())


def _read_notes(folder: RunFolder) -> list[JsonObject]:
    """The notes of a run, those that are what was written."""
    try:
        texts = read_texts(folder.requests)
    except BadInput:
        return []
    altered = find_altered(texts, folder.hash_run())
    whole = [text for text in texts if text not in altered]
    return parse_lines(whole, folder.requests, folder.hash_run())


def find_measured(
    folder: RunFolder,
    entries: Mapping[int, ManifestEntry],
    request: Request,
    steps: Sequence[int] | None,
) -> MeasureReport | None:
    """What `measure` would report where it has nothing to do; None where it has, or may have.

    `entries` are the manifest's, by step; steps asked for are all of them by default.
    """
    wanted = list(entries) if steps is None else steps
    if not (wanted and set(wanted) <= entries.keys() and folder.requests.is_file()):
        return None

    key = request.hash()
    notes = [note for note in _read_notes(folder) if note.get("request") == key]
    if not notes or any(folder.find_problem(entries[step]) for step in wanted):
        return None
    note = notes[-1]
    cells: list[Cell] = []
    for step in wanted:
        sha256 = entries[step].sha256
        for name, version in note["analyses"]:
            cells.append(Cell(step, sha256, name, version, note["evaluation"]))
    flags = _find_flags(folder, cells)
    if flags is None:
        return None
    diverged, remote = flags
    return MeasureReport(
        computed=0,
        done=len(cells),
        skipped={},
        unfit=note["unfit"],
        clamps=folder.read_config().train.clamps,
        diverged=list_steps(cells, diverged),
        not_local=list_steps(cells, remote - diverged),
    )


def list_steps(cells: Iterable[Cell], among: Set[Cell]) -> dict[str, list[int]]:
    """Steps of those cells that are among others, by analysis."""
    steps: dict[str, list[int]] = {}
    for cell in cells:
        if cell in among:
            steps.setdefault(cell.analysis, []).append(cell.step)
    return dict(sorted(steps.items()))


def _find_flags(folder: RunFolder, cells: Sequence[Cell]) -> tuple[set[Cell], set[Cell]] | None:
    """Cells in which a sampler diverged, and in which what it sampled is not local; None where a
    cell is missing or in doubt.
    """
    try:
        with open_to_read(folder.measures) as db:
            if db is None or find_damage(db) is not None:
                return None
            ids = read_whole_cells(db, folder.hash_run())
            baselines, _ = read_baselines(db, folder.hash_run())
            among = "select cell from numbers join places on places.id = numbers.place"
            flags = [
                db.execute(f"{among} where quantity = ? and value = ?", pair).fetchall()
                for pair in (("diverged", 1), ("local", 0))
            ]
    except BadInput:
        return None

    evaluations = {cell.digest for cell in cells}
    if ids is None or not (ids.keys() >= set(cells) and baselines.keys() >= evaluations):
        return None
    by_id = {number: cell for cell, number in ids.items()}
    diverged, remote = (set(map(by_id.__getitem__, chain.from_iterable(rows))) for rows in flags)
    return diverged, remote


def read_whole_cells(db: sqlite3.Connection, run: str) -> dict[Cell, int] | None:
    """The cells of a table of the run with this hash, with their ids, where all of it is whole.

    Every number is compared with the digest of its cell, as `read_contents` does.
    """
    places = {
        number: hash_place(quantity, axes)
        for number, quantity, axes in db.execute("select id, quantity, axes from places")
    }
    numbers: dict[int, list[tuple[int, float]]] = {}
    for cell, place, value in db.execute("select cell, place, value from numbers not indexed"):
        if type(value) is not float or place not in places:
            return None
        numbers.setdefault(cell, []).append((places[place], value))

    names = ", ".join(f'"{name}"' for name in CELLS)
    ids: dict[Cell, int] = {}
    for number, *identity, check in db.execute(f"select {names} from cells not indexed"):
        if tuple(map(type, identity)) not in IDENTITIES:
            return None
        words = _pack(numbers.pop(number, []))
        if check != hash_words((run, *identity), words):
            return None
        ids[Cell(*identity[:5])] = number

    _, broken = read_baselines(db, run)
    return None if numbers or broken else ids


def _pack(lines: list[tuple[int, float]]) -> bytes:
    """Two words a number, for its place and of its value, in the order of places."""
    ordered: list[float] = []
    for line in sorted(lines, key=itemgetter(0)):
        ordered += line
    return struct.pack("<" + len(lines) * "Qd", *ordered)
