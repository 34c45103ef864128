"""What stands beside weights from elsewhere: the config of a Hugging Face or timm folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from toyvit.config.foreign_files import JsonObject, read_object
from toyvit.errors import BadInput, choose, escape_text
from toyvit.model.mappings.families import FAMILIES
from toyvit.model.mappings.own import OWN

MODEL_TYPES = {
    "vit": "vit",
    "deit": "deit",
    "dinov2": "dinov2",
    "dinov2_with_registers": "dinov2",
    "clip_vision_model": "clip",
    "clip": "clip",
}
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu-tanh",
    "gelu_pytorch_tanh": "gelu-tanh",
    "quick_gelu": "quick-gelu",
    "relu": "relu",
}
# Our fields, by what Hugging Face's config calls them.
FIELDS = {
    "num_attention_heads": "n_heads",
    "num_hidden_layers": "n_layers",
    "hidden_size": "d_model",
    "layer_norm_eps": "norm_epsilon",
    "patch_size": "patch_size",
    "num_channels": "n_channels",
}


@dataclass(frozen=True)
class Description:
    """What a folder says of its model.

    family     a name in `FAMILIES`; "" where it does not say
    stated     fields of the model's config
    answers    names of the classes, in order
    mean       of each channel, of pictures from 0 to 1; `deviation` likewise
    """

    family: str = ""
    stated: Mapping[str, object] = field(default_factory=dict)
    answers: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()


def read_description(folder: Path) -> Description:
    """What `config.json` and `preprocessor_config.json` in a folder say; nothing without them.

    BadInput for a model that is none of the families.
    """
    config_file = folder / "config.json"
    if not config_file.is_file():
        return Description()
    config = read_object(config_file)
    if "architecture" in config:
        return _read_timm(config)
    shown = folder / "preprocessor_config.json"
    return describe_hugging_face(
        config, str(config_file), read_object(shown) if shown.is_file() else {}
    )


def _read_timm(config: JsonObject) -> Description:
    """timm's own: a pretrained config beside the name of an architecture."""
    facts = config.get("pretrained_cfg") or {}
    names = config.get("label_names") or facts.get("label_names") or ()
    return Description(
        family="timm",
        answers=tuple(str(name) for name in names),
        mean=_read_numbers(facts.get("mean")),
        deviation=_read_numbers(facts.get("std")),
    )


def describe_hugging_face(config: JsonObject, place: str, shown: JsonObject) -> Description:
    """What a config of Hugging Face's says, and a preprocessor's (`shown`).

    BadInput, which names the place, for a model that is none of the families.
    """
    kind = str(config.get("model_type", ""))
    if kind == OWN.name:  # the weights' file says it all itself
        return Description()
    family = MODEL_TYPES[choose(kind, MODEL_TYPES, f"model_type in {place}")]
    config = config.get("vision_config") or config
    if config.get("use_swiglu_ffn"):
        raise BadInput(f"{place}: gated MLPs (use_swiglu_ffn) are none of this lab's ViT")

    stated: dict[str, object] = {
        ours: config[theirs] for theirs, ours in FIELDS.items() if theirs in config
    }
    activation = str(config.get("hidden_act", ""))
    if activation:
        choose(activation, ACTIVATIONS, f"hidden_act in {place}")
        stated["activation"] = ACTIVATIONS[activation]
    stated |= _read_size(config.get("image_size"))
    labels = config.get("id2label") or {}
    return Description(
        family=family,
        stated=stated,
        answers=tuple(str(labels[key]) for key in sorted(labels, key=int)),
        mean=_read_numbers(shown.get("image_mean")),
        deviation=_read_numbers(shown.get("image_std")),
    )


def _read_size(size: object) -> dict[str, object]:
    if isinstance(size, int):
        return {"image_size": (size, size)}
    if isinstance(size, list) and len(size) == 2:
        return {"image_size": tuple(size)}
    return {}


def _read_numbers(values: object) -> tuple[float, ...]:
    return tuple(float(value) for value in values) if isinstance(values, list | tuple) else ()


def find_family(name: str, weights: Mapping[str, object]) -> str:
    """The family of that name; or, for "", the one whose names most tensors have.

    BadInput where no family has a name of theirs.

    >>> find_family("", {"patch_embed.proj.weight": 0, "pos_embed": 0})
    'timm'
    """
    if name:
        return choose(name, FAMILIES, "family")
    counts = {}
    for family in FAMILIES.values():
        known = set(family.name_tensors(1).values())
        counts[family.name] = sum(family.spell(tensor) in known for tensor in weights)
    best = max(counts, key=lambda family: counts[family])
    if not counts[best]:
        some = escape_text(", ".join(repr(tensor[:60]) for tensor in list(weights)[:3]))
        raise BadInput(
            f"the weights are of no family that is known ({', '.join(FAMILIES)}): they hold {some};"
            " give --map FILE.json with their names"
        )
    return best
