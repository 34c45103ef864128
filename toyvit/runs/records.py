"""Records beside a run, circuits and tuned lenses: their digests, and the checkpoint of each."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toyvit.config.foreign_files import JsonObject, parse_object, read_file, read_object
from toyvit.errors import BadInput
from toyvit.runs.disk import take_digest
from toyvit.runs.folder import RunFolder

CHECKPOINT = re.compile(r".* at (\d{1,12}), ([0-9a-f]{12})", re.DOTALL)
Tensors = dict[str, NDArray[Any]]
logger = logging.getLogger(__name__)


def read_checked(path: Path, is_strict: bool = False) -> JsonObject:
    """The JSON record in a file, compared with its digest.

    BadInput where it is not what was written. One without a digest is said to have none, or is
    BadInput too where this is strict.
    """
    record = read_object(path)
    if not take_digest(record, str(path)):
        _say_unchecked(path, is_strict)
    return record


def hash_tensors(tensors: Mapping[str, NDArray[Any]], facts: Mapping[str, str]) -> str:
    """The digest of a record of tensors: of their names, types, shapes, values, and its facts."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(repr((name, value.dtype.name, value.shape)).encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def read_tensors(path: Path, is_strict: bool = False) -> tuple[Tensors, dict[str, str]]:
    """The tensors of a safetensors file and its facts, compared with the digest among them.

    BadInput as of `read_checked`, and where the file holds none.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    content = read_file(path, "weights")
    try:
        tensors = load(content)
        size = int.from_bytes(content[:8], "little")
        facts = parse_object(content[8 : 8 + size], str(path)).get("__metadata__", {})
        check = facts.pop("check", None)
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInput(f"{path} holds no tensors: {error}") from None

    if check is None:
        _say_unchecked(path, is_strict)
    elif check != hash_tensors(tensors, facts):
        raise BadInput(f"{path} is damaged: it is not what was written")
    return tensors, facts


def _say_unchecked(path: Path, is_strict: bool) -> None:
    if is_strict:
        raise BadInput(f"{path} has lost its digest")
    logger.warning("%s has no digest, as of version 0.2 and before: taken as it is", path)


def parse_checkpoint(text: str) -> tuple[int, str] | None:
    """The step and the first digits of the SHA-256 in how a circuit names its checkpoint.

    >>> parse_checkpoint("induction at 20, 3e595a95f1d1"), parse_checkpoint("by hand")
    ((20, '3e595a95f1d1'), None)
    """
    parts = CHECKPOINT.fullmatch(text)
    return (int(parts[1]), parts[2]) if parts else None


def check_home(path: Path, step: int, sha256: str) -> None:
    """BadInput where a record lies in a run's folder and is of a checkpoint that is not the run's.

    `sha256` may be the first digits alone.
    """
    home = RunFolder(path.absolute().parent.parent)
    if not home.config_file.is_file():
        return
    entries = {entry.step: entry for entry in home.read_manifest()}
    if step not in entries or not (sha256 and entries[step].sha256.startswith(sha256)):
        raise BadInput(f"{path} is of a checkpoint at step {step} that this run does not have")
