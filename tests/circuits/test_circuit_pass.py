"""A pass that goes on from another one: the whole pass with those edges cut, and no more work."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle, product

import pytest
import torch

from tests.laws.models import BASE, CASES, PATCH_READOUTS, build, mark_slow, noise, pictures
from toyvit.circuits.circuit_pass import start_pass
from toyvit.circuits.edges import ABLATIONS, acdc, compute_ablated_outputs, eap, keep_connected
from toyvit.circuits.graph import build_graph, cache_nodes, edge_tap
from toyvit.circuits.pairs import PatchingPairs
from toyvit.clamps.patterns import apply_clamps
from toyvit.model.forward import run_model
from toyvit.stats import kl_divergence

DEEP = replace(BASE, n_layers=3)
ONE_ANSWER = {
    name: config for name, config in CASES.items() if config.readout not in PATCH_READOUTS
}
THRESHOLD = 1e-5  # nats


def pairs_for(config, n=6):
    images = pictures(config, n)
    answer = torch.arange(n) % config.n_classes
    return PatchingPairs(images, noise(images), answer, (answer + 1) % config.n_classes)


def draw_mask(config, seed):
    """Edges kept whole, cut or in part, a third each."""
    allowed = build_graph(config).allowed
    shares = torch.rand(allowed.shape, generator=torch.Generator().manual_seed(seed))
    return allowed * (1.5 * shares - 0.25).clamp(0, 1)


@pytest.mark.parametrize("case", mark_slow(CASES))
def test_going_on_from_another_mask_is_the_whole_forward_pass(case):
    config = CASES[case]
    model, images = build(config), pictures(config, 3)
    ablated_outputs = cache_nodes(model, noise(images)).outputs
    circuit = start_pass(model, images, ablated_outputs)
    assert torch.equal(circuit.logits, run_model(model, images))
    for seed in range(3):
        edge_mask = draw_mask(config, seed)
        circuit = circuit.change_edges(edge_mask)
        whole = run_model(model, images, edge_tap(model, edge_mask, ablated_outputs))
        assert torch.allclose(circuit.logits, whole, atol=1e-5), seed


@pytest.mark.parametrize(
    "clamps", [["1.1:previous"], ["0.0:frozen", "1.0:uniform", "1.1:identity"]]
)
def test_clamps_hold_in_circuits_too(clamps):
    """Also where they leave a layer's queries and keys without use: their scores are 0."""
    model, pairs = apply_clamps(build(BASE), clamps, 0, None), pairs_for(BASE)
    graph = build_graph(BASE)
    other = cache_nodes(model, pairs.corrupt).outputs
    circuit = start_pass(model, pairs.clean, other)
    edge_mask = draw_mask(BASE, 0)
    whole = run_model(model, pairs.clean, edge_tap(model, edge_mask, other))
    assert torch.allclose(circuit.change_edges(edge_mask).logits, whole, atol=1e-5)

    scores = eap(model, pairs)
    assert scores[graph.receivers.index("a1.h1<q>")].abs().max() == 0
    assert scores[graph.receivers.index("a1.h1<v>")].abs().max() > 0


def list_reached(graph, edge_mask, receiver):
    """Receivers that read something else when what one of them reads changes."""
    reached = {receiver}
    moved = set()
    for place, name in enumerate(graph.receivers):
        if edge_mask[place, list(moved)].any():
            reached.add(place)
        if place in reached and name != "logits":
            moved.add(graph.senders.index(name.split("<")[0]))
    return reached


@pytest.mark.parametrize("seed", range(4))
def test_a_cut_recomputes_what_it_reaches_and_nothing_else(seed):
    graph = build_graph(DEEP)
    model, images = build(DEEP), pictures(DEEP, 3)
    circuit = start_pass(model, images, torch.zeros(len(graph.senders), 1, 1, DEEP.d_model))
    circuit = circuit.change_edges((draw_mask(DEEP, seed) > 0.8).float())
    for receiver, sender in circuit.edge_mask.nonzero().tolist():
        trial = circuit.cut(receiver, sender)
        pairs = enumerate(zip(circuit.reads, trial.reads, strict=True))
        changed = {place for place, (old, new) in pairs if new is not old}
        assert changed == list_reached(graph, circuit.edge_mask, receiver)


def prune_plainly(model, pairs, threshold, ablation):
    """Algorithm 1 with every trial a whole forward pass."""
    graph = build_graph(model.config)
    cache = cache_nodes(model, pairs.clean)
    ablated_outputs = compute_ablated_outputs(model, pairs, ablation, cache)
    reference = run_model(model, pairs.clean).log_softmax(1)
    edge_mask = graph.allowed.float()
    distance = 0.0
    for receiver in reversed(range(len(graph.receivers))):
        for sender in reversed(range(graph.before[receiver])):
            edge_mask[receiver, sender] = 0
            tap = edge_tap(model, edge_mask, ablated_outputs)
            logits = run_model(model, pairs.clean, tap).log_softmax(1)
            without = kl_divergence(logits, reference).mean().item()
            if without - distance < threshold:
                distance = without
            else:
                edge_mask[receiver, sender] = 1
    return keep_connected(model, edge_mask)


# Some models with every ablation, the others with one in turn.
CORE = ("bare", "readout=mean", "registers")
OTHERS = zip([case for case in ONE_ANSWER if case not in CORE], cycle(ABLATIONS), strict=False)
PRUNED = [
    *product(CORE, ABLATIONS),
    *(pytest.param(*pair, marks=pytest.mark.slow) for pair in OTHERS),
]


@pytest.mark.parametrize(("case", "ablation"), PRUNED)
def test_pruning_leaves_the_edges_that_whole_passes_leave(case, ablation):
    config = ONE_ANSWER[case]
    model, pairs = build(config), pairs_for(config)
    edge_mask = acdc(model, pairs, THRESHOLD, ablation)
    assert torch.equal(edge_mask, prune_plainly(model, pairs, THRESHOLD, ablation))
    assert 0 < edge_mask.sum() < build_graph(config).allowed.sum()
