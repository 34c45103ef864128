"""What the patches of an object look at: itself, other objects, the background, CLS, registers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional as F

from toyvit.analyses.analysis import OBJECTS, Analysis, Measures, Tagged, stack_layers
from toyvit.analyses.attention import SHARE, SITES, Pattern, list_patterns
from toyvit.analyses.chance import declare_chances, name_chances, spread_evenly
from toyvit.circuits.patching import connect_objects
from toyvit.config import ModelConfig
from toyvit.data.task import Batch
from toyvit.model import ViT
from toyvit.surroundings import pin_torch


def group_keys(batch: Batch, config: ModelConfig) -> dict[str, Bool[Tensor, "image query key"]]:
    """From patches that show an object to each group of tokens.

    The groups are the object itself, other objects, the background, CLS and registers.
    """
    assert batch.objects is not None
    n = config.n_prefix
    n_first = int(config.cls_token)
    asking = F.pad(batch.objects, (n, 0))[:, :, None] > 0
    keys = torch.arange(asking.shape[1])
    return connect_objects(batch.objects, n) | {
        "cls": asking & (keys < n_first),
        "registers": asking & (keys >= n_first) & (keys < n),
    }


def share_by_group(
    pattern: Pattern, groups: Mapping[str, Bool[Tensor, "image query key"]]
) -> Measures:
    """What each group gets of the attention of patches that show an object, by head, sum 1.

    Means over all such patches (after Lepori & Tartaglini 2024).
    """
    n_asking = torch.stack([keys.any(-1) for keys in groups.values()]).any(0).sum()
    shares: Measures = {}
    for group, keys in groups.items():
        got = torch.einsum("ihqk,iqk->h", pattern, keys.float())
        shares[Tagged("share", group=group)] = got / n_asking
    return shares


@pin_torch()
def measure_object_attention(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `object_attention`: the share (layer head) of each group, 0 to 1.

    `share_chance` is what even attention gives the group under the mask.
    """
    assert batch.objects is not None
    config = model.config
    groups = batch.compute_once(group_keys, config)
    layers = [share_by_group(pattern, groups) for pattern in list_patterns(model, trace)]
    return stack_layers(layers) | batch.compute_once(compute_share_chances, config)


def compute_share_chances(batch: Batch, config: ModelConfig) -> Measures:
    """What even attention gives each group under the mask."""
    even = spread_evenly(config).expand(len(batch.images), -1, -1, -1)
    shares = share_by_group(even, group_keys(batch, config))
    return name_chances(stack_layers([shares]), OBJECT_SHARES)


OBJECT_SHARES = {"share": SHARE}


OBJECT_ATTENTION = Analysis(
    name="object_attention",
    computes="what the patches of an object look at",
    measure=measure_object_attention,
    quantities=OBJECT_SHARES | declare_chances(OBJECT_SHARES),
    sites=SITES,
    needs=(OBJECTS,),
    cost=60,
    source="after Lepori & Tartaglini 2024",
    truth="planted patterns: the share of their group is 1",
    null="what attention spread evenly over all tokens that the mask allows gives, measured "
    "beside each as `share_chance`",
    version=2,
)
