"""The named places inside the model where a tap may read or change a value, and the glossary of their axes.

Names are TransformerLens's, less its `hook_` prefix: `blocks.0.attn.pattern`, `blocks.1.resid_pre`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from toyvit.config import ModelConfig
from toyvit.errors import BadInput, suggest_nearest

AXES = {
    "image": "one picture of the batch",
    "patch": "a square of the picture, in raster order",
    "token": "CLS (if any), then the registers, then the patches in raster order",
    "query": "the token that attends",
    "key": "the token that is attended to",
    "head": "an attention head of one layer",
    "layer": "a block of the transformer, counted from 0",
    "model": "a coordinate of the residual stream",
    "feature": "a coordinate inside one head",
    "neuron": "a hidden unit of the MLP",
    "pixel": "a pixel value of one patch (channel, row, column)",
    "label": "a class, or a pixel for a model that reconstructs",
    "one": "an axis of length 1",
}


@dataclass(frozen=True)
class Site:
    """A place: `name` (with `{layer}` where every block has one), its axes, what lives there, and in which models."""

    name: str
    axes: str
    meaning: str
    exists: Callable[[ModelConfig], bool] = lambda config: True


def _normed(config: ModelConfig) -> bool:
    return config.norm != "none"


def _with_mlp(config: ModelConfig) -> bool:
    return config.d_mlp > 0


SITES = (
    Site("patches", "image patch pixel", "the picture cut into patches"),
    Site("embed", "image patch model", "patch embeddings, before positions"),
    Site(
        "pos_embed",
        "patch model",
        "positions added to the patches",
        lambda config: config.positions != "none",
    ),
    Site("blocks.{layer}.resid_pre", "image token model", "residual stream entering the block"),
    Site("blocks.{layer}.ln1.scale", "image token one", "what the first norm divides by", _normed),
    Site("blocks.{layer}.ln1.normalized", "image token model", "what attention reads"),
    Site("blocks.{layer}.q_input", "image token head model", "what each head's queries read"),
    Site("blocks.{layer}.k_input", "image token head model", "what each head's keys read"),
    Site("blocks.{layer}.v_input", "image token head model", "what each head's values read"),
    Site("blocks.{layer}.attn.q", "image token head feature", "queries"),
    Site("blocks.{layer}.attn.k", "image token head feature", "keys"),
    Site("blocks.{layer}.attn.v", "image token head feature", "values"),
    Site(
        "blocks.{layer}.attn.attn_scores",
        "image head query key",
        "attention scores, scaled and masked (-inf)",
    ),
    Site("blocks.{layer}.attn.pattern", "image head query key", "attention pattern; rows sum to 1"),
    Site("blocks.{layer}.attn.z", "image token head feature", "values mixed by the pattern"),
    Site(
        "blocks.{layer}.attn.result",
        "image token head model",
        "what each head writes, before the output bias",
    ),
    Site(
        "blocks.{layer}.attn_out", "image token model", "what attention adds to the residual stream"
    ),
    Site(
        "blocks.{layer}.resid_mid",
        "image token model",
        "residual stream between attention and MLP",
        _with_mlp,
    ),
    Site(
        "blocks.{layer}.ln2.scale",
        "image token one",
        "what the second norm divides by",
        lambda c: _with_mlp(c) and _normed(c),
    ),
    Site("blocks.{layer}.ln2.normalized", "image token model", "what the MLP reads", _with_mlp),
    Site(
        "blocks.{layer}.mlp.pre", "image token neuron", "MLP units before the activation", _with_mlp
    ),
    Site(
        "blocks.{layer}.mlp.post", "image token neuron", "MLP units after the activation", _with_mlp
    ),
    Site(
        "blocks.{layer}.mlp_out",
        "image token model",
        "what the MLP adds to the residual stream",
        _with_mlp,
    ),
    Site("blocks.{layer}.resid_post", "image token model", "residual stream leaving the block"),
    Site("ln_final.scale", "image token one", "what the final norm divides by", _normed),
    Site("ln_final.normalized", "image token model", "what the read-out reads"),
    Site(
        "readout",
        "image model",
        "the token, or the mean, that the head reads; one row a patch for every-patch read-outs",
    ),
    Site("logits", "image label", "the model's answer; one row a patch for every-patch read-outs"),
)


def list_sites(config: ModelConfig) -> dict[str, Site]:
    """Every site of a model with this config, by full name, in the order of the forward pass."""
    before = [site for site in SITES if site.name in ("patches", "embed", "pos_embed")]
    blocks = [site for site in SITES if "{layer}" in site.name]
    after = [site for site in SITES if site not in before and site not in blocks]
    found = {site.name: site for site in before if site.exists(config)}
    for layer in range(config.n_layers):
        found |= {site.name.format(layer=layer): site for site in blocks if site.exists(config)}
    return found | {site.name: site for site in after if site.exists(config)}


def normalize_site(name: str) -> str:
    """TransformerLens spells `blocks.0.attn.hook_pattern`; here it is `blocks.0.attn.pattern`."""
    return name.replace("hook_", "")


def select_sites(names: Iterable[str], config: ModelConfig) -> list[str]:
    """Full names for names or shell patterns (`blocks.*.attn.pattern`); one that fits nothing is BadInput."""
    known = list_sites(config)
    chosen: dict[str, None] = {}
    for name in names:
        fits = [site for site in known if fnmatchcase(site, normalize_site(name))]
        if not fits:
            raise BadInput(
                f"unknown site {name!r} in this model (see `toyvit sites`){suggest_nearest(normalize_site(name), known)}"
            )
        chosen |= dict.fromkeys(fits)
    return list(chosen)
