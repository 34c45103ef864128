"""`--to huggingface`: a folder as the Hub has them, with a model card.

A model that transformers' ViT can be is one there; any other has the lab's own format, which the
`vit.py` of the folder reads, and its card says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from toyvit.bridges.exported import Exported
from toyvit.bridges.model_card import write_card, write_index
from toyvit.bridges.self_descriptions import encode_weights
from toyvit.bridges.to_torch import write_own_model
from toyvit.config.foreign_files import JsonObject
from toyvit.config.whole_files import write_atomically
from toyvit.model.mappings.hugging_face import (
    convert_to_hugging_face,
    describe_hugging_face,
    list_hugging_face_problems,
)

WEIGHTS = "model.safetensors"
CARD = "README.md"


def write_hugging_face(folder: Path, exported: Exported, options: object) -> list[str]:
    """`model.safetensors`, `config.json`, `preprocessor_config.json` and `README.md`."""
    problems = list_hugging_face_problems(exported.config)
    if problems:
        write_own_model(folder, exported, WEIGHTS)
        config: dict[str, object] = {"model_type": "toyvit", **exported.facts}
    else:
        weights = convert_to_hugging_face(exported.model)
        write_atomically(folder / WEIGHTS, encode_weights(weights, exported.facts))
        config = describe_hugging_face(exported.config, exported.classes)

    _write_object(folder / "config.json", config)
    _write_object(folder / "preprocessor_config.json", describe_pictures(exported))
    write_atomically(folder / CARD, write_card(exported, not problems).encode())
    if not problems:
        return []
    return [
        f"transformers' ViT cannot be this model ({', '.join(problems)}): the folder has this lab's"
        " own format, which its vit.py reads"
    ]


def _write_object(file: Path, value: dict[str, object]) -> None:
    write_atomically(file, f"{json.dumps(value, indent=2)}\n".encode())


def describe_pictures(exported: Exported) -> dict[str, object]:
    """What `ViTImageProcessor` does to a picture: as the run's pictures were shown."""
    height, width = exported.config.stated("image_size")
    mean, deviation = exported.normalization
    shown: dict[str, object] = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": height, "width": width},
        "resample": 2,  # linear
        "do_rescale": bool(mean),
        "do_normalize": bool(mean),
    }
    if mean:
        shown |= {
            "rescale_factor": 1 / 255,
            "image_mean": list(mean),
            "image_std": list(deviation),
        }
    return shown


def write_hugging_face_index(folder: Path, exported: Exported, rows: Sequence[JsonObject]) -> None:
    """The card of a folder of all checkpoints, of which this is the last."""
    is_hugging_face = not list_hugging_face_problems(exported.config)
    card = write_index(exported, is_hugging_face, rows)
    write_atomically(folder / CARD, card.encode())
