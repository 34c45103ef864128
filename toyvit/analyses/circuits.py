"""What the answer is made of and depends on: attribution, patching, edges, blocked attention."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from toyvit.analyses.analysis import (
    CLASSES,
    COUNTERFACTUALS,
    LABELS,
    MLP,
    Analysis,
    Measures,
    Quantity,
    Tagged,
)
from toyvit.circuits.edges import eap_with_errors
from toyvit.circuits.graph import build_graph
from toyvit.circuits.pairs import METRICS, PatchingPairs, counterfactual_pairs
from toyvit.circuits.patching import (
    connect_objects,
    connect_tokens,
    patch_activations,
    run_attention_knockout,
    select_tokens,
)
from toyvit.data.task import Batch, loss
from toyvit.instruments.attribution import (
    SITES,
    answer_directions,
    attribute_others,
    attribute_sources,
)
from toyvit.model import ViT
from toyvit.model.forward import run_model
from toyvit.surroundings import pin_torch

N_PAIRS = 64


@pin_torch()
def measure_attribution(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `attribution`: what each part adds to the answer's logit over the mean logit.

    Means over pictures, in logits. `direct` by (layer head), `direct_mlp` by layer, `direct_part`
    of the embedding, the positions, CLS and registers, the biases: they sum to the whole.
    `direct_patch` (key) is what all heads add from each token that they read (spatial
    decomposition, Gandelsman 2024).
    """
    assert batch.classes is not None
    answers = answer_directions(model, batch.classes)
    layers = range(model.config.n_layers)
    parts = {
        name: added[:, 0, 0].mean(0)
        for name, added in attribute_others(model, trace, answers).items()
    }
    by_source = torch.stack(
        [attribute_sources(model, trace, layer, answers)[:, :, 0, :, 0].mean(0) for layer in layers]
    )

    measures: Measures = {"direct": by_source.sum(2), "direct_patch": by_source.sum((0, 1))}
    if model.config.d_mlp:
        measures["direct_mlp"] = torch.stack([parts.pop(f"m{layer}") for layer in layers])
    return measures | {Tagged("direct_part", part=name): value for name, value in parts.items()}


ATTRIBUTION = Analysis(
    name="attribution",
    computes="what each head, MLP and token adds to the right logit",
    measure=measure_attribution,
    quantities={
        "direct": Quantity("layer head", unit="logits"),
        "direct_patch": Quantity("key", unit="logits"),
        "direct_mlp": Quantity("layer", unit="logits", only_with=MLP),
        "direct_part": Quantity(unit="logits"),
    },
    sites=SITES,
    needs=(CLASSES,),
    cost=7,
    source="Elhage 2021; Gandelsman 2024 (spatial)",
    truth="the parts sum to the logits",
    null="what the parts add at step 0, before training",
)


def list_regions(model: ViT) -> dict[str, Bool[Tensor, "one token"]]:
    """The groups of tokens that may be cut off from each other.

    CLS and the registers, where there are any; the last patch, where it is read; the other patches.
    """
    config = model.config
    regions = {}
    if config.cls_token:
        regions["cls"] = select_tokens(model, "cls")
    if config.n_registers:
        regions["registers"] = select_tokens(model, "registers")

    patches = select_tokens(model, "patches")
    if config.readout == "last":
        regions["last"] = select_tokens(model, "last")
        patches = patches & ~regions["last"]
    return regions | {"patches": patches}


def list_cuts(model: ViT, batch: Batch) -> dict[tuple[str, str], Bool[Tensor, "_ token token"]]:
    """The connections that are cut, by the names of the queries' group and the keys'."""
    regions = list_regions(model)
    cuts = {}
    for queries, asking in regions.items():
        for keys, answering in regions.items():
            if queries != keys or queries == "patches":
                cuts[queries, keys] = connect_tokens(asking, answering)

    if batch.objects is not None:
        for keys, edges in connect_objects(batch.objects, model.config.n_prefix).items():
            cuts["object", keys] = edges
    return cuts


