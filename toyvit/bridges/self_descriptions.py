"""What an exported file says of itself: the model, its classes, its pictures, where it is from.

One JSON object, as `toyvit` in the metadata of a safetensors file and as `model.json` beside it. It
holds no path of the machine that wrote it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from safetensors.torch import save
from torch import Tensor

from toyvit.bridges.descriptions import Description
from toyvit.config import ModelConfig
from toyvit.config.fields import build_record
from toyvit.config.foreign_files import JsonObject, parse_object
from toyvit.errors import BadInput

KEY = "toyvit"
FORMAT = 1


def encode_weights(weights: Mapping[str, Tensor], facts: JsonObject) -> bytes:
    """A safetensors file that describes itself.

    `format` is what other libraries look for there.
    """
    plain = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    return save(plain, {"format": "pt", KEY: json.dumps(facts)})


def read_self_description(content: bytes, place: str) -> JsonObject | None:
    """What a safetensors file says of itself; None for one that says nothing.

    BadInput for what is no such description.
    """
    length = int.from_bytes(content[:8], "little")
    header = parse_object(content[8 : 8 + length], place)
    text = (header.get("__metadata__") or {}).get(KEY)
    if text is None:
        return None
    facts = parse_object(str(text), f"{place}, {KEY} in its metadata")
    if facts.get("format") != FORMAT:
        raise BadInput(
            f"{place} has a description of format {facts.get('format')!r}: allowed is {FORMAT}"
        )
    return facts


def read_facts(facts: JsonObject, place: str) -> Description:
    """A description as others are; its family is for the names of the tensors to tell.

    BadInput for a part that is missing or is something else.
    """
    try:
        config: ModelConfig = build_record(ModelConfig, facts["config"])
        return Description(
            stated=vars(config),
            answers=tuple(str(name) for name in facts["classes"] or ()),
            mean=tuple(float(value) for value in facts["mean"]),
            deviation=tuple(float(value) for value in facts["deviation"]),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        why = str(error) if isinstance(error, BadInput) else f"{type(error).__name__}: {error}"
        raise BadInput(f"{place} has a damaged description of itself: {why}") from None


def read_step(facts: JsonObject) -> int | None:
    """The step that a description tells; None where it tells none."""
    provenance = facts.get("provenance")
    step = provenance.get("step") if isinstance(provenance, dict) else None
    return step if isinstance(step, int) and not isinstance(step, bool) and step >= 0 else None
