"""`--to torch`: the weights under the lab's own names, and the model as one file of torch."""

from __future__ import annotations

import json
from pathlib import Path

from toyvit.bridges.exported import Exported
from toyvit.bridges.self_descriptions import encode_weights
from toyvit.bridges.vit_source import Words, shorten_name, write_vit
from toyvit.config.whole_files import write_atomically
from toyvit.model.mappings.own import list_own_weights
from toyvit.version import VERSION

WEIGHTS = "weights.safetensors"
SOURCE = "vit.py"
FACTS = "model.json"


def write_torch(folder: Path, exported: Exported, options: object) -> list[str]:
    """`vit.py`, `weights.safetensors` and `model.json`."""
    write_own_model(folder, exported, WEIGHTS)
    write_facts(folder, exported)
    return []


def write_own_model(folder: Path, exported: Exported, weights: str) -> None:
    """The weights under a name, and `vit.py` that reads them."""
    source = write_vit(exported.config, _describe(exported, weights))
    write_atomically(folder / SOURCE, source.encode())
    content = encode_weights(list_own_weights(exported.model), exported.facts)
    write_atomically(folder / weights, content)


def write_facts(folder: Path, exported: Exported, **more: object) -> None:
    """`model.json`: what the weights' file says of itself, and what the format adds."""
    text = json.dumps({**exported.facts, **more}, indent=2)
    write_atomically(folder / FACTS, f"{text}\n".encode())


def _describe(exported: Exported, weights: str) -> Words:
    run = exported.run
    mean, deviation = exported.normalization
    is_same = len(set(mean)) == 1 and len(set(deviation)) == 1
    return Words(
        title="A vision transformer that was trained with ToyViT.",
        facts=f"Run {shorten_name(run.name)}, step {exported.step}; written by ToyViT {VERSION}.",
        weights=weights,
        mean=mean[:1] if is_same else mean,
        deviation=deviation[:1] if is_same else deviation,
    )
