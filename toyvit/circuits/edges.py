"""Finding a circuit: scores of edges by gradients (EAP, EAP-IG), and pruning edge by edge (ACDC).

Sign and base point, which libraries differ in: a score is about what the metric, averaged over images, would change by if the
edge alone carried what its sender writes on the corrupt pictures; gradients are taken at the clean pictures (EAP) or averaged
over pictures on the way to the corrupt ones (EAP-IG).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from toyvit.circuits.graph import (
    EdgeMask,
    EdgeTap,
    NodeCache,
    Outputs,
    build_graph,
    cache_nodes,
    run_edges,
)
from toyvit.circuits.pairs import METRICS, PatchingPairs
from toyvit.errors import BadInput, choose
from toyvit.model import ViT
from toyvit.model.forward import run_from, run_model

Scores = Float[Tensor, "receiver sender"]


def eap(
    model: ViT, pairs: PatchingPairs, metric: str = "logit_difference", points: int = 1
) -> Scores:
    """Edge attribution patching: (corrupt - clean)[sender] . d(metric)/d(what the receiver reads), a mean over images.

    One point: the gradient at the clean pictures (EAP; Syed 2023, arXiv 2310.10348). More: the mean of the gradients at clean +
    k / points (corrupt - clean), k = 0 to points - 1 (EAP-IG on inputs; Hanna 2024, arXiv 2403.17806); 5 is usual.
    In units of the metric; 0 for an edge whose sender writes the same on both, and where there is no edge. Exact on a
    linear model. The scores of all edges out of `input` sum to the whole change as points grow; those of all nodes over-count.
    """
    compute_metric = METRICS[choose(metric, METRICS, "metric")]
    if points < 1:
        raise BadInput(f"gradients are taken at 1 point or more, got {points}")
    reference = run_model(model, pairs.clean)
    clean, corrupt = (
        cache_nodes(model, pairs.clean).outputs,
        cache_nodes(model, pairs.corrupt).outputs,
    )
    scores = torch.zeros(len(build_graph(model.config).receivers), len(clean))
    for point in range(points):
        images = pairs.clean + point / points * (pairs.corrupt - pairs.clean)
        for receivers, gradient in _gradients(
            model, images, lambda logits: compute_metric(logits, pairs, reference).sum()
        ):
            n = build_graph(model.config).before[receivers.start]
            scores[receivers, :n] += torch.einsum("sitm,ritm->rs", (corrupt - clean)[:n], gradient)
    return scores / (points * len(pairs.clean))


def _gradients(
    model: ViT, images: Tensor, score: Callable[[Tensor], Tensor]
) -> Iterator[tuple[slice, Tensor]]:
    """Gradients of a score of the logits to what each slice of receivers reads (receiver image token model)."""
    nudges: list[tuple[slice, Tensor]] = []

    def change(receivers: slice, cache: Outputs) -> Tensor:
        zero = torch.zeros(receivers.stop - receivers.start, *cache.shape[1:], requires_grad=True)
        nudges.append((receivers, zero))
        return zero

    value = score(model(images, EdgeTap(model, change)))
    gradients = torch.autograd.grad(value, [zero for _, zero in nudges], allow_unused=True)
    for (receivers, _), gradient in zip(nudges, gradients, strict=True):
        if gradient is not None:
            yield receivers, gradient


def select_strongest(model: ViT, scores: Scores, n: int) -> EdgeMask:
    """The n edges of largest absolute score, less those through which nothing can flow from `input` to `logits`."""
    size = scores.abs().masked_fill(~build_graph(model.config).allowed, -1)
    edge_mask = torch.zeros_like(scores).flatten()
    edge_mask[size.flatten().argsort(descending=True, stable=True)[: max(0, n)]] = 1
    return keep_connected(model, edge_mask.view(scores.shape) * build_graph(model.config).allowed)


def keep_connected(model: ViT, edge_mask: EdgeMask) -> EdgeMask:
    """The kept edges on some path from `input` to `logits`; a node hears through any of its receivers."""
    wires = build_graph(model.config)
    owners = [name.split("<")[0] for name in wires.receivers]
    hears, cache = {"input"}, {"logits"}
    edges = edge_mask.nonzero().tolist()  # receivers come in the order of the forward pass
    for receiver, sender in edges:
        if wires.senders[sender] in hears:
            hears.add(owners[receiver])
    for receiver, sender in reversed(edges):
        if owners[receiver] in cache:
            cache.add(wires.senders[sender])
    whole = torch.zeros_like(edge_mask)
    for receiver, sender in edges:
        if wires.senders[sender] in hears and owners[receiver] in cache:
            whole[receiver, sender] = 1
    return whole


def acdc(model: ViT, pairs: PatchingPairs, threshold: float, ablation: str = "corrupt") -> EdgeMask:
    """Automatic circuit discovery (Conmy 2023, arXiv 2304.14997, algorithm 1): 1 at the edges that are needed.

    Receivers from the logits down, senders from the latest up: an edge is cut for good if that raises KL(model, circuit), nats
    over the clean pictures, by less than the threshold (signed: an edge whose cut lowers it goes). A cut edge carries `base`,
    see `compute_ablated_outputs`. Edges that no path from input to logits uses any more are dropped.
    """
    if not threshold >= 0:
        raise BadInput(f"the threshold must be at least 0 nats, got {threshold:g}")
    wires, cache = build_graph(model.config), cache_nodes(model, pairs.clean)
    ablated_outputs = compute_ablated_outputs(model, pairs, ablation, cache)
    reference = run_from(model, cache.streams[-1], model.config.n_layers).log_softmax(1)

    def distance(edge_mask: EdgeMask) -> float:
        logits = run_edges(model, cache, edge_mask, ablated_outputs)
        return F.kl_div(
            logits.log_softmax(1), reference, log_target=True, reduction="batchmean"
        ).item()

    edge_mask = wires.allowed.float()
    now = distance(edge_mask)
    for receiver in reversed(range(len(wires.receivers))):
        for sender in reversed(range(wires.before[receiver])):
            edge_mask[receiver, sender] = 0
            without = distance(edge_mask)
            if without - now < threshold:
                now = without
            else:
                edge_mask[receiver, sender] = 1
    return keep_connected(model, edge_mask)


def compute_ablated_outputs(
    model: ViT, pairs: PatchingPairs, ablation: str, clean: NodeCache
) -> Float[Tensor, "sender _ _ model"]:
    """What cut edges carry: nothing, the sender's mean over the clean pictures, or what it writes on the corrupt ones."""
    choose(ablation, ABLATIONS, "ablation")
    if ablation == "zero":
        return torch.zeros(len(clean.outputs), 1, 1, model.config.d_model)
    return (
        clean.outputs.mean(1, keepdim=True)
        if ablation == "mean"
        else cache_nodes(model, pairs.corrupt).outputs
    )


ABLATIONS = ("zero", "mean", "corrupt")
