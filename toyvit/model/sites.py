"""The named places where a tap may read or change a value, and what their axes are.

Names are TransformerLens's, less its `hook_` prefix: `blocks.0.attn.pattern`, `blocks.1.resid_pre`.
But for a norm's `before_gain`, which is its `hook_normalized`: with `after_gain` beside it, which
TransformerLens has no hook for, "normalized" would not say which of the two is meant.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import NoReturn

from toyvit.config import ModelConfig
from toyvit.errors import BadInput, suggest_nearest
from toyvit.model.taps import Tap, list_names, list_wanted

logger = logging.getLogger(__name__)

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


def _is_normed(config: ModelConfig) -> bool:
    return config.embed_norm


def _has_positions(config: ModelConfig) -> bool:
    return config.positions not in ("none", "rotary") and not _has_relative(config)


def _has_relative(config: ModelConfig) -> bool:
    return config.positions in ("relative", "relative-grid")


def _has_rotation(config: ModelConfig) -> bool:
    return config.is_rotary


def _block(
    name: str,
    axes: str,
    meaning: str,
    exists: Callable[[ModelConfig], bool] = lambda config: True,
) -> Site:
    return Site("blocks.{layer}." + name, axes, meaning, exists)


BEFORE = "before gain and bias (TransformerLens's `hook_normalized`)"
A_PATCH = "one row a patch for every-patch read-outs"

BEFORE_BLOCKS = (
    Site("patches", "image patch pixel", "the picture cut into patches"),
    Site("embed", "image patch model", "patch embeddings, before positions"),
    Site("pos_embed", "patch model", "positions added to the patches", _has_positions),
    Site("ln_pre.scale", "image token one", "what the embeddings' norm divides by", _is_normed),
    Site("ln_pre.before_gain", "image token model", f"the embeddings' norm {BEFORE}", _is_normed),
    Site("ln_pre.after_gain", "image token model", "the embeddings, normed", _is_normed),
)
IN_BLOCKS = (
    _block("resid_pre", "image token model", "residual stream entering the block"),
    _block("ln1.scale", "image token one", "what the first norm divides by", _has_norm),
    _block("ln1.before_gain", "image token model", f"the first norm {BEFORE}", _has_norm),
    _block("ln1.after_gain", "image token model", "what attention reads"),
    _block("q_input", "image token head model", "what each head's queries read"),
    _block("k_input", "image token head model", "what each head's keys read"),
    _block("v_input", "image token head model", "what each head's values read"),
    _block("attn.q", "image token head feature", "queries"),
    _block("attn.k", "image token head feature", "keys"),
    _block("attn.v", "image token head feature", "values"),
    _block("attn.rot_q", "image token head feature", "queries, turned by place", _has_rotation),
    _block("attn.rot_k", "image token head feature", "keys, turned by place", _has_rotation),
    _block("attn.pos_bias", "head query key", "positions added to the scores", _has_relative),
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
    _block("ln2.before_gain", "image token model", f"the second norm {BEFORE}", _has_mlp_norm),
    _block("ln2.after_gain", "image token model", "what the MLP reads", _has_mlp),
    _block("mlp.pre", "image token neuron", "MLP units before the activation", _has_mlp),
    _block("mlp.post", "image token neuron", "MLP units after the activation", _has_mlp),
    _block("mlp_out", "image token model", "what the MLP adds to the residual stream", _has_mlp),
    _block("resid_post", "image token model", "residual stream leaving the block"),
)
AFTER_BLOCKS = (
    Site("ln_final.scale", "image token one", "what the final norm divides by", _has_norm),
    Site("ln_final.before_gain", "image token model", f"the final norm {BEFORE}", _has_norm),
    Site("ln_final.after_gain", "image token model", "what the read-out reads"),
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

    >>> normalize_site("blocks.0.attn.hook_pattern"), normalize_site("ln_final.hook_normalized")
    ('blocks.0.attn.pattern', 'ln_final.before_gain')
    """
    return name.replace("hook_normalized", "before_gain").replace("hook_", "")


def is_old_site(name: str, sites: Collection[str]) -> bool:
    """Whether a name is a site's under the name of version 0.2, which works for this version.

    With a line on standard error that says the new one, once for each name.

    >>> is_old_site("ln_final.normalized", ["logits"])
    False
    """
    new = rename_site(name)
    if new == name or new not in sites:
        return False
    _notice_old_site(name, new)
    return True


def rename_site(name: str) -> str:
    """The name of today of a site, or of a pattern that ends like one.

    >>> rename_site("blocks.*.ln1.normalized")
    'blocks.*.ln1.after_gain'
    """
    place, dot, last = name.rpartition(".")
    return f"{place}{dot}after_gain" if last == "normalized" else name


@cache
def _notice_old_site(name: str, new: str) -> None:
    logger.warning("the site %r is called %r now", name, new)


def _fit_sites(name: str, sites: Iterable[str]) -> list[str]:
    """The sites that a name or a pattern fits, under the old name if that is how it was asked."""
    pattern = normalize_site(name)
    new = rename_site(pattern)
    fits = [site for site in sites if fnmatchcase(site, new)]
    if new == pattern or not fits:
        return fits
    _notice_old_site(name, new)
    return [site.removesuffix("after_gain") + "normalized" for site in fits]


def select_sites(names: str | Iterable[str], config: ModelConfig) -> list[str]:
    """Full names for names or shell patterns, or for one; BadInput for one that fits nothing.

    >>> select_sites(["blocks.*.attn.hook_pattern"], ModelConfig(n_layers=2))
    ['blocks.0.attn.pattern', 'blocks.1.attn.pattern']
    """
    sites = list_sites(config)
    selected: dict[str, None] = {}
    for name in list_names(names):
        fits = _fit_sites(name, sites)
        if not fits:
            raise_unknown_site(name, sites)
        selected |= dict.fromkeys(fits)
    return list(selected)


def check_tapped(tap: Tap, sites: Collection[str]) -> None:
    """BadInput for a tap that names a site which is not among these."""
    for name in list_wanted(tap) or ():
        if name not in sites and not is_old_site(name, sites):
            raise_unknown_site(name, sites)


def raise_unknown_site(name: str, sites: Iterable[str]) -> NoReturn:
    """BadInput that names the nearest of the sites that there are."""
    hint = suggest_nearest(normalize_site(name), sites)
    raise BadInput(f"unknown site {name!r} in this model (see `toyvit sites`){hint}")
