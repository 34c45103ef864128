"""The named places where a tap may read or change a value, and what their axes are.

Names are TransformerLens's, less its `hook_` prefix: `blocks.0.attn.pattern`, `blocks.1.resid_pre`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NoReturn

from toyvit.config import ModelConfig
from toyvit.errors import BadInput, suggest_nearest
from toyvit.model.taps import list_names

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
    """A place in the model: its name (with `{layer}` where every block has one) and its axes.

    `meaning` says what lives there, `exists` in which models there is such a place.

    >>> Site("embed", "image patch model", "patch embeddings").axes.split()
    ['image', 'patch', 'model']
    """

    name: str
    axes: str
    meaning: str
    exists: Callable[[ModelConfig], bool] = lambda config: True


def _has_norm(config: ModelConfig) -> bool:
    return config.norm != "none"


def _has_mlp(config: ModelConfig) -> bool:
    return config.d_mlp > 0


def _has_mlp_norm(config: ModelConfig) -> bool:
    return _has_mlp(config) and _has_norm(config)


def _has_positions(config: ModelConfig) -> bool:
    return config.positions != "none"


def _block(
    name: str,
    axes: str,
    meaning: str,
    exists: Callable[[ModelConfig], bool] = lambda config: True,
) -> Site:
    return Site("blocks.{layer}." + name, axes, meaning, exists)


A_PATCH = "one row a patch for every-patch read-outs"

BEFORE_BLOCKS = (
    Site("patches", "image patch pixel", "the picture cut into patches"),
    Site("embed", "image patch model", "patch embeddings, before positions"),
    Site("pos_embed", "patch model", "positions added to the patches", _has_positions),
)
IN_BLOCKS = (
    _block("resid_pre", "image token model", "residual stream entering the block"),
    _block("ln1.scale", "image token one", "what the first norm divides by", _has_norm),
    _block("ln1.normalized", "image token model", "what attention reads"),
    _block("q_input", "image token head model", "what each head's queries read"),
    _block("k_input", "image token head model", "what each head's keys read"),
    _block("v_input", "image token head model", "what each head's values read"),
    _block("attn.q", "image token head feature", "queries"),
    _block("attn.k", "image token head feature", "keys"),
    _block("attn.v", "image token head feature", "values"),
    _block(
        "attn.attn_scores", "image head query key", "attention scores, scaled and masked (-inf)"
    ),
    _block("attn.pattern", "image head query key", "attention pattern; rows sum to 1"),
    _block("attn.z", "image token head feature", "values mixed by the pattern"),
    _block(
        "attn.result", "image token head model", "what each head writes, before the output bias"
    ),
    _block("attn_out", "image token model", "what attention adds to the residual stream"),
    _block("resid_mid", "image token model", "residual stream between attention and MLP", _has_mlp),
    _block("ln2.scale", "image token one", "what the second norm divides by", _has_mlp_norm),
    _block("ln2.normalized", "image token model", "what the MLP reads", _has_mlp),
    _block("mlp.pre", "image token neuron", "MLP units before the activation", _has_mlp),
    _block("mlp.post", "image token neuron", "MLP units after the activation", _has_mlp),
    _block("mlp_out", "image token model", "what the MLP adds to the residual stream", _has_mlp),
    _block("resid_post", "image token model", "residual stream leaving the block"),
)
AFTER_BLOCKS = (
    Site("ln_final.scale", "image token one", "what the final norm divides by", _has_norm),
    Site("ln_final.normalized", "image token model", "what the read-out reads"),
    Site("readout", "image model", f"the token, or the mean, that the head reads; {A_PATCH}"),
    Site("logits", "image label", f"the model's answer; {A_PATCH}"),
)
SITES = (*BEFORE_BLOCKS, *IN_BLOCKS, *AFTER_BLOCKS)


def list_sites(config: ModelConfig) -> dict[str, Site]:
    """Every site of a model with this config, by full name, in the order of the forward pass.

    >>> names = list(list_sites(ModelConfig(n_layers=1)))
    >>> names[:4]
    ['patches', 'embed', 'pos_embed', 'blocks.0.resid_pre']
    """
    sites = {site.name: site for site in BEFORE_BLOCKS if site.exists(config)}
    in_block = [site for site in IN_BLOCKS if site.exists(config)]
    for layer in range(config.n_layers):
        sites |= {site.name.format(layer=layer): site for site in in_block}
    return sites | {site.name: site for site in AFTER_BLOCKS if site.exists(config)}


def normalize_site(name: str) -> str:
    """A site's name in the spelling of this lab, given TransformerLens's.

    >>> normalize_site("blocks.0.attn.hook_pattern")
    'blocks.0.attn.pattern'
    """
    return name.replace("hook_", "")


def select_sites(names: str | Iterable[str], config: ModelConfig) -> list[str]:
    """Full names for names or shell patterns, or for one; BadInput for one that fits nothing.

    >>> select_sites(["blocks.*.attn.hook_pattern"], ModelConfig(n_layers=2))
    ['blocks.0.attn.pattern', 'blocks.1.attn.pattern']
    """
    sites = list_sites(config)
    selected: dict[str, None] = {}
    for name in list_names(names):
        fits = [site for site in sites if fnmatchcase(site, normalize_site(name))]
        if not fits:
            raise_unknown_site(name, sites)
        selected |= dict.fromkeys(fits)
    return list(selected)


def raise_unknown_site(name: str, sites: Iterable[str]) -> NoReturn:
    """BadInput that names the nearest of the sites that there are."""
    hint = suggest_nearest(normalize_site(name), sites)
    raise BadInput(f"unknown site {name!r} in this model (see `toyvit sites`){hint}")