@pin_torch()
def measure_attention_knockout(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `attention_knockout`: by how many nats the loss rises without some attention.

    One group of tokens cannot attend to another, in one layer (layer). Groups are CLS, the
    registers, the last token where it is read, and the other patches (Geva 2023); on a canvas also
    the patches of objects, which may read the same object, other objects, or the background. The
    last layer of a group that is not read out: exactly 0.
    """
    whole = loss(trace["logits"], batch.target)
    measures: Measures = {}
    for (queries, keys), edges in list_cuts(model, batch).items():
        rises = []
        for layer in range(model.config.n_layers):
            logits = run_attention_knockout(model, trace, edges, [layer])
            rises.append(loss(logits, batch.target) - whole)

        key = Tagged("loss_rise", key_group=keys, query_group=queries)
        measures[key] = torch.stack(rises)
    return measures


ATTENTION_KNOCKOUT = Analysis(
    name="attention_knockout",
    computes="rise of the loss when one group of tokens cannot read another",
    measure=measure_attention_knockout,
    quantities={"loss_rise": Quantity("layer", unit="nats")},
    sites=("logits", "blocks.*.resid_pre"),
    needs=(LABELS,),
    slow=True,
    cost=80,
    source="attention knock-out, Geva 2023",
    truth="all edges into CLS blocked: a constant answer",
    null="0: the loss does not rise when tokens are blocked that nobody reads",
    version=2,
)


@pin_torch()
def measure_patching(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `patching`: the share of the logit difference that one value carries.

    Heads (layer head token) and the stream (layer token) are patched, see `patch_activations`: 0,
    the value does nothing; 1, it alone does all that the pictures do. 64 pairs a counterfactual.
    NaN where the clean and the corrupt pictures have the same logit difference.
    """
    measures: Measures = {}
    for change in batch.changeable:
        pairs = counterfactual_pairs(batch, change, N_PAIRS)
        for direction in ("denoise", "noise"):
            for quantity, site in (("patched_head", "attn.z"), ("patched_stream", "resid_pre")):
                key = Tagged(quantity, change=change, direction=direction)
                measures[key] = patch_activations(model, pairs, site, direction=direction)
    return measures


PATCHING = Analysis(
    name="patching",
    computes="how much of the answer one value at one token carries",
    measure=measure_patching,
    quantities={
        "patched_head": Quantity("layer head token", may_be_nan=True),
        "patched_stream": Quantity("layer token", may_be_nan=True),
    },
    needs=(COUNTERFACTUALS,),
    slow=True,
    cost=300,
    source="Meng 2022; Heimersheim & Nanda 2024",
    truth="all that is read patched: 1",
    null="0, as at tokens that nobody reads",
)


def compute_logit_difference(
    model: ViT, images: Tensor, pairs: PatchingPairs
) -> Float[Tensor, " pair"]:
    """The logit of the answer less that of the foil, pair by pair."""
    logits = run_model(model, images)
    return METRICS["logit_difference"](logits, pairs, logits)


@pin_torch()
def measure_edges(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `edges`: EAP-IG with 5 points on the first 64 pairs of each counterfactual.

    The points begin at the clean pictures and end before the corrupt ones, see `eap`. In logits.
    `edge_score` is about what the logit difference changes by when the edge alone carries the
    corrupt pictures; `clean` and `corrupt` are the differences themselves, so that a score can be
    read as a share of what there is to explain. `edge_error` and `effect_error` are the standard
    errors, over the pairs, of the scores and of clean minus corrupt; `pairs` is their number.
    """
    graph = build_graph(model.config)
    places = graph.allowed.nonzero().tolist()
    measures: Measures = {}
    for change in batch.changeable:
        pairs = counterfactual_pairs(batch, change, N_PAIRS)
        scores, errors = eap_with_errors(model, pairs, points=5)
        for place, edge in zip(places, graph.edges, strict=True):
            measures[Tagged("edge_score", change=change, edge=edge)] = scores[tuple(place)]
        for place, edge in zip(places, graph.edges, strict=True):
            measures[Tagged("edge_error", change=change, edge=edge)] = errors[tuple(place)]

        clean = compute_logit_difference(model, pairs.clean, pairs)
        corrupt = compute_logit_difference(model, pairs.corrupt, pairs)
        n_pairs = len(pairs.clean)
        measures[Tagged("clean", change=change)] = clean.mean()
        measures[Tagged("corrupt", change=change)] = corrupt.mean()
        measures[Tagged("effect_error", change=change)] = (clean - corrupt).std() / n_pairs**0.5
        measures[Tagged("pairs", change=change)] = torch.tensor(n_pairs)
    return measures


EDGES = Analysis(
    name="edges",
    computes="how much of the answer each edge carries (EAP-IG)",
    measure=measure_edges,
    quantities={
        "edge_score": Quantity(unit="logits"),
        "clean": Quantity(unit="logits"),
        "corrupt": Quantity(unit="logits"),
        "edge_error": Quantity(unit="logits", may_be_nan=True),
        "effect_error": Quantity(unit="logits", may_be_nan=True),
        "pairs": Quantity(unit="pairs"),
    },
    needs=(COUNTERFACTUALS,),
    slow=True,
    cost=200,
    source="EAP-IG, Hanna 2024",
    truth="a linear model: exact",
    null="0, as on an edge whose sender writes the same for both pictures of a pair",
    version=2,
)
