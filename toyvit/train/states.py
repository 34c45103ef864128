"""The state from which a run goes on: the weights, their optimiser and the step.

A file of a state begins with a line of JSON: its step, the run that it is of, and the SHA-256 of
the rest. States of version 0.1 have no such line; they are read, and it is said.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from toyvit.config.foreign_files import read_file
from toyvit.runs.disk import flush_to_disk, write_atomically
from toyvit.runs.folder import RunFolder
from toyvit.runs.manifest import ManifestEntry, name_state
from toyvit.runs.state_files import BEFORE_DIGESTS, find_state_problem

logger = logging.getLogger(__name__)

UNREADABLE = (
    UnpicklingError,
    RuntimeError,
    OSError,
    EOFError,
    KeyError,
    ValueError,
    TypeError,
)


@dataclass(frozen=True)
class TrainingState:
    """Everything but the config that decides how a run goes on after `step` updates."""

    step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]


def save_state(folder: RunFolder, state: TrainingState, keep: bool) -> None:
    """Write the state, on the disk when this returns; the one before stays as `state.prev.pt`.

    `keep` also files it under `states/`.
    """
    content = encode_state(folder, state)
    if keep:
        write_atomically(folder.states / name_state(state.step), content, flush=True)
        flush_to_disk(folder.states)
    if folder.state.exists():
        os.replace(folder.state, folder.previous_state)
    write_atomically(folder.state, content, flush=True)


def encode_state(folder: RunFolder, state: TrainingState) -> bytes:
    """What the file of a state of this run holds."""
    saved = io.BytesIO()
    torch.save({"step": state.step, "model": state.model, "optimizer": state.optimizer}, saved)
    body = saved.getvalue()
    digest = hashlib.sha256(body).hexdigest()
    head = {"step": state.step, "run": folder.hash_run(), "sha256": digest}
    return json.dumps(head).encode() + b"\n" + body


def read_state(folder: RunFolder, path: Path) -> TrainingState | None:
    """A state, or None (and a warning) where the file is damaged or of another run."""
    problem = find_state_problem(folder, path)
    try:
        if problem is None:
            content = read_file(path, "weights")
            if not content.startswith(BEFORE_DIGESTS):
                return decode_state(content.partition(b"\n")[2])
            logger.warning("%s is of version 0.1 and has no digest: taken as it is", path)
            return decode_state(content)
    except UNREADABLE as error:
        problem = f"cannot be read ({type(error).__name__})"
    logger.warning("%s %s: going back to the state before it", path, problem)
    return None


def decode_state(body: bytes) -> TrainingState:
    """The state that `torch.save` wrote."""
    state = torch.load(io.BytesIO(body), weights_only=True)
    return TrainingState(int(state["step"]), state["model"], state["optimizer"])


def load_state(folder: RunFolder, entries: Sequence[ManifestEntry]) -> TrainingState | None:
    """The last whole state up to which every checkpoint is there; None for the run's start.

    `entries` are the manifest's.
    """
    there = {entry.step: entry for entry in entries}
    older = sorted(folder.states.glob("step_*.pt"), reverse=True)
    for state in _read_in_turn(folder, [folder.state, folder.previous_state, *older]):
        missing = _find_missing(folder, there, state.step)
        if missing is None:
            return state
        logger.warning(
            "%s lacks the checkpoint of step %d: going back to a state before it",
            folder.path,
            missing,
        )
    return None


def _read_in_turn(folder: RunFolder, paths: list[Path]) -> Iterator[TrainingState]:
    """The states that are whole, each read when it is asked for."""
    for path in paths:
        if path.exists() and (state := read_state(folder, path)):
            yield state


def _find_missing(folder: RunFolder, entries: Mapping[int, ManifestEntry], step: int) -> int | None:
    """The first step up to this one whose checkpoint was due and is not there whole, or None."""
    for due in folder.plan_checkpoints():
        if due <= step and (due not in entries or folder.find_problem(entries[due])):
            return due
    return None


def load_state_before(folder: RunFolder, step: int) -> TrainingState | None:
    """The last kept state before a step, or None for the start of the run."""
    older = sorted(folder.states.glob("step_*.pt"), reverse=True)
    earlier = [path for path in older if path.name < name_state(step)]
    return next(_read_in_turn(folder, earlier), None)
