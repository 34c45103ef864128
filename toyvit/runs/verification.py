"""Whether a run folder is whole and means what it says: every book, every checkpoint, every state.

What each check is against: a file cut, flipped, exchanged for one of another run or of an earlier
moment, and text that is valid but says something else.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from toyvit.config import learning_rate
from toyvit.config.foreign_files import hash_file, read_file
from toyvit.errors import BadInput
from toyvit.runs.cells import read_contents
from toyvit.runs.database import OldTable, find_damage, open_to_read
from toyvit.runs.folder import RunFolder
from toyvit.runs.frames import build_table
from toyvit.runs.manifest import ManifestEntry, name_checkpoint
from toyvit.runs.provenance import find_provenance_problem
from toyvit.runs.records import check_home, parse_checkpoint, read_checked, read_tensors
from toyvit.runs.sessions import find_sessions_problem
from toyvit.runs.state_files import find_state_problem
from toyvit.runs.table import describe_damage

LENSES = "lenses/step_*.safetensors"
CIRCUITS = "figures/circuit*.json"
HASHED = ("checkpoints/step_*.safetensors", "states/step_*.pt", LENSES, CIRCUITS)
NORM_ROUNDING = 1e-9  # relative, of a norm summed by another library
logger = logging.getLogger(__name__)


def list_problems(folder: RunFolder, entries: Sequence[ManifestEntry]) -> dict[str, str]:
    """What is wrong with the files of a run, by their names inside it; nothing for a whole one.

    `entries` are the manifest's, which is read with the config before anything else can be said.
    """
    files = folder.verify(entries)
    whole = [entry for entry in entries if entry.file not in files]
    files |= dict(_compare_weights(folder, whole))

    bad = {f"{folder.checkpoints.name}/{name}": problem for name, problem in files.items()}
    bad |= dict(_check_states(folder))
    if folder.provenance.exists():
        bad |= dict(_check_provenance(folder, entries))
    else:
        bad |= dict(_check_schedule(folder, entries))
        bad |= dict(_check_metrics(folder, entries))
        bad |= dict(_check_sessions(folder, entries))
    bad |= dict(_check_table(folder, entries))
    return bad | dict(_check_records(folder))


def _compare_weights(
    folder: RunFolder, entries: Sequence[ManifestEntry]
) -> Iterator[tuple[str, str]]:
    """Norms other than the manifest's, and two steps with the same weights, but for a rate of 0."""
    steps: dict[str, int] = {}
    train = folder.read_config().train
    for entry in entries:
        norm = measure_norm(folder.checkpoints / entry.file)
        if not math.isclose(norm, entry.weight_norm, rel_tol=NORM_ROUNDING):
            written = f"the manifest says {entry.weight_norm:.6g}"
            yield entry.file, f"has weights of norm {norm:.6g}, {written}"
        elif entry.sha256 in steps and any(
            learning_rate(train, step) for step in range(steps[entry.sha256] + 1, entry.step + 1)
        ):
            yield entry.file, f"has the weights of step {steps[entry.sha256]}"
        steps.setdefault(entry.sha256, entry.step)


def measure_norm(path: Path) -> float:
    """The norm of all weights of a checkpoint's file, as its line in the manifest has it."""
    from safetensors.numpy import load

    weights = load(read_file(path, "weights")).values()
    squares = [float((weight.astype("float64") ** 2).sum()) for weight in weights]
    return math.sqrt(math.fsum(squares))


def _check_schedule(
    folder: RunFolder, entries: Sequence[ManifestEntry]
) -> Iterator[tuple[str, str]]:
    """Checkpoints that the config plans up to the last one and that the manifest lacks."""
    there = {entry.step for entry in entries}
    last = max(there, default=-1)
    due = [step for step in folder.plan_checkpoints() if step <= last]
    missing = [step for step in due if step not in there]
    if missing:
        yield folder.manifest.name, f"lacks step {missing[0]}, whose checkpoint was due"
    size = folder.read_config().train.batch_size
    for entry in entries:
        if entry.samples != entry.step * size:
            yield folder.manifest.name, f"says {entry.samples} samples at step {entry.step}"


def _check_provenance(
    folder: RunFolder, entries: Sequence[ManifestEntry]
) -> Iterator[tuple[str, str]]:
    """Lines that are damaged, or not one for each checkpoint, of a run from elsewhere."""
    problem = find_provenance_problem(
        folder.provenance, folder.hash_run(), [entry.step for entry in entries]
    )
    if problem:
        yield folder.provenance.name, problem


