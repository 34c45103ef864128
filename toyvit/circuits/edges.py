"""Selecting edges: scores by gradients (EAP, EAP-IG), and pruning edge by edge (ACDC).

Sign and starting point, in which libraries differ: a score is about what the metric, averaged over
images, would change by if the edge alone carried what its sender writes on the corrupt pictures;
gradients are taken at the clean pictures (EAP) or averaged over pictures on the way to the corrupt
ones (EAP-IG).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from toyvit.circuits.circuit_pass import CircuitPass, start_pass
from toyvit.circuits.gradients import (
    contract,
    differentiate_reads,
    form_outputs,
    record_pass,
)
from toyvit.circuits.graph import (
    EdgeMask,
    NodeCache,
    build_graph,
    cache_nodes,
)
from toyvit.circuits.pairs import METRICS, PatchingPairs
from toyvit.errors import BadInput, choose
from toyvit.model import ViT
from toyvit.stats import kl_divergence
from toyvit.surroundings import leave_inference, pin_torch

Scores = Float[Tensor, "receiver sender"]
ABLATIONS = ("zero", "mean", "corrupt")
# Which n points of the way from clean to corrupt: k / n with k from 0, from 1 or from 1/2 on.
ENDS = {"clean": 0.0, "corrupt": 1.0, "middle": 0.5}


@pin_torch()
def eap(
    model: ViT,
    pairs: PatchingPairs,
    metric: str = "logit_difference",
    points: int = 1,
    end: str = "clean",
) -> Scores:
    """Edge attribution patching: (corrupt - clean)[sender] . d(metric)/d(what the receiver reads).

    A mean over images, in units of the metric; 0 for an edge whose sender writes the same on both,
    and where there is no edge. One point: the gradient at the clean pictures (EAP; Syed 2023, arXiv
    2310.10348). More: the mean of the gradients at clean + k / points (corrupt - clean) (EAP-IG on
    inputs; Hanna 2024, arXiv 2403.17806); 5 is usual. `end` says which end of that way is a point:
    `clean`, k = 0 to points - 1; `corrupt`, k = 1 to points, as the authors' code has it
    (hannamw/EAP-IG, `get_scores_eap_ig`); `middle`, neither: k = 1/2 to points - 1/2, the closest
    to the integral for smooth gradients. Exact on a linear model, whatever the end. The scores of
    all edges out of `input` sum to the whole change as points grow; those of all nodes over-count.
    BadInput for an unknown metric or end, for less than 1 point, and for `kl` at the clean pictures
    alone: its gradient there is 0, and edges would be ranked by rounding.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> images = torch.randn(2, 6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> pairs = PatchingPairs(images[0], images[1], torch.zeros(6).long(), torch.ones(6).long())
    >>> eap(ViT(config), pairs, points=5).shape
    torch.Size([7, 3])
    """
    scores, _ = _sum_scores(model, pairs, metric, points, end)
    return scores


@pin_torch()
def eap_with_errors(
    model: ViT,
    pairs: PatchingPairs,
    metric: str = "logit_difference",
    points: int = 1,
    end: str = "clean",
) -> tuple[Scores, Scores]:
    """The scores of `eap`, and the standard error of each over pairs, in units of the metric.

    NaN for one pair, which has none; 0 where there is no edge.

    >>> from toyvit.config import ModelConfig
    >>> config = ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3)
    >>> images = torch.randn(2, 6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> pairs = PatchingPairs(images[0], images[1], torch.zeros(6).long(), torch.ones(6).long())
    >>> scores, errors = eap_with_errors(ViT(config), pairs)
    >>> torch.equal(scores, eap(ViT(config), pairs)), errors.shape
    (True, torch.Size([7, 3]))
    """
    scores, by_pair = _sum_scores(model, pairs, metric, points, end)
    return scores, by_pair.std(0) / len(by_pair) ** 0.5


def _sum_scores(
    model: ViT, pairs: PatchingPairs, metric: str, points: int, end: str
) -> tuple[Scores, Float[Tensor, "pair receiver sender"]]:
    """The scores, and those of each pair alone."""
    choose(metric, METRICS, "metric")
    if points < 1:
        raise BadInput(f"gradients are taken at 1 point or more, got {points}")
    choose(end, ENDS, "end")
    if metric == "kl" and points == 1 and end == "clean":
        raise BadInput(
            "eap cannot rank by kl, whose gradient is 0 at the clean pictures: eap-ig can"
        )

    pairs = leave_inference(pairs)
    clean = record_pass(model, pairs.clean)
    with torch.no_grad():
        corrupt = record_pass(model, pairs.corrupt)
        change = form_outputs(model, {site: corrupt[site] - clean[site] for site in clean})
    reference = clean["logits"].detach()

    graph = build_graph(model.config)
    scores = torch.zeros(len(graph.receivers), len(graph.senders))
    by_pair = torch.zeros(len(pairs.clean), *scores.shape)
    for point in range(points):
        share = (point + ENDS[end]) / points
        images = pairs.clean + share * (pairs.corrupt - pairs.clean)
        here = record_pass(model, images) if share else clean
        total = METRICS[metric](here["logits"], pairs, reference).sum()
        for receivers, gradient in differentiate_reads(model, here, total):
            n = graph.before[receivers.start]
            products = contract(gradient, change[:n])
            scores[receivers, :n] += products.sum(0)
            by_pair[:, receivers, :n] += products
    return scores / (points * len(pairs.clean)), by_pair / points


@pin_torch()
def select_strongest(model: ViT, scores: Scores, n: int) -> EdgeMask:
    """The n edges of largest absolute score, less those that are not connected.

    >>> from toyvit.config import ModelConfig
    >>> model = ViT(ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3))
    >>> scores = build_graph(model.config).mask_edges(["input->logits", "a0.h0->a1.h0<q>"])
    >>> build_graph(model.config).name_edges(select_strongest(model, scores, 2))
    ('input->logits',)
    """
    allowed = build_graph(model.config).allowed
    sizes = scores.abs().masked_fill(~allowed, -1)
    edge_mask = torch.zeros_like(scores).flatten()
    edge_mask[sizes.flatten().argsort(descending=True, stable=True)[: max(0, n)]] = 1
    return keep_connected(model, edge_mask.view(scores.shape) * allowed)


@pin_torch()
def keep_connected(model: ViT, edge_mask: EdgeMask) -> EdgeMask:
    """The edges on some path from `input` to `logits`.

    What reaches any receiver of a node reaches the node.

    >>> from toyvit.config import ModelConfig
    >>> model = ViT(ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3))
    >>> edge_mask = build_graph(model.config).mask_edges(["a0.h0->logits"])
    >>> keep_connected(model, edge_mask).sum()
    tensor(0.)
    """
    graph = build_graph(model.config)
    owners = [name.split("<")[0] for name in graph.receivers]
    edges = edge_mask.nonzero().tolist()  # receivers come in the order of the forward pass

    reached = {"input"}
    for receiver, sender in edges:
        if graph.senders[sender] in reached:
            reached.add(owners[receiver])

    used = {"logits"}
    for receiver, sender in reversed(edges):
        if owners[receiver] in used:
            used.add(graph.senders[sender])

    connected = torch.zeros_like(edge_mask)
    for receiver, sender in edges:
        if graph.senders[sender] in reached and owners[receiver] in used:
            connected[receiver, sender] = 1
    return connected


@pin_torch()
def acdc(model: ViT, pairs: PatchingPairs, threshold: float, ablation: str = "corrupt") -> EdgeMask:
    """Automatic circuit discovery: 1 at the edges that are needed, 0 elsewhere.

    Receivers from the logits down, senders from the latest up: an edge is cut for good if that
    raises KL(model, circuit), in nats over the clean pictures, by less than the threshold (signed:
    an edge whose cut lowers it goes). A cut edge carries the ablation, see
    `compute_ablated_outputs`. Edges on no path from input to logits are dropped at the end, which
    changes nothing where cut edges carry `corrupt`, and something where they carry a constant.
    BadInput for a threshold below 0. Source: Conmy 2023, arXiv 2304.14997, algorithm 1.

    >>> from toyvit.config import ModelConfig
    >>> model = ViT(ModelConfig(image_size=(8, 8), patch_size=4, n_channels=1, n_classes=3))
    >>> images = torch.randn(2, 6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    >>> pairs = PatchingPairs(images[0], images[1], torch.zeros(6).long(), torch.ones(6).long())
    >>> acdc(model, pairs, threshold=1e6).sum()
    tensor(0.)
    """
    if not threshold >= 0:
        raise BadInput(f"the threshold must be at least 0 nats, got {threshold:g}")

    graph = build_graph(model.config)
    cache = cache_nodes(model, pairs.clean)
    ablated_outputs = compute_ablated_outputs(model, pairs, ablation, cache)
    circuit = start_pass(model, pairs.clean, ablated_outputs)
    reference = circuit.logits.log_softmax(1)

    def measure(circuit: CircuitPass) -> float:
        return kl_divergence(circuit.logits.log_softmax(1), reference).mean().item()

    distance = measure(circuit)
    for receiver in reversed(range(len(graph.receivers))):
        for sender in reversed(range(graph.before[receiver])):
            trial = circuit.cut(receiver, sender)
            without = measure(trial)
            if without - distance < threshold:
                circuit = trial
                distance = without
    return keep_connected(model, circuit.edge_mask)


@pin_torch()
def compute_ablated_outputs(
    model: ViT, pairs: PatchingPairs, ablation: str, clean: NodeCache
) -> Float[Tensor, "sender _ _ model"]:
    """What cut edges carry, to be broadcast over images and tokens.

    `zero`: nothing; `mean`: the sender's mean over the clean pictures, token by token; `corrupt`:
    what it writes on the corrupt ones. BadInput for any other.
    """
    choose(ablation, ABLATIONS, "ablation")
    if ablation == "zero":
        return torch.zeros(len(clean.outputs), 1, 1, model.config.d_model)
    if ablation == "mean":
        return clean.outputs.mean(1, keepdim=True)
    return cache_nodes(model, pairs.corrupt).outputs
