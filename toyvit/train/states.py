"""The state from which a run goes on: the weights, their optimiser and the step."""

from __future__ import annotations

import io
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from toyvit.runs.folder import RunFolder, write_atomically
from toyvit.runs.manifest import name_state

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
    content = io.BytesIO()
    torch.save(
        {"step": state.step, "model": state.model, "optimizer": state.optimizer},
        content,
    )

    if keep:
        write_atomically(folder.states / name_state(state.step), content.getvalue(), flush=True)
    if folder.state.exists():
        os.replace(folder.state, folder.previous_state)
    write_atomically(folder.state, content.getvalue(), flush=True)


def read_state(path: Path) -> TrainingState | None:
    """A state, or None (and a warning) where the file cannot be read."""
    try:
        state = torch.load(path, weights_only=True)
        return TrainingState(int(state["step"]), state["model"], state["optimizer"])
    except UNREADABLE as error:
        kind = type(error).__name__
        logger.warning("%s cannot be read (%s): going back to the state before it", path, kind)
    return None


def load_state(folder: RunFolder) -> TrainingState | None:
    """The last whole state, or None where the run has none yet."""
    for path in (folder.state, folder.previous_state):
        if path.exists() and (state := read_state(path)):
            return state
    return None


def load_state_before(folder: RunFolder, step: int) -> TrainingState | None:
    """The last kept state before a step, or None for the start of the run."""
    for path in sorted(folder.states.glob("step_*.pt"), reverse=True):
        if path.name < name_state(step) and (state := read_state(path)):
            return state
    return None
