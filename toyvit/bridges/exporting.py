"""`export_run`: checkpoints of a run as other programs read them, in a new folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from toyvit.bridges.exported import Exported, export_checkpoint
from toyvit.bridges.to_hugging_face import write_hugging_face, write_hugging_face_index
from toyvit.bridges.to_onnx import write_onnx
from toyvit.bridges.to_timm import write_timm
from toyvit.bridges.to_torch import write_torch
from toyvit.bridges.to_transformer_lens import write_transformer_lens
from toyvit.config.foreign_files import JsonObject
from toyvit.config.whole_files import build_folder, write_atomically
from toyvit.errors import BadInput, choose, escape_file_name
from toyvit.runs.handle import Run
from toyvit.runs.manifest import name_checkpoint
from toyvit.surroundings import pin_torch

ALL = "all"
TABLE = "checkpoints.json"
# Writes a checkpoint into a folder that is there, and returns what a user should know, a line each.
Writer = Callable[[Path, Exported, "ExportOptions"], list[str]]
FORMATS: dict[str, Writer] = {
    "torch": write_torch,
    "timm": write_timm,
    "huggingface": write_hugging_face,
    "transformer_lens": write_transformer_lens,
    "onnx": write_onnx,
}


@dataclass(frozen=True)
class ExportOptions:
    """What some formats can be told.

    sites  names or patterns of sites whose values `onnx` gives beside the logits
    """

    sites: Sequence[str] = ()


@pin_torch()
def export_run(
    run: Run | Path | str,
    to: str,
    step: int | str | None = None,
    into: Path | str | None = None,
    options: ExportOptions | None = None,
) -> Path:
    """A new folder with a checkpoint of a run in a format of `FORMATS`; its path.

    `step` is a step that has a checkpoint (default: the last), or `all`: then there is a folder for
    each within. By itself the folder is `exports/NAME-FORMAT`. Every file of weights says what it
    is, in its metadata. BadInput, and nothing is written, for a model that the format cannot hold,
    where heads are clamped, and for a folder that is there.
    """
    folder, _ = write_export(run, to, step, into, options)
    return folder


def write_export(
    run: Run | Path | str,
    to: str,
    step: int | str | None = None,
    into: Path | str | None = None,
    options: ExportOptions | None = None,
) -> tuple[Path, list[str]]:
    """`export_run`, with what its user should know, a line each."""
    choose(to, FORMATS, "--to")
    run = Run.open(run)
    steps = _list_steps(run, step)
    folder = Path("exports", escape_file_name(f"{run.name}-{to}")) if into is None else Path(into)
    if folder.exists() or folder.is_symlink():
        raise BadInput(f"{folder} exists already: give another --into")

    notices: dict[str, None] = {}
    with build_folder(folder) as beside:
        for at in steps:
            place = beside / _name_folder(at) if step == ALL else beside
            place.mkdir(exist_ok=True)
            exported = export_checkpoint(run, at)
            notices |= dict.fromkeys(FORMATS[to](place, exported, options or ExportOptions()))
        rows = list_checkpoints(run, steps, step == ALL)
        write_atomically(beside / TABLE, f"{json.dumps(rows, indent=2)}\n".encode())
        if to == "huggingface" and step == ALL:
            write_hugging_face_index(beside, exported, rows)
    return folder, list(notices)


def _list_steps(run: Run, step: int | str | None) -> list[int]:
    """The steps that are asked for; BadInput for one without a checkpoint."""
    if isinstance(step, str) and step != ALL:
        raise BadInput(f"--step takes a step or {ALL}, got {step!r}")
    run.check_step(None)
    return run.steps if step == ALL else [run.check_step(None if step is None else int(step))]


def _name_folder(step: int) -> str:
    return name_checkpoint(step).removesuffix(".safetensors")


def list_checkpoints(run: Run, steps: Sequence[int], are_apart: bool) -> list[JsonObject]:
    """Every checkpoint of the run: step, SHA-256, validation scores; where it is, if exported."""
    rows: list[JsonObject] = []
    for at, entry in run.entries.items():
        place = (_name_folder(at) if are_apart else ".") if at in steps else None
        row: JsonObject = {"step": at, "sha256": entry.sha256, "folder": place}
        rows.append(row | {"loss": entry.loss, "accuracy": entry.accuracy})
    return rows
