"""Heads are matched by behaviour: a permuted copy exactly, random circuits at chance."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
import torch

from tests.laws.models import BASE, build, noise, pictures
from toyvit.circuits.edges import eap, select_strongest
from toyvit.circuits.evaluate import draw_random_circuits
from toyvit.circuits.graph import build_graph
from toyvit.circuits.matching import (
    HeadMatching,
    compare_circuits,
    compare_heads,
    match_heads,
    observe_heads,
    overlap_edges,
)
from toyvit.circuits.pairs import PatchingPairs
from toyvit.errors import BadInput
from toyvit.model import ViT

FOUR = replace(BASE, n_heads=4)
ORDERS = ((2, 0, 3, 1), (1, 3, 2, 0))  # head h of layer l of the copy is head ORDERS[l][h]


def permute_heads(model, orders=ORDERS):
    """The same function with the heads of each layer in another order."""
    copy = ViT(model.config)
    copy.load_state_dict(model.state_dict())
    width = model.config.d_head
    for block, order in zip(copy.layers, orders, strict=True):
        rows = torch.cat([torch.arange(width) + head * width for head in order])
        packed = torch.cat([rows + part * len(rows) for part in range(3)])
        with torch.no_grad():
            block.attn.qkv.weight.copy_(block.attn.qkv.weight[packed])
            block.attn.out.weight.copy_(block.attn.out.weight[:, rows])
            if block.attn.qkv.bias is not None:
                block.attn.qkv.bias.copy_(block.attn.qkv.bias[packed])
    return copy


def pairs_for(images):
    answer = torch.arange(len(images)) % FOUR.n_classes
    return PatchingPairs(images, noise(images), answer, (answer + 1) % FOUR.n_classes)


@pytest.mark.parametrize("changes", [{}, {"readout": "last", "cls_token": False, "d_mlp": 0}])
def test_a_copy_with_its_heads_permuted_is_matched_exactly_and_has_the_same_circuit(changes):
    """Truth: every head is matched to itself, and the circuits that EAP selects agree wholly."""
    model = build(replace(FOUR, **changes))
    copy = permute_heads(model)
    images = pictures(FOUR, 8)
    assert torch.allclose(model(images), copy(images), atol=1e-5)

    matching = match_heads(model, copy, images)
    for layer, order in enumerate(ORDERS):
        for head, original in enumerate(order):
            assert matching.names[f"a{layer}.h{head}"] == f"a{layer}.h{original}"
    assert torch.allclose(matching.likeness, torch.ones(2, 4), atol=1e-4)

    pairs = pairs_for(images)
    graph = build_graph(model.config)
    models = (model, copy)
    circuits = tuple(
        graph.name_edges(select_strongest(each, eap(each, pairs), 12)) for each in models
    )
    agreement = compare_circuits(models, circuits, images, n_null=5)
    assert agreement.matched == 1
    assert agreement.unmatched < 0.6 and agreement.null.max() < 0.8


def test_heads_that_do_the_same_are_alike_and_others_less():
    images = pictures(FOUR, 8)
    first = observe_heads(build(FOUR), images)
    second = observe_heads(build(FOUR, seed=7), images)
    own = compare_heads(first, first)
    assert torch.allclose(own.diagonal(dim1=1, dim2=2), torch.ones(2, 4), atol=1e-5)
    other = compare_heads(first, second)
    assert torch.allclose(other, compare_heads(second, first).transpose(1, 2), atol=1e-6)
    assert other.max() < 0.99

    silent = replace(first, effects=torch.zeros_like(first.effects))
    assert torch.allclose(
        compare_heads(silent, silent).diagonal(dim1=1, dim2=2), torch.ones(2, 4), atol=1e-5
    )


def match_by_edges(first, second):
    """What must not be done: the heads' order that makes two circuits most alike."""
    best = 0.0
    for above in permutations(range(4)):
        for below in permutations(range(4)):
            orders = (below, above)
            names = {
                f"a{layer}.h{head}": f"a{layer}.h{order[head]}"
                for layer, order in enumerate(orders)
                for head in range(4)
            }
            matching = HeadMatching(names=names, likeness=torch.ones(2, 4))
            best = max(best, overlap_edges(first, matching.rename(second)))
    return best


@pytest.mark.slow
def test_matching_on_the_edges_compared_would_lift_chance_and_matching_by_behaviour_does_not():
    """Null: random connected circuits of 12 of 81 edges, of two models that learnt nothing.

    By behaviour they agree as by name; by the order that suits their edges best, twice as well.
    """
    config = replace(FOUR, d_mlp=0)
    models = (build(config), build(config, seed=7))
    graph = build_graph(config)
    images = pictures(config, 8)
    ours = [graph.name_edges(mask) for mask in draw_random_circuits(models[0], 12, 8, seed=2)]
    theirs = [graph.name_edges(mask) for mask in draw_random_circuits(models[0], 12, 8, seed=3)]

    matching = match_heads(*models, images)
    by_name = []
    by_behaviour = []
    by_edges = []
    for first, second in zip(ours, theirs, strict=True):
        by_name.append(overlap_edges(first, second))
        by_behaviour.append(overlap_edges(first, matching.rename(second)))
        by_edges.append(match_by_edges(first, second))

    null = compare_circuits(models, (ours[0], theirs[0]), images, n_null=60).null
    means = [torch.tensor(values).mean().item() for values in (by_name, by_behaviour, by_edges)]
    assert means[1] == pytest.approx(null.mean().item(), abs=0.05)
    assert means[0] == pytest.approx(means[1], abs=0.06)
    assert means[2] > 1.7 * means[1] and min(by_edges) > null.median()


def test_what_cannot_be_compared_is_refused():
    images = pictures(FOUR, 4)
    model = build(FOUR)
    with pytest.raises(BadInput, match="models of two shapes"):
        match_heads(model, build(BASE), images)
    with pytest.raises(BadInput, match=r"no edge 'input->a9\.h0<q>'"):
        compare_circuits((model, model), (("input->a9.h0<q>",), ()), images)
    assert overlap_edges([], []) == 0
