"""Circuits that are known, because the models were written by hand, are found: ROC of the scores, and exact sets by pruning."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from sklearn.metrics import roc_auc_score

from tests.test_handmade import ALL
from toyvit.circuits.edges import acdc, eap
from toyvit.circuits.evaluate import CircuitEvaluator
from toyvit.circuits.graph import build_graph
from toyvit.circuits.pairs import PatchingPairs, counterfactual_pairs
from toyvit.circuits.search import find_smallest

made = cache(lambda name: ALL[name]())


def shuffled(batch):
    """Each picture against another one of the batch with another answer."""
    other = torch.roll(torch.arange(len(batch.images)), 7)
    keep = batch.target != batch.target[other]
    return PatchingPairs(
        batch.images[keep], batch.images[other][keep], batch.target[keep], batch.target[other][keep]
    )


CASES = {
    "counterfactual": (lambda one: counterfactual_pairs(one.batch), lambda one: one.pair_edges),
    "any picture": (lambda one: shuffled(one.batch), lambda one: one.edges),
}


def area(model, scores, true):
    """Area under the ROC of telling true edges by the size of their score: 0.5 is chance, 1 no mistake."""
    wires = build_graph(model.config)
    return roc_auc_score([edge in true for edge in wires.edges], scores[wires.allowed].abs())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ALL)
def test_integrated_scores_tell_the_true_edges_without_a_mistake(name, case):
    """With 20 points; the gradient at one point alone makes mistakes where attention is saturated, never below 0.8."""
    one, (pairs_of, truth) = made(name), CASES[case]
    pairs, true = pairs_of(one), truth(one)
    assert area(one.model, eap(one.model, pairs, points=20), true) == 1
    assert area(one.model, eap(one.model, pairs), true) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ALL)
def test_pruning_leaves_exactly_the_true_edges(name, case):
    one, (pairs_of, truth) = made(name), CASES[case]
    assert set(
        build_graph(one.model.config).name_edges(acdc(one.model, pairs_of(one), 1e-4))
    ) == truth(one)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ALL if "norm" not in name])
def test_pruning_with_nothing_instead_finds_positions_too(name):
    """Less one edge at most, which moves no answer: under the causal mask the first cell would seem to follow itself."""
    one = made(name)
    found = set(
        build_graph(one.model.config).name_edges(
            acdc(one.model, counterfactual_pairs(one.batch), 1e-4, "zero")
        )
    )
    assert one.zero_edges - {"input->a1.h0<k>"} <= found <= one.zero_edges
    assert found == one.zero_edges or "causal" in name


@pytest.mark.parametrize(
    "name",
    ["induction, causal, registers, idle heads, MLP", "pointers, layer norm", "half, one layer"],
)
def test_the_smallest_faithful_circuit_is_made_of_true_edges(name):
    one = made(name)
    pairs = counterfactual_pairs(one.batch)
    evaluator = CircuitEvaluator(model=one.model, pairs=pairs)
    edge_mask = find_smallest(evaluator, eap(one.model, pairs, points=20), 0.99)
    assert (
        set(build_graph(one.model.config).name_edges(edge_mask)) <= one.pair_edges
        and evaluator.faithfulness(edge_mask) >= 0.99
    )
    true = build_graph(one.model.config).mask_edges(one.pair_edges)
    assert evaluator.faithfulness(true) == pytest.approx(1, abs=1e-4) and evaluator.completeness(
        true
    ) == pytest.approx(0, abs=1e-4)


def test_the_gradient_at_one_point_does_make_mistakes():
    """The trap that integrated gradients are for: it would be news if this went away."""
    one = made("induction, layer norm")
    assert area(one.model, eap(one.model, counterfactual_pairs(one.batch)), one.pair_edges) < 1
