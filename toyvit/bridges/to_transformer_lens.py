"""`--to transformer_lens`: the blocks as a HookedTransformer, and `vit.py` for what enters them."""

from __future__ import annotations

from pathlib import Path

from toyvit.bridges.exported import Exported
from toyvit.bridges.self_descriptions import encode_weights
from toyvit.bridges.to_torch import WEIGHTS, write_facts, write_own_model
from toyvit.config.whole_files import write_atomically
from toyvit.model.mappings.transformer_lens import (
    convert_to_transformer_lens,
    describe_read,
    describe_transformer_lens,
)

HOOKED = "hooked.safetensors"
SCRIPT = '''\
"""The HookedTransformer of this folder. It is given the stream that enters the first block:

    stream = vit.load().embed(images)
    logits, cache = load().run_with_cache(stream, start_at_layer=0)

The answer is among the logits, (image, token, label): `read` in model.json says where.
"""

import json
from pathlib import Path

from safetensors.torch import load_file
from transformer_lens import HookedTransformer, HookedTransformerConfig

HERE = Path(__file__).parent


def load() -> HookedTransformer:
    """The blocks and the head with their weights; words are never embedded."""
    arguments = json.loads((HERE / "model.json").read_text())["arguments"]
    config = HookedTransformerConfig(**arguments, init_weights=False, device="cpu")
    model = HookedTransformer(config)
    weights = load_file(HERE / "hooked.safetensors")
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
    unused = ("W_E", "W_pos", "mask", "IGNORE")
    assert all(name.endswith(unused) for name in missing), missing
    return model.eval()
'''


def write_transformer_lens(folder: Path, exported: Exported, options: object) -> list[str]:
    """`hooked.safetensors`, `load.py`, `model.json`; and what `write_torch` writes.

    BadInput for a model that no HookedTransformer can be.
    """
    config = exported.config
    arguments = describe_transformer_lens(config)
    weights = convert_to_transformer_lens(exported.model)
    write_atomically(folder / HOOKED, encode_weights(weights, exported.facts))
    write_own_model(folder, exported, WEIGHTS)
    write_facts(folder, exported, arguments=arguments, read=describe_read(config))
    write_atomically(folder / "load.py", SCRIPT.encode())
    return []
