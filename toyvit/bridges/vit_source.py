"""A model as one file of Python that needs nothing but torch, with what this model uses alone.

`vit_template.txt` holds the lines of all such files. Before each stands which options it is of:
all of those between commas, `!` before those that the model must not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import Template

from toyvit.config import ModelConfig
from toyvit.errors import BadInput, escape_text
from toyvit.model.options import OFFSET_GRIDS, POOLED, count_outputs

TEMPLATE = Path(__file__).with_name("vit_template.txt")
MARGIN = 15  # letters before the bar
LONGEST = 60  # letters of a name
# What stands between the two matrices of an MLP: torch's own module, or a formula and its words.
MODULES = {
    "gelu": "nn.GELU()",
    "gelu-tanh": 'nn.GELU(approximate="tanh")',
    "relu": "nn.ReLU()",
}
FORMULAS = {
    "quick-gelu": ("x * torch.sigmoid(1.702 * x)", "x * sigmoid(1.702 x): GELU as CLIP has it."),
    "solu": ("x * x.softmax(-1)", "x * softmax(x) over the neurons (Elhage 2022)."),
}
# Options that the template has lines for; what a plug-in adds is not among them.
WRITTEN = {
    "norm": ("layer", "rms", "none"),
    "positions": ("learned", "sincos", "relative", "relative-grid", "rotary", "none"),
    "mask": ("bidirectional", "causal", "local", "no-cls-read"),
    "activation": (*MODULES, *FORMULAS),
    "readout": ("cls", "mean", "pooled", "last", "every", "pixels"),
}
PER_PATCH = ("every", "pixels")


@dataclass(frozen=True)
class Words:
    """What a file says of its model.

    title            its first sentence, without a quote or a backslash
    facts            where it comes from, likewise
    weights          the name of the file beside it that holds the weights
    mean, deviation  of each channel, of pixels from 0 to 1; () where they are shown as they are
    """

    title: str
    facts: str
    weights: str = "weights.safetensors"
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()


def write_vit(config: ModelConfig, words: Words) -> str:
    """The source of a model of this shape, formatted, under 150 lines of at most 100 characters.

    BadInput for an option that it cannot write.

    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> source = write_vit(config, Words("A vision transformer.", "Run 'first', step 100."))
    >>> "class MLP" in source, "class Attention" in source
    (False, True)
    """
    for field, written in WRITTEN.items():
        value = getattr(config, field)
        if value not in written:
            raise BadInput(
                f"a file of its own cannot have model.{field} {value!r}: allowed are "
                f"{', '.join(written)}"
            )
    flags = _list_flags(config, words)
    lines = []
    for line in TEMPLATE.read_text().splitlines():
        conditions = line[:MARGIN].strip().split(",")
        if all(_holds(condition, flags) for condition in conditions):
            lines.append(line[MARGIN + 2 :].rstrip())
    return Template("\n".join(lines) + "\n").substitute(_list_values(config, words))


def shorten_name(text: str) -> str:
    """A name from elsewhere as a docstring can have it.

    >>> shorten_name('a"b')
    "a'b"
    """
    plain = escape_text(text).replace("\\", "/").replace('"', "'").replace("$", "_")
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 3] + "..."


def _holds(condition: str, flags: set[str]) -> bool:
    if condition.startswith("!"):
        return condition[1:] not in flags
    return not condition or condition in flags


def _list_flags(config: ModelConfig, words: Words) -> set[str]:
    """The options that the lines of the template are chosen by."""
    is_masked = config.mask != "bidirectional"
    has_offsets = config.positions in OFFSET_GRIDS
    is_placed = config.positions in ("learned", "sincos", "rotary") or config.mask == "local"
    has_prefix = config.n_prefix > 0
    is_per_patch = config.readout in PER_PATCH
    flags = {
        "norm": config.norm != "none",
        "embed_norm": config.embed_norm,
        "place": is_placed or has_offsets,
        "token": (has_offsets and has_prefix)
        or config.mask in ("causal", "no-cls-read")
        or (config.mask == "local" and has_prefix),
        "added": config.positions in ("learned", "sincos"),
        "offset": has_offsets,
        "offset-row": config.positions == "relative",
        "offset-grid": config.positions == "relative-grid",
        "mask": is_masked,
        "prefix": has_prefix,
        "mlp": config.d_mlp > 0,
        "attention_bias": config.attention_bias,
        "bias": config.bias,
        "functional": config.norm != "none",
        "own-activation": config.d_mlp > 0 and config.activation in FORMULAS,
        "scaled": bool(words.mean),
        "plain": len(words.mean) == 1,
        "channels": len(words.mean) > 1,
        "patch": is_per_patch,
        # The head reads all that the final norm gives.
        "whole": config.readout in POOLED or (is_per_patch and not has_prefix),
    }
    named = {config.norm, config.positions, config.mask, config.readout} - {"none", *PER_PATCH}
    return {name for name, holds in flags.items() if holds} | named


def _list_values(config: ModelConfig, words: Words) -> dict[str, object]:
    """What stands for the names after `$`."""
    rows, columns = config.grid
    channels = config.stated("n_channels")
    height, width = config.stated("image_size")
    n_outputs = count_outputs(config)
    places = f"n, {config.n_patches}" if config.readout in PER_PATCH else "n"
    is_one = len(words.mean) == 1
    formula, named = FORMULAS.get(config.activation, ("", ""))
    return {
        **vars(config),
        "title": words.title,
        "facts": words.facts,
        "weights": words.weights,
        "rows": rows,
        "columns": columns,
        "n_prefix": config.n_prefix,
        "n_tokens": config.n_tokens,
        "n_outputs": n_outputs,
        "tokens": _name_prefix(config),
        "given": f"(n, {channels}, {height}, {width})",
        "answered": f"({places}, {n_outputs})",
        "shown": "normalize(pixels)" if words.mean else "images",
        "mean": words.mean[0] if is_one else list(words.mean),
        "deviation": words.deviation[0] if is_one else list(words.deviation),
        "activated": formula,
        "named_activation": named,
        "activation_module": MODULES.get(config.activation, "Activation()"),
    }


def _name_prefix(config: ModelConfig) -> str:
    parts = ["CLS"] * config.cls_token + ["registers"] * (config.n_registers > 0)
    return " and ".join(parts)
