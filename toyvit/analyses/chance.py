"""Chance levels of statistics of attention: what they give where every score is 0.

A model whose scores are all 0 spreads attention evenly over the keys that the mask lets a query
see, CLS and registers included. What a statistic gives on that pattern stands beside it in the
table as `NAME_chance`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from toyvit.analyses.analysis import Measures, Quantity, Tagged, split_key
from toyvit.config import ModelConfig
from toyvit.model.options import allowed_keys

OF_HEADS = "layer head"


def spread_evenly(config: ModelConfig) -> Float[Tensor, "one one query key"]:
    """The pattern of a model whose scores are all 0: even over the keys that the mask allows.

    >>> config = ModelConfig(mask="causal", cls_token=False, readout="last",
    ...     image_size=(4, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> spread_evenly(config)[0, 0]
    tensor([[1.0000, 0.0000],
            [0.5000, 0.5000]])
    """
    allowed = allowed_keys(config).float()
    return (allowed / allowed.sum(-1, keepdim=True))[None, None]


def declare_chances(quantities: Mapping[str, Quantity]) -> dict[str, Quantity]:
    """For each quantity of heads the one that says its chance level, the same for all of them."""
    chances = {}
    for name, quantity in quantities.items():
        axes = quantity.axes.removeprefix(OF_HEADS)
        chances[f"{name}_chance"] = replace(quantity, axes=axes.strip())
    return chances


def name_chances(measures: Measures, quantities: Mapping[str, Quantity]) -> Measures:
    """The chance levels that `declare_chances` declares, from the measures of even attention."""
    chances: Measures = {}
    for key, value in measures.items():
        name, tags = split_key(key)
        if name in quantities:
            level = value[0, 0] if quantities[name].axes.startswith(OF_HEADS) else value
            chances[Tagged(f"{name}_chance", **tags) if tags else f"{name}_chance"] = level
    return chances
