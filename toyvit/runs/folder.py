"""The run folder: its layout, its manifest, atomic writes, the lock, and verification.

torch is imported only where weights are read or written, so that runs are listed without it.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from toyvit.config import RunConfig, list_differences, plan_checkpoints
from toyvit.config.foreign_files import JsonObject, hash_file, read_file, read_object
from toyvit.config.whole_files import is_part
from toyvit.errors import BadInput, name_file
from toyvit.runs import config_file
from toyvit.runs.disk import (
    flush_to_disk,
    format_line,
    read_last_line,
    read_lines,
    write_atomically,
)
from toyvit.runs.hints import suggest_run
from toyvit.runs.lock import is_taken, take_lock
from toyvit.runs.manifest import (
    ManifestEntry,
    Scores,
    encode_checkpoint,
    name_state,
    read_entries,
    read_progress,
)
from toyvit.runs.provenance import read_kind

if TYPE_CHECKING:
    from torch import Tensor


logger = logging.getLogger(__name__)


class RunFolder:
    """`runs/NAME/` on disk: where its files are, and how they are read and written.

    Making one touches no file. The config is read once, when it is first asked for.

    >>> from tempfile import TemporaryDirectory
    >>> from toyvit.recipes import RECIPES
    >>> with TemporaryDirectory() as place:
    ...     folder = RunFolder(f"{place}/first")
    ...     folder.create(RECIPES["digits"]())
    ...     folder.read_config().recipe, folder.read_manifest(), folder.read_status()
    ('digits', [], 'stopped')
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.checkpoints = self.path / "checkpoints"
        self.manifest = self.path / "manifest.jsonl"
        self.metrics = self.path / "metrics.jsonl"
        self.sessions = self.path / "sessions.jsonl"
        self.provenance = self.path / "provenance.jsonl"  # of checkpoints that come from elsewhere
        self.lock_file = self.path / "lock"

        self.state = self.path / "state.pt"
        self.previous_state = self.path / "state.prev.pt"
        self.states = self.path / "states"

        self.measures = self.path / "measures.sqlite"
        self.requests = self.path / "requests.jsonl"
        self.figures = self.path / "figures"
        self.tensorboard = self.path / "tensorboard"
        self._file: config_file.ConfigFile | None = None
        self._stamp: config_file.Stamp | None = None  # of the file that was read

    @classmethod
    def open(cls, folder: RunFolder | Path | str) -> RunFolder:
        """The folder itself, with what it has read, or the one at this path."""
        return folder if isinstance(folder, RunFolder) else cls(folder)

    def check_exists(self) -> RunFolder:
        """Itself if there is a run here, else BadInput that names the nearest folder beside it.

        BadInput too where something in it is a link: a run does not reach out of its folder.
        """
        if not self.config_file.is_file():
            problem = "it has no config.json" if self.path.exists() else "there is no such folder"
            raise BadInput(f"{self.path} is not a run folder: {problem}{suggest_run(self.path)}")
        self.refuse_links()
        return self

    def refuse_links(self) -> None:
        """BadInput where the folder holds a link: what is written must stay inside."""
        with os.scandir(self.path) as entries:
            links = sorted(entry.name for entry in entries if entry.is_symlink())
        if links:
            raise BadInput(
                f"{self.path / links[0]} is a link: nothing in a run folder may lead out of it"
            )

    def read_config(self) -> RunConfig:
        """What config.json describes: read once, and again where the run was lengthened meanwhile.

        BadInput if damaged.
        """
        stamp = config_file.stamp_file(self.config_file)
        if self._file is None or stamp not in (None, self._stamp):
            file = self.check_exists().config_file
            self._file = config_file.parse_config(read_object(file), file)
            self._stamp = stamp
        return self._file.config

    def read_file(self) -> config_file.ConfigFile:
        """All that config.json says; it is not looked at again, for but the steps never change."""
        if self._file is None:
            self.read_config()
        assert self._file is not None
        return self._file

    def create(self, config: RunConfig) -> None:
        """A new folder holding this config."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self.states.mkdir(exist_ok=True)
        self._write_config(config_file.describe_config(config))

    def lengthen(self, steps: int) -> None:
        """Let the run have more steps than it was to have: one write, after which it is stopped.

        Its books stay its own, for their digests are of the run as it was begun.
        """
        self._write_config(config_file.describe_longer(self.config_file, steps))

    def _write_config(self, plain: JsonObject) -> None:
        write_atomically(self.config_file, f"{json.dumps(plain, indent=2)}\n".encode(), flush=True)
        flush_to_disk(self.path)  # without it nothing that is written later can be read
        self._file = config_file.parse_config(plain, self.config_file)
        self._stamp = config_file.stamp_file(self.config_file)

    def hash_run(self) -> str:
        """SHA-256 of the config as it was begun: tells its books and states from other runs'."""
        return self.read_file().hash

    def plan_checkpoints(self) -> tuple[int, ...]:
        """Steps whose checkpoint is due; those up to an earlier end stay as they were planned."""
        return plan_checkpoints(self.read_config().train, self.read_file().ends)

    def check_same(self, config: RunConfig, stated: RunConfig | None = None) -> None:
        """Refuse to go on with another config, with a diff; a file that was moved is the same.

        The diff is that of the config as it was `stated`, where that is another.
        """
        mine = self.read_config()
        moved = replace(mine, task=mine.task.move_files(config.task))
        if list_differences(moved, config):
            changes = "; ".join(list_differences(moved, stated or config))
            raise BadInput(
                f"{self.path} holds another config ({changes}): "
                "give another --name, or the same settings"
            )

    def is_empty(self) -> bool:
        """Whether the folder holds no file but what a start that failed or was killed may leave."""
        files = (path for path in self.path.rglob("*") if path.is_symlink() or not path.is_dir())
        rest = (path == self.lock_file or is_part(path, "config.json") for path in files)
        return self.path.is_dir() and all(rest)

    @contextmanager
    def claim(self) -> Iterator[None]:
        """The folder made, where it is not there, and locked; gone again if nothing was put in."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadInput(f"{self.path} cannot be made: {error.strerror}") from None

        with self.lock():
            try:
                yield
            finally:
                if self.is_empty():
                    self.lock_file.unlink(missing_ok=True)
                    with suppress(OSError):  # a start that waits may have put its lock in
                        self.path.rmdir()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for the life of a training process; BadInput if another process does."""
        with take_lock(self.lock_file):
            yield

    def is_locked(self) -> bool:
        """Whether some process is training in this folder now."""
        return is_taken(self.lock_file)

    def read_manifest(self) -> list[ManifestEntry]:
        """Finished checkpoints, by step; the file is read at every call, for it grows.

        BadInput for lines that are no checkpoints, or not in the order of steps.
        """
        return read_entries(self.manifest)

    def read_progress(self) -> tuple[int, ManifestEntry | None]:
        """How many checkpoints are finished, and the last of them; BadInput as `read_manifest`."""
        return read_progress(self.manifest)

    def read_metrics(self) -> list[JsonObject]:
        """What training noted at each step; BadInput for a damaged line, and for another run's."""
        return read_lines(self.metrics, self.hash_run())

    def write_checkpoint(
        self, step: int, samples: int, weights: Mapping[str, Tensor], scores: Scores
    ) -> ManifestEntry:
        """Weights of the bare model, then their line in the manifest."""
        content, entry = encode_checkpoint(step, samples, weights, scores)
        write_atomically(self.checkpoints / entry.file, content)
        with name_file(self.manifest), self.manifest.open("a") as manifest:
            manifest.write(entry.line)
        return entry

    def insert_checkpoint(
        self, entry: ManifestEntry, content: bytes, entries: Iterable[ManifestEntry]
    ) -> list[ManifestEntry]:
        """A checkpoint between `entries`, those that are there; all of them, in order of steps."""
        write_atomically(self.checkpoints / entry.file, content)
        ordered = sorted([*entries, entry], key=lambda other: other.step)
        self._write_manifest(ordered)
        return ordered

    def flush(self, entries: Iterable[ManifestEntry]) -> None:
        """Checkpoints, the manifest and the metrics on the disk, before a state counts on them."""
        files = [self.checkpoints / entry.file for entry in entries]
        for path in (*files, self.checkpoints, self.manifest, self.metrics, self.path):
            if path.exists():
                flush_to_disk(path)

    def _write_manifest(self, entries: Iterable[ManifestEntry]) -> None:
        write_atomically(self.manifest, "".join(entry.line for entry in entries).encode())

    def read_checkpoint(self, entry: ManifestEntry) -> dict[str, Tensor]:
        """The weights, if the file is whole and the one that the manifest describes."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = self.checkpoints / entry.file
        problem = self.find_problem(entry)
        if problem:
            raise BadInput(f"checkpoint {path} {problem}: see `toyvit verify {self.path}`")
        try:
            return load(read_file(path, "weights"))
        except SafetensorError as error:
            raise BadInput(f"checkpoint {path} cannot be read: {error}") from None

    def find_problem(self, entry: ManifestEntry) -> str | None:
        """What is wrong with a checkpoint's file, or None."""
        path = self.checkpoints / entry.file
        if not path.is_file():
            return "is missing"
        size = path.stat().st_size
        if size != entry.bytes:
            return f"is {size} bytes long, the manifest says {entry.bytes}"
        if hash_file(path) != entry.sha256:
            return "does not have the SHA-256 in the manifest"
        return None

    def verify(self, entries: Iterable[ManifestEntry] | None = None) -> dict[str, str]:
        """Every bad checkpoint file and what is wrong with it, given the manifest if it was read.

        A file that the manifest does not name is bad too.
        """
        listed = list(self.check_exists().read_manifest() if entries is None else entries)
        problems = {entry.file: self.find_problem(entry) for entry in listed}
        bad = {file: problem for file, problem in problems.items() if problem}

        for path in sorted(self.checkpoints.glob("step_*.safetensors")):
            if not (path.name in problems or self.is_locked()):
                bad[path.name] = "is not in the manifest"
        return bad

    def truncate(
        self, step: int, entries: Iterable[ManifestEntry] | None = None
    ) -> list[ManifestEntry]:
        """Forget what was written after `step`, so that training writes it again; what is left.

        Given the manifest if it was read.
        """
        known = self.read_manifest() if entries is None else entries
        entries = [entry for entry in known if entry.step <= step]
        if self.manifest.exists():
            self._write_manifest(entries)
        if self.metrics.exists():
            lines = [line for line in self.read_metrics() if line["step"] <= step]
            text = "".join(format_line(line, self.hash_run()) for line in lines)
            write_atomically(self.metrics, text.encode())

        files = {entry.file for entry in entries}
        for path in self.checkpoints.glob("step_*.safetensors*"):
            if path.name not in files:
                path.unlink()
        for path in self.states.glob("step_*.pt*"):
            if path.name > name_state(step):
                path.unlink()
        return entries

    def read_status(self, config: RunConfig | None = None) -> str:
        """`running`, `finished`, `diverged` or `stopped`; `imported` or `watched` from elsewhere.

        Read off the files. Of the metrics only the last line is read.
        """
        last = read_last_line(self.metrics, self.hash_run())
        end = self._name_end(last, config)
        return "running" if end != "diverged" and self.is_locked() else end

    def read_end(self, config: RunConfig | None = None) -> str:
        """How the training ended that nobody goes on with now: its status but for `running`.

        BadInput where any line of the metrics is damaged.
        """
        lines = self.read_metrics()
        return self._name_end(lines[-1] if lines else None, config)

    def _name_end(self, last: JsonObject | None, config: RunConfig | None) -> str:
        if self.provenance.exists():
            return read_kind(self.provenance, self.hash_run())
        if last and last.get("status") == "diverged":
            return "diverged"
        steps = (config or self.read_config()).train.steps
        return "finished" if (self.states / name_state(steps)).exists() else "stopped"
