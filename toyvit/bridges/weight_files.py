"""Files of weights from elsewhere, read without running anything that they hold."""

from __future__ import annotations

import argparse
import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from toyvit.bridges.onnx_files import read_onnx
from toyvit.bridges.self_descriptions import read_self_description
from toyvit.config.foreign_files import JsonObject, read_file
from toyvit.errors import BadInput, escape_text, suggest_nearest

TORCH = (".pth", ".pt", ".bin", ".ckpt", ".tar")
ENDINGS = (".safetensors", ".onnx", *TORCH)
# What a folder may hold, the first that is there.
IN_FOLDER = ("model.safetensors", "pytorch_model.bin", "weights.safetensors")
# Where training scripts put a model's weights in what they save.
PLACES = (
    "state_dict",
    "model",
    "model_state_dict",
    "model_ema",
    "state_dict_ema",
    "ema",
    "teacher",
)


@dataclass(frozen=True)
class WeightFile:
    """Tensors by name, the file that they are from and its SHA-256.

    `facts` is what the file says of itself, where this lab wrote it.
    """

    path: Path
    sha256: str
    weights: dict[str, Tensor]
    facts: JsonObject | None = None


def find_weight_file(source: Path) -> Path:
    """The file itself, or the one in a folder; BadInput where there is none that can be read."""
    if source.is_dir():
        for name in IN_FOLDER:
            if (source / name).is_file():
                return source / name
        if list(source.glob("*.index.json")):
            raise BadInput(f"the weights in {source} are in several parts: join them to one file")
        raise BadInput(f"{source} holds no weights: looked for {', '.join(IN_FOLDER)}")
    if not source.exists():
        raise BadInput(f"there is no file {source}{_suggest_beside(source)}")
    if source.suffix not in ENDINGS:
        raise BadInput(f"{source} is no file of weights: allowed are {', '.join(ENDINGS)}")
    return source


def _suggest_beside(source: Path) -> str:
    if not source.parent.is_dir():
        return ""
    names = [path.name for path in source.parent.iterdir() if path.suffix in ENDINGS]
    return suggest_nearest(source.name, names)


def read_weights(source: Path, key: str | None = None) -> WeightFile:
    """The tensors of a file; `key` says which of several models in it, as `ema.model`.

    BadInput for a file that holds none, or several, or what only running code could make.
    """
    path = find_weight_file(source)
    content = read_file(path, "weights")
    digest = hashlib.sha256(content).hexdigest()
    readers = {".safetensors": _read_safetensors, ".onnx": read_onnx}
    whole = readers.get(path.suffix, _read_torch)(path, content)
    is_safe = path.suffix == ".safetensors"
    facts = read_self_description(content, str(path)) if is_safe else None
    return WeightFile(path, digest, _take_tensors(path, whole, key), facts)


def _read_safetensors(path: Path, content: bytes) -> dict[str, Tensor]:
    try:
        return load(content)
    except SafetensorError as error:
        raise BadInput(f"{path} cannot be read as safetensors: {error}") from None


def _read_torch(path: Path, content: bytes) -> object:
    """What `torch.save` wrote, of plain types and tensors alone.

    A namespace of arguments is plain too: scripts save theirs beside the weights.
    """
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")
            return torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    except Exception:  # whatever a damaged or hostile file does to its reader
        raise BadInput(
            f"{path} cannot be read as weights alone, without running what it holds: it is damaged,"
            " or more than tensors; save model.state_dict()"
        ) from None


def _take_tensors(path: Path, whole: object, key: str | None) -> dict[str, Tensor]:
    """The tensors of a model: of the whole, of what `key` names, or of the place that has some."""
    if key is not None:
        return _follow_key(path, whole, key)
    if _holds_tensors(whole):
        return _select_tensors(whole)
    places = []
    if isinstance(whole, Mapping):
        places = [name for name in PLACES if _holds_tensors(whole.get(name))]
    if len(places) > 1:
        raise BadInput(f"{path} holds several models: give --key, one of {', '.join(places)}")
    if not places:
        raise BadInput(f"{path} holds no tensors by name{_describe(whole)}")
    return _follow_key(path, whole, places[0])


def _follow_key(path: Path, whole: object, key: str) -> dict[str, Tensor]:
    """The tensors under names between dots, or those whose names begin so."""
    if isinstance(whole, Mapping) and _holds_tensors(whole):
        begun = {str(name): whole[name] for name in whole if str(name).startswith(f"{key}.")}
        if begun:
            return _select_tensors({name.removeprefix(f"{key}."): begun[name] for name in begun})
    here = whole
    for name in key.split("."):
        if not isinstance(here, Mapping) or name not in here:
            names = [str(other) for other in here] if isinstance(here, Mapping) else []
            raise BadInput(f"{path} has nothing under {key!r}{suggest_nearest(name, names)}")
        here = here[name]
    if not _holds_tensors(here):
        raise BadInput(f"{path} holds no tensors by name under {key!r}")
    return _select_tensors(here)


def _holds_tensors(value: object) -> bool:
    return isinstance(value, Mapping) and any(isinstance(item, Tensor) for item in value.values())


def _select_tensors(value: object) -> dict[str, Tensor]:
    assert isinstance(value, Mapping)
    return {str(name): item for name, item in value.items() if isinstance(item, Tensor)}


def _describe(whole: object) -> str:
    if not isinstance(whole, Mapping):
        return f": it is a {type(whole).__name__}"
    names = ", ".join(repr(str(name)[:40]) for name in list(whole)[:5])
    return f": it holds {escape_text(names)}, name one with --key" if names else ""
