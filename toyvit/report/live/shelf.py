"""The runs of a live view: those that were there when it began, opened when they are asked for."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from toyvit.errors import BadInput, suggest_nearest
from toyvit.report.plain import Plain
from toyvit.runs.finding import find_runs
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run
from toyvit.runs.hints import suggest_run

MOST_RUNS = 16  # that are open at once
State = tuple[tuple[int, int] | None, ...]


class RunShelf:
    """The run at a path, or all below it, by number and by name (its path from there).

    No request names a path: a run is one of these or none. BadInput where there is no run.
    """

    def __init__(self, path: Path) -> None:
        is_run = (path / "config.json").is_file()
        self.folders = [RunFolder(path)] if is_run else find_runs(path)
        if not self.folders:
            raise BadInput(f"{path} holds no run{suggest_run(path)}")
        top = path.parent if is_run else path
        self.names = [folder.path.relative_to(top).as_posix() for folder in self.folders]
        self.is_single = is_run
        self._open = lru_cache(MOST_RUNS)(self._read)

    def find(self, name: str) -> int:
        """The number of a run, given as such or by its name; BadInput that names the nearest."""
        if name.isascii() and name.isdigit():
            if len(name) > 9 or int(name) >= len(self.names):
                raise BadInput(f"no run {name[:20]}: there are runs 0 to {len(self.names) - 1}")
            return int(name)
        if name not in self.names:
            raise BadInput(f"no run {name[:200]!r}{suggest_nearest(name[:200], self.names)}")
        return self.names.index(name)

    def open(self, place: int) -> Run:
        """A run as its files say now: one that has not changed is not read again."""
        return self._open(place, read_state(self.folders[place]))

    def _read(self, place: int, state: State) -> Run:
        folder = self.folders[place]
        return Run(RunFolder(folder.path))

    def tell_news(self, place: int) -> dict[str, Plain]:
        """How far a run is now, and what its table's file is like; cheap."""
        folder = self.folders[place]
        config = folder.read_config()
        n_checkpoints, last = folder.read_progress()
        _, _, *table, _ = read_state(folder)
        return {
            "name": self.names[place],
            "status": folder.read_status(config),
            "checkpoints": n_checkpoints,
            "lastStep": last.step if last else 0,
            "steps": config.train.steps,
            "accuracy": last.accuracy if last else None,
            "measured": repr(table),
        }


def read_state(folder: RunFolder) -> State:
    """Size and time of the books, the table and its journal, and the folder of circuits."""
    journal = folder.measures.with_name(f"{folder.measures.name}-wal")
    books = (folder.config_file, folder.manifest)
    return tuple(map(_stamp, (*books, folder.measures, journal, folder.figures)))


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    # Whoever reads a table makes an empty journal for a while.
    return (facts.st_size, facts.st_mtime_ns) if facts.st_size else None