def _check_states(folder: RunFolder) -> Iterator[tuple[str, str]]:
    for path in (folder.state, folder.previous_state, *sorted(folder.states.glob("step_*.pt"))):
        if path.exists():
            problem = find_state_problem(folder, path)
            if problem:
                yield str(path.relative_to(folder.path)), problem


def _check_metrics(
    folder: RunFolder, entries: Sequence[ManifestEntry]
) -> Iterator[tuple[str, str]]:
    """Lines that are no numbers, that do not count every step, or end before a checkpoint."""
    name = folder.metrics.name
    try:
        lines = [line for line in folder.read_metrics() if "status" not in line]
    except BadInput as error:
        yield name, str(error).removeprefix(f"{folder.metrics}, ")
        return
    if not all(isinstance(value, int | float) for line in lines for value in line.values()):
        yield name, "holds a value that is no number"
        return
    last = max((entry.step for entry in entries), default=0)
    if [line.get("step") for line in lines[:last]] != list(range(1, last + 1)):
        yield name, f"does not count every step up to that of the last checkpoint, {last}"


def _check_sessions(
    folder: RunFolder, entries: Sequence[ManifestEntry]
) -> Iterator[tuple[str, str]]:
    """Lines that are damaged, of another run, left out, twice, or in another order."""
    problem = find_sessions_problem(folder, max((entry.step for entry in entries), default=0))
    if problem:
        yield folder.sessions.name, problem


def _check_table(folder: RunFolder, entries: Sequence[ManifestEntry]) -> Iterator[tuple[str, str]]:
    """A table of measures that is foreign, cut, damaged in a cell, or of other checkpoints."""
    name = folder.measures.name
    try:
        problem = _find_table_problem(folder, entries)
    except OldTable as error:
        problem = _shorten(error, folder.measures)
        if not folder.read_file().has_digests:  # all of the run is of that version
            logger.warning("%s %s", folder.measures, problem)
            return
    except BadInput as error:
        problem = _shorten(error, folder.measures)
    if problem:
        yield name, problem


def _find_table_problem(folder: RunFolder, entries: Sequence[ManifestEntry]) -> str | None:
    if not folder.measures.exists():
        return None
    with open_to_read(folder.measures) as db:
        if db is None:
            return "is empty"
        damage = find_damage(db)
        contents = read_contents(db, folder.hash_run())
    if damage or not contents.is_whole:
        return describe_damage(folder, contents)

    build_table(folder, contents, entries)  # BadInput for axes that are none
    hashes = {entry.step: entry.sha256 for entry in entries}
    for step, sha256 in zip(contents.cells["step"], contents.cells["sha256"], strict=True):
        if hashes.get(step, sha256) != sha256:
            return f"has a cell of another checkpoint at step {step}"
    return None


def _check_records(folder: RunFolder) -> Iterator[tuple[str, str]]:
    """Circuits and tuned lenses that are damaged, or of no checkpoint of this run."""
    is_strict = folder.read_file().has_digests
    for pattern, check in ((CIRCUITS, _check_circuit), (LENSES, _check_lens)):
        for path in sorted(folder.path.glob(pattern)):
            try:
                check(path, is_strict)
            except BadInput as error:
                yield str(path.relative_to(folder.path)), _shorten(error, path)


def _check_circuit(path: Path, is_strict: bool) -> None:
    """BadInput where a circuit cannot be trusted."""
    record = read_checked(path, is_strict)
    if not isinstance(record.get("edges"), list):  # whole, and of another kind
        raise BadInput(f"{path} holds no circuit")
    checkpoint = parse_checkpoint(str(record.get("checkpoint")))
    if checkpoint:
        check_home(path, *checkpoint)


def _check_lens(path: Path, is_strict: bool) -> None:
    """BadInput where a tuned lens cannot be trusted."""
    _, facts = read_tensors(path, is_strict)
    step = facts.get("step", "")
    if not step.isdecimal() or path.name != name_checkpoint(int(step)):
        raise BadInput(f"{path} is a lens of step {step}")
    if "checkpoint" in facts:
        check_home(path, int(step), facts["checkpoint"])


def _shorten(error: BadInput, file: Path) -> str:
    """What is wrong with a file, without its name."""
    return str(error).removeprefix(f"{file}").lstrip(", ")


def hash_files(folder: RunFolder) -> Iterator[tuple[str, str]]:
    """(SHA-256, name inside the run) of every file that a run's claims rest on."""
    names = ["config.json", "manifest.jsonl", "provenance.jsonl", "metrics.jsonl"]
    names += ["sessions.jsonl", "measures.sqlite"]
    paths = [folder.path / name for name in names]
    for pattern in HASHED:
        paths += sorted(folder.path.glob(pattern))
    for path in paths:
        if path.is_file():
            yield hash_file(path), str(path.relative_to(folder.path))
