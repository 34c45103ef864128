"""What the patches of an object look at: itself, other objects, the background, CLS, registers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from toyvit.analyses.analysis import OBJECTS, Analysis, Measures, Tagged, stack_layers
from toyvit.analyses.attention import SHARE, SITES, Pattern, list_patterns
from toyvit.analyses.chance import declare_chances, name_chances, spread_evenly
from toyvit.circuits.patching import connect_objects
from toyvit.data.task import Batch
from toyvit.model import ViT
from toyvit.surroundings import pin_torch


def share_by_object(
    pattern: Pattern, objects: Int[Tensor, "image patch"], n_prefix: int, cls: bool
) -> dict[str, Float[Tensor, " head"]]:
    """Of the attention of patches that show an object: what each group of tokens gets, sum 1.

    The groups are the object itself, other objects, the background, CLS and registers; means over
    all such patches (after Lepori & Tartaglini 2024).
    """
    asking = F.pad(objects, (n_prefix, 0)) > 0
    keys = torch.arange(pattern.shape[-1])
    edges = connect_objects(objects, n_prefix) | {
        "cls": asking[:, :, None] & (keys < int(cls)),
        "registers": asking[:, :, None] & (keys >= int(cls)) & (keys < n_prefix),
    }

    return {
        name: torch.einsum("ihqk,iqk->h", pattern, among.float()) / asking.sum()
        for name, among in edges.items()
    }


@pin_torch()
def measure_object_attention(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `object_attention`: the share (layer head) of each group, 0 to 1.

    `share_chance` is what even attention gives the group under the mask.
    """
    assert batch.objects is not None
    config = model.config
    even = spread_evenly(config).expand(len(batch.objects), -1, -1, -1)
    layers: list[Measures] = []
    for pattern in (*list_patterns(model, trace), even):
        shares = share_by_object(pattern, batch.objects, config.n_prefix, config.cls_token)
        layers.append({Tagged("share", group=group): share for group, share in shares.items()})

    chances = name_chances(stack_layers(layers[-1:]), OBJECT_SHARES)
    return stack_layers(layers[:-1]) | chances


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
    null="attention that is even under the mask, measured beside each as `share_chance`",
    version=2,
)
