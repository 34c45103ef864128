"""Circuits of models written by hand are recovered: ROC of the scores, exact sets by pruning."""

from __future__ import annotations

from functools import cache
from itertools import cycle, islice

import pytest
import torch
from sklearn.metrics import roc_auc_score

from tests.circuits.test_handmade import ALL
from tests.laws.models import mark_slow
from toyvit.circuits.edges import acdc, eap
from toyvit.circuits.evaluate import CircuitEvaluator
from toyvit.circuits.graph import build_graph
from toyvit.circuits.pairs import PatchingPairs, counterfactual_pairs
from toyvit.circuits.search import find_smallest

build_handmade = cache(lambda name: ALL[name]())


def shuffle_pairs(batch):
    """Each picture against another of the batch with another answer."""
    other = torch.roll(torch.arange(len(batch.images)), 7)
    keep = batch.target != batch.target[other]
    return PatchingPairs(
        batch.images[keep], batch.images[other][keep], batch.target[keep], batch.target[other][keep]
    )


CASES = {
    "counterfactual": (counterfactual_pairs, "pair_edges"),
    "any picture": (shuffle_pairs, "edges"),
}
# Every model with one kind of pairs for the scores, with the other for pruning.
FIRST_KIND = list(zip(ALL, cycle(CASES), strict=False))
OTHER_KIND = list(zip(ALL, islice(cycle(CASES), 1, None), strict=False))


def area(model, scores, true):
    """Area under the ROC of telling true edges by the size of their score: chance 0.5, best 1."""
    graph = build_graph(model.config)
    return roc_auc_score([edge in true for edge in graph.edges], scores[graph.allowed].abs())


def name_edges(model, edge_mask):
    return set(build_graph(model.config).name_edges(edge_mask))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "case"), FIRST_KIND)
def test_integrated_scores_tell_the_true_edges_without_a_mistake(name, case):
    """With 20 points; at 1 point there are mistakes where attention is saturated."""
    handmade = build_handmade(name)
    build_pairs, truth = CASES[case]
    model, pairs = handmade.model, build_pairs(handmade.batch)
    true = getattr(handmade, truth)
    assert area(model, eap(model, pairs, points=20), true) == 1
    assert area(model, eap(model, pairs), true) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize(("name", "case"), OTHER_KIND)
def test_pruning_leaves_exactly_the_true_edges(name, case):
    handmade = build_handmade(name)
    build_pairs, truth = CASES[case]
    edge_mask = acdc(handmade.model, build_pairs(handmade.batch), 1e-4)
    assert name_edges(handmade.model, edge_mask) == getattr(handmade, truth)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ALL if "norm" not in name])
def test_pruning_by_zero_finds_positions_too(name):
    """Less one edge at most, which changes no answer.

    Under the causal mask the first cell would seem to follow itself.
    """
    handmade = build_handmade(name)
    pairs = counterfactual_pairs(handmade.batch)
    edges = name_edges(handmade.model, acdc(handmade.model, pairs, 1e-4, "zero"))
    assert handmade.zero_edges - {"input->a1.h0<k>"} <= edges <= handmade.zero_edges
    assert edges == handmade.zero_edges or "causal" in name


@pytest.mark.parametrize(
    "name",
    mark_slow(
        [
            "induction, causal, registers, idle heads, MLP",
            "pointers, layer norm",
            "half, one layer",
        ],
        ["half, one layer"],
    ),
)
def test_the_smallest_faithful_circuit_is_made_of_true_edges(name):
    handmade = build_handmade(name)
    model, pairs = handmade.model, counterfactual_pairs(handmade.batch)
    evaluator = CircuitEvaluator(model=model, pairs=pairs)
    edge_mask = find_smallest(evaluator, eap(model, pairs, points=20), 0.99)
    assert name_edges(model, edge_mask) <= handmade.pair_edges
    assert evaluator.faithfulness(edge_mask) >= 0.99

    true = build_graph(model.config).mask_edges(handmade.pair_edges)
    assert evaluator.faithfulness(true) == pytest.approx(1, abs=1e-4)
    assert evaluator.completeness(true) == pytest.approx(0, abs=1e-4)


def test_the_gradient_at_one_point_does_make_mistakes():
    """The trap that integrated gradients are for: it would be news if this went away."""
    handmade = build_handmade("induction, layer norm")
    scores = eap(handmade.model, counterfactual_pairs(handmade.batch))
    assert area(handmade.model, scores, handmade.pair_edges) < 1
