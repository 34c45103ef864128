"""Power cuts: the disk as it may be found when what was written was not flushed in full.

A training run and a measurement are watched as they write. After any of their writes the power may
be cut: what was flushed is there; of what was written since, each file is there, torn, blank, empty
or as it was before, and each name in a folder is there or not. Folders themselves are taken for
made. SQLite flushes its log itself: there the end of the log is torn off.
"""

from __future__ import annotations

import os
import pickle
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from bench import option_sets
from bench.fault_commands import (
    MEASURE,
    QUICK,
    SECONDS,
    TRAIN,
    check_end,
    fresh,
    is_traceback,
    list_contents,
    must,
    prepare_runs,
    running,
    warm,
)
from bench.fault_files import Try
from bench.option_sets import run_words

WATCHED = ("fsync", "replace", "rename", "unlink", "mkdir")
CUT = (*TRAIN, "cut")
Names = dict[str, int]  # of files in a folder: the file that each is, by its number


@dataclass
class Disk:
    """What a folder is, and what of it would be there after a cut."""

    names: Names = field(default_factory=dict)  # inside the folder
    flushed_names: Names = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)
    flushed: dict[int, bytes] = field(default_factory=dict)

    def look(self, folder: Path) -> None:
        """Read what is there now."""
        self.names = {}
        for path in filter(Path.is_file, folder.rglob("*")):
            number = path.stat().st_ino
            self.names[str(path.relative_to(folder))] = number
            if number not in self.contents:
                os.open(path, os.O_RDONLY)  # never closed: no other file gets its number
            content = path.read_bytes()
            if self.contents.get(number) != content:
                self.contents[number] = content

    def flush(self, descriptor: int, folder: Path) -> None:
        """A file, or the names in a folder, are on the disk now."""
        number = os.fstat(descriptor).st_ino
        if number in self.contents:
            self.flushed[number] = self.contents[number]
        for parent in (folder, *filter(Path.is_dir, folder.rglob("*"))):
            if parent.stat().st_ino == number:
                self._flush_names(parent.relative_to(folder))

    def _flush_names(self, parent: Path) -> None:
        staying = {name: n for name, n in self.flushed_names.items() if Path(name).parent != parent}
        there = {name: n for name, n in self.names.items() if Path(name).parent == parent}
        self.flushed_names = staying | there

    def copy(self) -> Disk:
        """The same, which does not change when this one does."""
        return Disk(self.names, self.flushed_names, dict(self.contents), dict(self.flushed))

    def cut(self, rng: random.Random) -> dict[str, bytes]:
        """What is found after a cut: one of all that may be, by the names of files."""
        files = {}
        for name in sorted(self.names.keys() | self.flushed_names.keys()):
            number = rng.choice((self.names.get(name), self.flushed_names.get(name)))
            if self.names.get(name) == self.flushed_names.get(name):
                number = self.names[name]
            if number is not None:
                files[name] = self._tear(number, rng)
        return files

    def _tear(self, number: int, rng: random.Random) -> bytes:
        content = self.contents[number]
        flushed = self.flushed.get(number, b"")
        if content == flushed:
            return content
        start = len(flushed) if content.startswith(flushed) else 0  # of what was added since
        at = rng.randint(start, len(content))
        blank = content[:at] + bytes(len(content) - at)
        return rng.choice((content, flushed, content[:at], blank))


def watch(words: Sequence[str], place: Path, folder: Path) -> list[Disk]:
    """The disk after each thing that a command does to the files of a folder."""
    noted = place / "noted"
    run = option_sets.command.main

    def watched(words: Sequence[str]) -> int:
        sys.dont_write_bytecode = True
        disk, disks = Disk(), []
        root = folder.absolute()

        def note(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
            def noting(*arguments: Any, **options: Any) -> Any:
                result = call(*arguments, **options)
                if root.is_dir():
                    disk.look(root)
                    if name == "fsync":
                        disk.flush(arguments[0], root)
                    disks.append(disk.copy())
                return result

            return noting

        patches = {name: note(name, getattr(os, name)) for name in WATCHED}
        with mock.patch.multiple(os, **patches):
            code = run(words)
        noted.write_bytes(pickle.dumps(disks))
        return code

    with mock.patch.object(option_sets.command, "main", watched):
        must(words, place)
    disks: list[Disk] = pickle.loads(noted.read_bytes())
    noted.unlink()
    return disks


def try_cuts(n: int, seed: int, place: Path) -> Iterator[Try]:
    """n cuts: of training, and every fifth of a measurement."""
    rng = random.Random(seed)
    with warm():
        start = prepare_runs(place / "start")
        with fresh(start) as copy:
            disks = watch(CUT, copy, copy / "runs/cut")
            trained = list_contents(copy)
        with fresh(start) as copy:
            begun = time.monotonic()
            must((*MEASURE, QUICK), copy)
            seconds = time.monotonic() - begun
            measured = list_contents(copy)
        for number in range(n):
            with fresh(start) as copy:
                if number % 5 == 4:
                    yield _cut_measuring(copy, measured, rng.uniform(0.3, 0.9) * seconds, rng)
                else:
                    yield _cut_training(copy, disks, trained, rng)


def _cut_training(
    place: Path, disks: Sequence[Disk], expected: dict[str, Any], rng: random.Random
) -> Try:
    at = rng.randrange(len(disks))
    folder = place / "runs/cut"
    for sub in ("checkpoints", "states"):
        (folder / sub).mkdir(parents=True)
    for name, content in disks[at].cut(rng).items():
        (folder / name).write_bytes(content)

    what = f"training, after write {at} of {len(disks)}"
    outcome = run_words(CUT, place, SECONDS)
    if outcome.code == 2 and not is_traceback(outcome.text):
        is_early = not list(disks[at].flushed_names)
        line = outcome.text.strip().splitlines()[-1]
        return Try(f"{what}: refused in a line", "" if is_early else f"cannot go on: {line}")
    return Try(what, check_end(CUT, place, expected))


def _cut_measuring(
    place: Path, expected: dict[str, Any], seconds: float, rng: random.Random
) -> Try:
    """Killed, and the end of the log of its table torn off or blank."""
    words = (*MEASURE, QUICK)
    table = place / "runs/run/measures.sqlite"
    with running(words, place) as process:
        process.wait(seconds)
    log = table.with_name(f"{table.name}-wal")
    size = 0
    if log.exists():
        content = log.read_bytes()
        size = rng.randint(0, len(content))
        log.write_bytes(content[:size] + bytes(rng.choice((0, len(content) - size))))
        with suppress(FileNotFoundError):
            table.with_name(f"{table.name}-shm").unlink()
    return Try(f"measuring, its log cut at {size}", check_end(words, place, expected))
