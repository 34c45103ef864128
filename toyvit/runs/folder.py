"""The run folder: its layout, its manifest of finished checkpoints, atomic writes, the lock, and verification."""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from toyvit.version import VERSION
from toyvit.config import RunConfig, list_differences
from toyvit.errors import BadInput, suggest_nearest


@dataclass(frozen=True, kw_only=True)
class ManifestEntry:
    """One line of the manifest: a checkpoint exists when its line does."""

    step: int
    samples: int
    file: str
    bytes: int
    sha256: str
    loss: float  # nats, on the frozen validation batch
    accuracy: float  # 0 to 1, on the same batch
    weight_norm: float


def write_atomically(path: Path, content: bytes, flush: bool = False) -> None:
    """Write beside, then rename: readers see the old file or the new one, whole. `flush` waits for the disk."""
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as file:
        file.write(content)
        if flush:
            file.flush()
            os.fsync(file.fileno())
    os.replace(beside, path)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Records of a JSON-lines file; a last line without its newline was cut off and does not count."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]
    try:
        return [json.loads(line) for line in lines]
    except json.JSONDecodeError as error:
        raise BadInput(f"{path} is damaged: {error.msg} in one of its {len(lines)} lines") from None


class RunFolder:
    """`runs/<name>/` on disk. Opening one reads nothing but the config."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.checkpoints = self.path / "checkpoints"
        self.manifest = self.path / "manifest.jsonl"
        self.metrics = self.path / "metrics.jsonl"
        self.state = self.path / "state.pt"
        self.previous_state = self.path / "state.prev.pt"
        self.states = self.path / "states"
        self.measures = self.path / "measures.sqlite"
        self.figures = self.path / "figures"
        self.tensorboard = self.path / "tensorboard"

    def check_exists(self) -> RunFolder:
        """Itself if there is a run here, else BadInput that names the nearest folder beside it."""
        if not self.config_file.is_file():
            beside = (
                [path.parent.name for path in self.path.parent.glob("*/config.json")]
                if self.path.parent.is_dir()
                else []
            )
            hint = suggest_nearest(self.path.name, beside)
            raise BadInput(f"{self.path} is not a run folder: it has no config.json{hint}")
        return self

    def read_config(self) -> RunConfig:
        """The Run that config.json describes."""
        file = self.check_exists().config_file
        try:
            return RunConfig.from_json(json.loads(file.read_text())["run"])
        except BadInput as error:
            raise BadInput(f"{file} cannot be used: {error}") from None
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{file} is damaged: {type(error).__name__}: {error}") from None

    def create(self, run: RunConfig) -> None:
        """A new folder holding this run's config."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self.states.mkdir(exist_ok=True)
        versions = {
            "toyvit": VERSION,
            "torch": torch.__version__,
            "python": platform.python_version(),
        }
        text = json.dumps({"run": run.to_json(), "versions": versions}, indent=2) + "\n"
        write_atomically(self.config_file, text.encode())

    def check_same(self, run: RunConfig) -> None:
        """Refuse to go on with another config, with a diff."""
        changed = list_differences(self.read_config(), run)
        if changed:
            raise BadInput(
                f"{self.path} holds another config ({'; '.join(changed)}): give another --name, or the same settings"
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for the life of a training process; BadInput if another process holds it."""
        with (self.path / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadInput(
                    f"{self.path} is in use: another process is training in it"
                ) from None
            yield

    def is_locked(self) -> bool:
        """Whether some process is training in this folder now."""
        path = self.path / "lock"
        if not path.exists():
            return False
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def read_manifest(self) -> list[ManifestEntry]:
        """Finished checkpoints, by step."""
        try:
            return [ManifestEntry(**line) for line in read_lines(self.manifest)]
        except TypeError as error:
            raise BadInput(f"{self.manifest} is damaged: {error}") from None

    def write_checkpoint(
        self, step: int, samples: int, weights: dict[str, Tensor], scores: dict[str, float]
    ) -> ManifestEntry:
        """Weights of the bare model, then their line in the manifest."""
        content, entry = self.encode_checkpoint(step, samples, weights, scores)
        write_atomically(self.checkpoints / entry.file, content)
        with self.manifest.open("a") as manifest:
            manifest.write(_line(entry))
        return entry

    def insert_checkpoint(self, entry: ManifestEntry, content: bytes) -> None:
        """A checkpoint between those that are there: the manifest stays in the order of steps."""
        write_atomically(self.checkpoints / entry.file, content)
        entries = sorted([*self.read_manifest(), entry], key=lambda one: one.step)
        write_atomically(self.manifest, "".join(map(_line, entries)).encode())

    def encode_checkpoint(
        self, step: int, samples: int, weights: dict[str, Tensor], scores: dict[str, float]
    ) -> tuple[bytes, ManifestEntry]:
        """What the file of a checkpoint holds, and its line in the manifest."""
        content = save(
            {name: value.detach().cpu().contiguous() for name, value in weights.items()},
            {"format": "toyvit"},
        )
        norms = [
            torch.linalg.vector_norm(value.detach(), dtype=torch.float64).item()
            for value in weights.values()
        ]
        entry = ManifestEntry(
            step=step,
            samples=samples,
            file=name_checkpoint(step),
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            weight_norm=math.hypot(*norms),
            loss=scores["loss"],
            accuracy=scores["accuracy"],
        )
        return content, entry

    def read_checkpoint(self, entry: ManifestEntry) -> dict[str, Tensor]:
        """The weights, if the file is whole and the one that the manifest describes."""
        problem = self.find_problem(entry)
        if problem:
            raise BadInput(
                f"checkpoint {self.checkpoints / entry.file} {problem}: see `toyvit verify {self.path}`"
            )
        try:
            return load((self.checkpoints / entry.file).read_bytes())
        except SafetensorError as error:
            raise BadInput(
                f"checkpoint {self.checkpoints / entry.file} cannot be read: {error}"
            ) from None

    def find_problem(self, entry: ManifestEntry) -> str | None:
        """What is wrong with a checkpoint's file, or None."""
        path = self.checkpoints / entry.file
        if not path.is_file():
            return "is missing"
        content = path.read_bytes()
        if len(content) != entry.bytes:
            return f"is {len(content)} bytes long, the manifest says {entry.bytes}"
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            return "does not have the SHA-256 in the manifest"
        return None

    def verify(self) -> dict[str, str]:
        """Every bad checkpoint file and what is wrong with it; files the manifest does not know are bad too."""
        entries = self.check_exists().read_manifest()
        bad = {entry.file: problem for entry in entries if (problem := self.find_problem(entry))}
        known = {entry.file for entry in entries}
        for path in sorted(self.checkpoints.iterdir()):
            if path.name not in known and not (self.is_locked() or path.name.endswith(".part")):
                bad[path.name] = "is not in the manifest"
        return bad

    def truncate(self, step: int) -> None:
        """Forget what was written after `step`: training goes on from there and writes it again."""
        for path in (self.manifest, self.metrics):
            if path.exists():
                kept = [line for line in read_lines(path) if line["step"] <= step]
                write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        known = {entry.file for entry in self.read_manifest()}
        for file in self.checkpoints.iterdir():
            if file.name not in known:
                file.unlink()
        for file in self.states.iterdir():
            if file.name > name_state(step):
                file.unlink()

    def read_status(self, config: RunConfig | None = None) -> str:
        """`running`, `finished`, `diverged` or `stopped`, read off the files."""
        lines = read_lines(self.metrics)
        if lines and lines[-1].get("status") == "diverged":
            return "diverged"
        if self.is_locked():
            return "running"
        return (
            "finished"
            if (self.states / name_state((config or self.read_config()).train.steps)).exists()
            else "stopped"
        )


def _line(entry: ManifestEntry) -> str:
    return json.dumps(asdict(entry)) + "\n"


def name_checkpoint(step: int) -> str:
    return f"step_{step:08d}.safetensors"


def name_state(step: int) -> str:
    return f"step_{step:08d}.pt"


def find_runs(folder: Path) -> list[RunFolder]:
    """Every run folder below a folder, by name."""
    return [RunFolder(path.parent) for path in sorted(folder.glob("**/config.json"))]
