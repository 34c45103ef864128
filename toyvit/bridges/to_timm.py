"""`--to timm`: the state dict of a `VisionTransformer`, and the lines that build it."""

from __future__ import annotations

from pathlib import Path

from toyvit.bridges.exported import Exported
from toyvit.bridges.self_descriptions import encode_weights
from toyvit.bridges.to_torch import WEIGHTS, write_facts
from toyvit.config.whole_files import write_atomically
from toyvit.model.mappings.timm import convert_to_timm, describe_timm

SCRIPT = '''\
"""The timm model of this folder. The weights' file says in its metadata where they are from."""

import json
from functools import partial
from pathlib import Path

from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

HERE = Path(__file__).parent


def load() -> VisionTransformer:
    """The model with its weights, in evaluation mode."""
    facts = json.loads((HERE / "model.json").read_text())
    norm = partial(nn.LayerNorm, eps=facts["config"]["norm_epsilon"])
    model = VisionTransformer(**facts["arguments"], norm_layer=norm)
    model.load_state_dict(load_file(HERE / "weights.safetensors"))
    return model.eval()
'''


def write_timm(folder: Path, exported: Exported, options: object) -> list[str]:
    """`weights.safetensors`, `model.json` with the arguments, and `load.py`.

    BadInput for a model that timm's cannot be.
    """
    config = exported.config
    weights = convert_to_timm(exported.model, norm_epsilon=config.norm_epsilon)
    write_atomically(folder / WEIGHTS, encode_weights(weights, exported.facts))
    write_facts(folder, exported, arguments=describe_timm(config))
    write_atomically(folder / "load.py", SCRIPT.encode())
    return []
