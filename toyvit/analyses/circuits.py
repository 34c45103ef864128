"""What the answer is made of, and what it depends on: attribution, patching, edges, blocked attention, at one checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from toyvit.circuits.edges import eap
from toyvit.circuits.graph import build_graph
from toyvit.circuits.pairs import METRICS, counterfactual_pairs
from toyvit.circuits.patching import (
    connect_objects,
    connect_tokens,
    patch_activations,
    run_attention_knockout,
    select_tokens,
)
from toyvit.data.task import Batch, loss
from toyvit.instruments.attribution import SITES, attribute_components, attribute_patches
from toyvit.model import ViT
from toyvit.model.forward import run_model

__all__ = [
    "SITES",
    "measure_attribution",
    "measure_edges",
    "measure_attention_knockout",
    "measure_patching",
]
N_PAIRS = 64


def measure_attribution(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `measure_attribution`: what each part adds to the answer's logit over the mean logit, a mean over pictures.

    `direct` by head, `direct_mlp` by MLP, `direct_part` of the embedding, the positions, CLS and registers, the biases: they
    sum to the whole. `direct_patch` is what all heads add from each token they read (spatial decomposition, Gandelsman 2024).
    """
    assert batch.classes is not None
    config = model.config

    def over_mean(logits: Float[Tensor, "image *places label"]) -> Float[Tensor, "*places"]:
        answer = batch.classes.view(-1, *[1] * (logits.ndim - 1)).expand(*logits.shape[:-1], 1)  # type: ignore[union-attr]
        return (logits.gather(-1, answer)[..., 0] - logits.mean(-1)).mean(0)

    parts = {
        name: over_mean(logits[:, 0]) for name, logits in attribute_components(model, trace).items()
    }
    heads = [
        [parts.pop(f"a{layer}.h{head}") for head in range(config.n_heads)]
        for layer in range(config.n_layers)
    ]
    found = {
        "direct": torch.tensor(heads),
        "direct_patch": over_mean(attribute_patches(model, trace)[:, 0]),
    }
    if config.d_mlp:
        found["direct_mlp"] = torch.stack(
            [parts.pop(f"m{layer}") for layer in range(config.n_layers)]
        )
    return found | {f"direct_part[part={name}]": value for name, value in parts.items()}


def measure_patching(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `patch_activations`: `circuits.patching` of heads and of the stream, logit difference, 64 pairs a counterfactual."""
    found = {}
    for change in batch.changeable:
        pairs = counterfactual_pairs(batch, change, N_PAIRS)
        for direction in ("denoise", "noise"):
            tags = f"[change={change},direction={direction}]"
            found[f"patched_head{tags}"] = patch_activations(
                model, pairs, "attn.z", direction=direction
            )
            found[f"patched_stream{tags}"] = patch_activations(
                model, pairs, "resid_pre", direction=direction
            )
    return found


def measure_edges(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `measure_edges`: EAP-IG with 5 points on the first 64 pairs of each counterfactual; logit difference, in logits.

    `edge_score` is about what the difference changes by when the edge alone carries the corrupt pictures; `clean` and
    `corrupt` are the differences themselves, so that a score can be read as a share of what there is to explain.
    """
    found: dict[str, Tensor] = {}
    for change in batch.changeable:
        pairs = counterfactual_pairs(batch, change, N_PAIRS)
        scores = eap(model, pairs, points=5)
        for place, edge in zip(
            build_graph(model.config).allowed.nonzero().tolist(),
            build_graph(model.config).edges,
            strict=True,
        ):
            found[f"edge_score[change={change},edge={edge}]"] = scores[tuple(place)]
        for name, images in (("clean", pairs.clean), ("corrupt", pairs.corrupt)):
            logits = run_model(model, images)
            found[f"{name}[change={change}]"] = METRICS["logit_difference"](
                logits, pairs, logits
            ).mean()
    return found


def measure_attention_knockout(
    model: ViT, batch: Batch, trace: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The analysis `measure_attention_knockout`: by how many nats the loss rises when one group of tokens cannot attend to another in one layer.

    Groups are CLS, the registers, the last token where it is read, and the other patches (attention knock-out, Geva 2023); on a
    canvas also the patches of objects, which may read the same object, other objects, or the background. The last layer of a
    group that is not read out: exactly 0.
    """
    config, whole = model.config, loss(trace["logits"], batch.target)
    names = [
        *(["cls"] if config.cls_token else []),
        *(["registers"] if config.n_registers else []),
        *(["last"] if config.readout == "last" else []),
        "patches",
    ]
    regions = {name: select_tokens(model, name) for name in names}
    if "last" in regions:
        regions["patches"] = regions["patches"] & ~regions["last"]
    cuts = {
        (queries, keys): connect_tokens(regions[queries], regions[keys])
        for queries in names
        for keys in names
        if queries != keys or queries == "patches"
    }
    if batch.objects is not None:
        cuts |= {
            ("object", keys): edges
            for keys, edges in connect_objects(batch.objects, config.n_prefix).items()
        }
    return {
        f"loss_rise[key_group={keys},query_group={queries}]": torch.stack(
            [
                loss(run_attention_knockout(model, trace, edges, [layer]), batch.target) - whole
                for layer in range(config.n_layers)
            ]
        )
        for (queries, keys), edges in cuts.items()
    }
