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

from toyvit.circuits.contrasts import METRICS, Contrast
from toyvit.circuits.forward import resume, run
from toyvit.circuits.graph import Heard, Kept, Sent, graph, hear, listening, rewired
from toyvit.errors import BadInput, choose
from toyvit.model import ViT

Scores = Float[Tensor, "receiver sender"]


def eap(model: ViT, pairs: Contrast, metric: str = "logit_difference", points: int = 1) -> Scores:
    """Edge attribution patching: (corrupt - clean)[sender] . d(metric)/d(what the receiver reads), a mean over images.

    One point: the gradient at the clean pictures (EAP; Syed 2023, arXiv 2310.10348). More: the mean of the gradients at clean +
    k / points (corrupt - clean), k = 0 to points - 1 (EAP-IG on inputs; Hanna 2024, arXiv 2403.17806); 5 is usual.
    In units of the metric; 0 for an edge whose sender writes the same on both, and where there is no edge. Exact on a
    linear model. The scores of all edges out of `input` sum to the whole change as points grow; those of all nodes over-count.
    """
    judge = METRICS[choose(metric, METRICS, "metric")]
    if points < 1:
        raise BadInput(f"gradients are taken at 1 point or more, got {points}")
    reference = run(model, pairs.clean)
    clean, corrupt = hear(model, pairs.clean).sent, hear(model, pairs.corrupt).sent
    scores = torch.zeros(len(graph(model.config).receivers), len(clean))
    for point in range(points):
        images = pairs.clean + point / points * (pairs.corrupt - pairs.clean)
        for receivers, gradient in _gradients(model, images, lambda logits: judge(logits, pairs, reference).sum()):
            n = graph(model.config).before[receivers.start]
            scores[receivers, :n] += torch.einsum("sitm,ritm->rs", (corrupt - clean)[:n], gradient)
    return scores / (points * len(pairs.clean))


def _gradients(model: ViT, images: Tensor, score: Callable[[Tensor], Tensor]) -> Iterator[tuple[slice, Tensor]]:
    """Gradients of a score of the logits to what each slice of receivers reads (receiver image token model)."""
    nudges: list[tuple[slice, Tensor]] = []

    def change(receivers: slice, heard: Sent) -> Tensor:
        zero = torch.zeros(receivers.stop - receivers.start, *heard.shape[1:], requires_grad=True)
        nudges.append((receivers, zero))
        return zero

    value = score(model(images, listening(model, change)))
    gradients = torch.autograd.grad(value, [zero for _, zero in nudges], allow_unused=True)
    for (receivers, _), gradient in zip(nudges, gradients, strict=True):
        if gradient is not None:
            yield receivers, gradient


def strongest(model: ViT, scores: Scores, n: int) -> Kept:
    """The n edges of largest absolute score, less those through which nothing can flow from `input` to `logits`."""
    size = scores.abs().masked_fill(~graph(model.config).allowed, -1)
    kept = torch.zeros_like(scores).flatten()
    kept[size.flatten().argsort(descending=True, stable=True)[: max(0, n)]] = 1
    return connected(model, kept.view(scores.shape) * graph(model.config).allowed)


def connected(model: ViT, kept: Kept) -> Kept:
    """The kept edges on some path from `input` to `logits`; a node hears through any of its receivers."""
    wires = graph(model.config)
    owners = [name.split("<")[0] for name in wires.receivers]
    hears, heard = {"input"}, {"logits"}
    edges = kept.nonzero().tolist()  # receivers come in the order of the forward pass
    for receiver, sender in edges:
        if wires.senders[sender] in hears:
            hears.add(owners[receiver])
    for receiver, sender in reversed(edges):
        if owners[receiver] in heard:
            heard.add(wires.senders[sender])
    whole = torch.zeros_like(kept)
    for receiver, sender in edges:
        if wires.senders[sender] in hears and owners[receiver] in heard:
            whole[receiver, sender] = 1
    return whole


def acdc(model: ViT, pairs: Contrast, threshold: float, base: str = "corrupt") -> Kept:
    """Automatic circuit discovery (Conmy 2023, arXiv 2304.14997, algorithm 1): 1 at the edges that are needed.

    Receivers from the logits down, senders from the latest up: an edge is cut for good if that raises KL(model, circuit), nats
    over the clean pictures, by less than the threshold (signed: an edge whose cut lowers it goes). A cut edge carries `base`,
    see `stand_in`. Edges that no path from input to logits uses any more are dropped.
    """
    if not threshold >= 0:
        raise BadInput(f"the threshold must be at least 0 nats, got {threshold:g}")
    wires, heard = graph(model.config), hear(model, pairs.clean)
    instead = stand_in(model, pairs, base, heard)
    reference = resume(model, heard.streams[-1], model.config.n_layers).log_softmax(1)

    def distance(kept: Kept) -> float:
        logits = rewired(model, heard, kept, instead)
        return F.kl_div(logits.log_softmax(1), reference, log_target=True, reduction="batchmean").item()

    kept = wires.allowed.float()
    now = distance(kept)
    for receiver in reversed(range(len(wires.receivers))):
        for sender in reversed(range(wires.before[receiver])):
            kept[receiver, sender] = 0
            without = distance(kept)
            if without - now < threshold:
                now = without
            else:
                kept[receiver, sender] = 1
    return connected(model, kept)


def stand_in(model: ViT, pairs: Contrast, base: str, clean: Heard) -> Float[Tensor, "sender _ _ model"]:
    """What cut edges carry: nothing, the sender's mean over the clean pictures, or what it writes on the corrupt ones."""
    choose(base, BASES, "ablation")
    if base == "zero":
        return torch.zeros(len(clean.sent), 1, 1, model.config.d_model)
    return clean.sent.mean(1, keepdim=True) if base == "mean" else hear(model, pairs.corrupt).sent


BASES = ("zero", "mean", "corrupt")
