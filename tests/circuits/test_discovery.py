"""Scores of edges, pruning, circuits as records: exact where the model is linear."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from tests.laws.models import BASE, CASES, PATCH_READOUTS, build, mark_slow, noise, pictures
from toyvit.circuits.circuit import Circuit, hash_architecture, load_circuit
from toyvit.circuits.edges import (
    ABLATIONS,
    ENDS,
    acdc,
    compute_ablated_outputs,
    eap,
    keep_connected,
    select_strongest,
)
from toyvit.circuits.evaluate import CircuitEvaluator, draw_random_circuits
from toyvit.circuits.graph import build_graph, cache_nodes, run_edges
from toyvit.circuits.pairs import METRICS, PatchingPairs, class_pairs, counterfactual_pairs
from toyvit.circuits.search import find_smallest
from toyvit.config import ModelConfig
from toyvit.data.task import build_task
from toyvit.errors import BadInput
from toyvit.model.forward import trace
from toyvit.model.taps import nudging
from toyvit.recipes import RECIPES

ONE_ANSWER = {
    name: config for name, config in CASES.items() if config.readout not in PATCH_READOUTS
}
LINEAR = replace(BASE, norm="none", d_mlp=0, readout="mean")


def pairs_for(config, n=6):
    images = pictures(config, n)
    answer = torch.arange(n) % config.n_classes
    return PatchingPairs(images, noise(images), answer, (answer + 1) % config.n_classes)


def linear(config=LINEAR):
    """A model that is linear in its input: queries are 0, so that heads attend evenly."""
    model = build(config)
    with torch.no_grad():
        for block in model.blocks:
            block.attn.qkv.weight[: config.d_model] = 0
    return model


def difference_by_pair(logits, pairs):
    return METRICS["logit_difference"](logits, pairs, logits)


def difference(logits, pairs):
    return METRICS["logit_difference"](logits, pairs, logits).mean()


@pytest.mark.parametrize("points", [1, 3])
@pytest.mark.parametrize("readout", mark_slow(["mean", "cls", "last"], ["cls"]))
def test_eap_is_exact_on_a_linear_model(points, readout):
    """Truth: a score is what the metric changes by when that edge alone carries the corrupt."""
    config = replace(LINEAR, readout=readout)
    model, pairs = linear(config), pairs_for(config)
    allowed = build_graph(config).allowed
    other = cache_nodes(model, pairs.corrupt).outputs
    cache = cache_nodes(model, pairs.clean)
    clean = difference(model(pairs.clean), pairs)
    scores = eap(model, pairs, points=points)
    for receiver, sender in allowed.nonzero().tolist():
        edge_mask = allowed.float()
        edge_mask[receiver, sender] = 0
        change = difference(run_edges(model, cache, edge_mask, other), pairs) - clean
        assert torch.allclose(scores[receiver, sender], change, atol=1e-4), (receiver, sender)


@pytest.mark.parametrize("case", mark_slow(ONE_ANSWER))
def test_scores_into_the_logits_sum_to_the_first_order_change(case):
    config = ONE_ANSWER[case]
    model, pairs = build(config), pairs_for(config)
    last = f"blocks.{config.n_layers - 1}.resid_post"
    tap = nudging([last])
    difference(model(pairs.clean, tap), pairs).backward()
    change = trace(model, pairs.corrupt)[last] - trace(model, pairs.clean)[last]
    first_order = (change * tap.nudges[last].grad).sum()
    assert torch.allclose(eap(model, pairs)[-1].sum(), first_order, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["norm=layer", "bare", "registers", "activation=relu"])
def test_integrated_scores_out_of_the_input_sum_to_the_whole_change(case):
    """Completeness: the error shrinks as points grow."""
    config = ONE_ANSWER[case]
    model, pairs = build(config), pairs_for(config)
    whole = difference(model(pairs.corrupt), pairs) - difference(model(pairs.clean), pairs)
    sums = [eap(model, pairs, points=points)[:, 0].sum() for points in (2, 16, 64)]
    errors = [abs(total - whole).item() for total in sums]
    assert errors[2] < errors[1] < errors[0] or errors[2] < 1e-4
    assert errors[2] < 0.02 * abs(whole).item()


def test_the_ends_of_the_way_are_the_points_that_they_say():
    """At one point: EAP at the clean pictures, at the corrupt ones, half-way. At more, their means.

    `corrupt` is what the authors' code takes: corrupt + k / n (clean - corrupt), k from 0 to n - 1.
    """
    model, pairs = build(BASE), pairs_for(BASE)

    def at(share):
        """The scores from gradients at one point of the way: (corrupt - clean) is the same."""
        return eap(model, pairs, points=1, end="clean") if share == 0 else parts[share]

    halfway = eap(model, pairs, points=1, end="middle")
    parts = {1: eap(model, pairs, points=1, end="corrupt"), 0.5: halfway}
    for end, shares in {"clean": (0, 0.5), "corrupt": (0.5, 1)}.items():
        expected = sum(at(share) for share in shares) / 2
        assert torch.allclose(eap(model, pairs, points=2, end=end), expected, atol=1e-6), end
    assert not torch.allclose(at(0), at(1), atol=1e-3)
    assert eap(model, pairs, "kl", points=1, end="corrupt").abs().max() > 0
    with pytest.raises(BadInput, match="unknown end 'clear'"):
        eap(model, pairs, points=5, end="clear")


@pytest.mark.parametrize("end", ["corrupt", "middle"])
def test_every_end_is_exact_on_a_linear_model(end):
    model, pairs = linear(), pairs_for(LINEAR)
    scores = eap(model, pairs, points=2, end=end)
    assert torch.allclose(scores, eap(model, pairs), atol=1e-5)


def test_the_middle_is_closest_to_the_whole_change():
    """Completeness at 4 points: the error of either end is larger."""
    model, pairs = build(BASE), pairs_for(BASE)
    whole = difference(model(pairs.corrupt), pairs) - difference(model(pairs.clean), pairs)
    errors = {
        end: abs(eap(model, pairs, points=4, end=end)[:, 0].sum() - whole).item() for end in ENDS
    }
    assert errors["middle"] < min(errors["clean"], errors["corrupt"])


@pytest.mark.parametrize("case", mark_slow(ONE_ANSWER))
def test_where_nothing_differs_every_score_is_0_and_gradients_leave_no_trace(case):
    config = ONE_ANSWER[case]
    model, pairs = build(config), pairs_for(config)
    same = PatchingPairs(pairs.clean, pairs.clean, pairs.answer, pairs.foil)
    for metric in METRICS:
        assert eap(model, same, metric, points=2).abs().max() == 0
    assert (eap(model, pairs)[~build_graph(config).allowed] == 0).all()
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize(
    "case", mark_slow(["norm=layer", "bare", "registers", "norm=none"], ["bare"])
)
def test_the_whole_model_is_faithful_and_nothing_is_not(case, ablation):
    config = ONE_ANSWER[case]
    model, pairs = build(config), pairs_for(config)
    for metric in METRICS:
        evaluator = CircuitEvaluator(model=model, pairs=pairs, metric=metric, ablation=ablation)
        full, empty = evaluator.full_mask, evaluator.empty_mask
        assert evaluator.faithfulness(full) == pytest.approx(1)
        assert evaluator.faithfulness(empty) == pytest.approx(0, abs=1e-6)
        assert evaluator.completeness(full) == pytest.approx(0, abs=1e-6)
        assert evaluator.completeness(empty) == pytest.approx(1)


def test_in_a_linear_model_what_each_edge_into_the_logits_takes_off_adds_up():
    model, pairs = linear(), pairs_for(LINEAR)
    evaluator = CircuitEvaluator(model=model, pairs=pairs)
    lost = evaluator.minimality(evaluator.full_mask)
    assert torch.equal(lost.isnan(), ~build_graph(LINEAR).allowed)
    assert lost[-1].sum().item() == pytest.approx(1, abs=1e-4)


def test_corrupt_as_the_ablation_is_the_corrupt_picture():
    model, pairs = build(BASE), pairs_for(BASE)
    cache = cache_nodes(model, pairs.clean)
    empty = torch.zeros_like(build_graph(BASE).allowed.float())
    ablated_outputs = compute_ablated_outputs(model, pairs, "corrupt", cache)
    logits = run_edges(model, cache, empty, ablated_outputs)
    assert torch.allclose(logits, model(pairs.corrupt), atol=1e-5)

    swapped = CircuitEvaluator(model=model, pairs=pairs.swap())
    expected = difference(model(pairs.corrupt), pairs.swap()).item()
    assert swapped.score(swapped.full_mask) == pytest.approx(expected, abs=1e-5)


def test_acdc_cuts_what_nothing_depends_on():
    """Truth: only the first head and the direct path write anything, so only they can be left.

    A threshold above every change leaves nothing at all.
    """
    config = replace(BASE, d_mlp=0)
    model, pairs = build(config), pairs_for(config)
    with torch.no_grad():
        model.blocks[1].attn.out.weight.zero_()
        model.blocks[0].attn.out.weight[:, config.d_head :] = 0
    edges = set(build_graph(config).name_edges(acdc(model, pairs, 1e-6)))
    possible = {"input->logits", "a0.h0->logits", *(f"input->a0.h0<{part}>" for part in "qkv")}
    assert "a0.h0->logits" in edges and edges <= possible
    assert acdc(model, pairs, 1e6).sum() == 0
    evaluator = CircuitEvaluator(model=model, pairs=pairs, metric="kl")
    assert evaluator.faithfulness(acdc(model, pairs, 1e-6)) == pytest.approx(1, abs=0.01)


def test_edges_on_no_path_are_dropped():
    config = replace(BASE, d_mlp=0)
    model, graph = build(config), build_graph(config)
    path = {"input->a0.h0<v>", "a0.h0->a1.h1<k>", "a1.h1->logits"}
    loose = {"input->a0.h1<q>", "a1.h0->logits"}
    connected = keep_connected(model, graph.mask_edges(path | loose))
    assert set(graph.name_edges(connected)) == path
    assert keep_connected(model, graph.mask_edges(loose)).sum() == 0

    scores = graph.mask_edges(path) * 3 + graph.mask_edges({"input->a0.h1<q>"}) * 5
    assert set(graph.name_edges(select_strongest(model, scores, 4))) == path
    assert select_strongest(model, scores, 1).sum() == 0


@pytest.mark.slow
def test_random_circuits_are_connected_of_their_size_and_differ():
    model = build(BASE)
    n_edges = len(build_graph(BASE).edges)
    for size in (0, 1, 5, 12, 30, n_edges):
        circuits = list(draw_random_circuits(model, size, 12))
        assert all(edge_mask.sum() == size for edge_mask in circuits)
        assert all(torch.equal(keep_connected(model, circuit), circuit) for circuit in circuits)
        n_distinct = len({tuple(edge_mask.flatten().tolist()) for edge_mask in circuits})
        assert n_distinct > 3 or size in (0, 1, n_edges)
        assert all(map(torch.equal, circuits, draw_random_circuits(model, size, 12)))
    with pytest.raises(BadInput, match="0 to 46 edges, got 47"):
        next(draw_random_circuits(model, 47, 1))


def test_a_circuit_comes_back_from_its_file_and_fits_its_own_architecture_only(tmp_path):
    model = build(BASE)
    edges = build_graph(BASE).name_edges(select_strongest(model, eap(model, pairs_for(BASE)), 9))
    circuit = Circuit(
        edges=edges,
        metric="kl",
        ablation="mean",
        method="eap",
        checkpoint="x at 3",
        architecture=hash_architecture(BASE),
    )
    circuit.save(tmp_path / "circuit.json")
    back = load_circuit(tmp_path / "circuit.json")
    assert back == circuit and build_graph(BASE).name_edges(back.edge_mask(model)) == edges
    other = r"another architecture .* has the nodes input, a0\.h0, a0\.h1, a1\.h0, a1\.h1"
    with pytest.raises(BadInput, match=other):
        back.edge_mask(build(CASES["attention only"]))


def test_what_a_circuit_was_searched_and_tested_on_comes_back_with_it(tmp_path):
    """Halves without a pair in common; scores that are no numbers are refused."""
    model = build(BASE)
    searched, tested = pairs_for(BASE, 7).split(5)
    assert len(searched.clean) == len(tested.clean) == 3
    whole = pairs_for(BASE, 7)
    assert torch.equal(torch.cat([searched.foil, tested.foil]), whole.foil[:6])
    assert torch.equal(torch.cat([searched.corrupt, tested.corrupt]), whole.corrupt[:6])
    with pytest.raises(BadInput, match="two or more are needed, got 1"):
        pairs_for(BASE, 1).split(5)

    edge_mask = select_strongest(model, eap(model, searched), 15)
    scores = [
        CircuitEvaluator(model=model, pairs=part).judge(edge_mask) for part in (searched, tested)
    ]
    assert scores[0].faithfulness != scores[1].faithfulness
    evaluator = CircuitEvaluator(model=model, pairs=tested)
    assert scores[1].completeness == evaluator.completeness(edge_mask)
    assert (scores[1].effect, scores[1].error) == evaluator.total_effect
    circuit = Circuit(
        edges=build_graph(BASE).name_edges(edge_mask),
        metric="kl",
        ablation="mean",
        method="eap",
        checkpoint="x at 3",
        architecture=hash_architecture(BASE),
        searched=scores[0],
        tested=scores[1],
    )
    circuit.save(tmp_path / "circuit.json")
    assert load_circuit(tmp_path / "circuit.json") == circuit

    plain = json.loads((tmp_path / "circuit.json").read_text())
    plain.pop("check")
    for spoiled in ("good", {"n_pairs": 3}, plain["tested"] | {"faithfulness": "0.9"}):
        (tmp_path / "bad.json").write_text(json.dumps(plain | {"tested": spoiled}))
        with pytest.raises(BadInput, match="holds no circuit"):
            load_circuit(tmp_path / "bad.json")


def test_circuits_and_configs_of_before_a_field_came_are_what_they_were():
    """The hash that versions before relative positions gave the default model."""
    config = ModelConfig()
    assert hash_architecture(config) == "e6cf9a03173c6b0e"
    assert "relative_scale" not in RECIPES["induction"]().to_json()["model"]
    assert hash_architecture(replace(config, relative_scale=0.1)) != "e6cf9a03173c6b0e"


def test_a_record_of_the_first_version_is_read(tmp_path):
    """Its fields were called base and found."""
    path = tmp_path / "circuit.json"
    path.write_text(
        """{"edges": ["input->a0.h0<v>", "a0.h0->logits"], "metric": "kl", "base": "mean",
        "found": "eap-ig to 0.9, item", "checkpoint": "x at 3, 0123456789ab",
        "architecture": "0123456789abcdef"}"""
    )
    assert load_circuit(path) == Circuit(
        edges=("input->a0.h0<v>", "a0.h0->logits"),
        metric="kl",
        ablation="mean",
        method="eap-ig to 0.9, item",
        checkpoint="x at 3, 0123456789ab",
        architecture="0123456789abcdef",
    )


def test_a_file_that_holds_no_circuit_is_refused(tmp_path):
    names = ("edges", "metric", "ablation", "method", "checkpoint", "architecture")
    plain = dict.fromkeys(names, "kl") | {"edges": [], "ablation": "mean"}
    bad_ablation = "unknown ablation in .* 'men'.*did you mean 'mean'"
    bad = {
        "nonsense": "holds no circuit",
        "[]": "holds no circuit",
        "{}": "holds no circuit",
        json.dumps({"edges": 3}): "holds no circuit",
        json.dumps(plain | {"edges": "abc"}): "its edges are 'abc', not a list of names",
        json.dumps(plain | {"metric": "kll"}): "unknown metric in .* 'kll'.*did you mean 'kl'",
        json.dumps(plain | {"ablation": "men"}): bad_ablation,
        json.dumps(plain | {"colour": "red"}): "holds no circuit: .*colour",
    }
    for text, message in bad.items():
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(BadInput, match=message):
            load_circuit(str(tmp_path / "bad.json"))


def test_pairs_come_from_counterfactuals_or_from_two_classes():
    run = RECIPES["induction-smoke"]()
    batch = build_task(run.task).eval_batch("test", 40, 0)
    for change, other in batch.counterfactuals.items():
        pairs = counterfactual_pairs(batch, change, 10)
        assert len(pairs.clean) == 10 and (pairs.answer != pairs.foil).all()
        rows = (batch.target != other.target).nonzero()[:10, 0]
        assert torch.equal(pairs.answer, batch.target[rows])
    with pytest.raises(BadInput, match=r"unknown change 'items'.*did you mean 'item'"):
        counterfactual_pairs(batch, "items")
    digits = build_task(RECIPES["digits"]().task).eval_batch("test", 100, 0)
    with pytest.raises(BadInput, match="no counterfactual pairs"):
        counterfactual_pairs(digits)
    pairs = class_pairs(digits, 4, 9)
    assert (pairs.answer == 4).all() and (pairs.foil == 9).all()
    assert pairs.clean.shape == pairs.corrupt.shape
    with pytest.raises(BadInput, match="no pairs of classes 4 and 12"):
        class_pairs(digits, 4, 12)
    with pytest.raises(BadInput, match="of two classes, got 4 and 4"):
        class_pairs(digits, 4, 4)
    with pytest.raises(BadInput, match="at least 1, got 0"):
        counterfactual_pairs(batch, "item", 0)


def test_settings_of_a_search_that_cannot_be_are_refused():
    model, pairs = build(BASE), pairs_for(BASE)
    with pytest.raises(BadInput, match="1 point or more, got 0"):
        eap(model, pairs, points=0)
    with pytest.raises(BadInput, match="eap cannot rank by kl"):
        eap(model, pairs, "kl")
    for threshold in (-1.0, float("nan")):
        with pytest.raises(BadInput, match="at least 0 nats"):
            acdc(model, pairs, threshold)


def test_what_there_is_to_explain_is_the_mean_over_pairs():
    """Truth: the difference that every edge makes; null: the same pictures have no effect."""
    model, pairs = build(BASE), pairs_for(BASE)
    evaluator = CircuitEvaluator(model=model, pairs=pairs)
    clean = difference_by_pair(model(pairs.clean), pairs)
    by_pair = clean - difference_by_pair(model(pairs.corrupt), pairs)
    mean, error = evaluator.total_effect
    assert mean == pytest.approx(by_pair.mean().item(), abs=1e-5)
    assert error == pytest.approx(by_pair.std().item() / len(by_pair) ** 0.5, abs=1e-5)
    same = PatchingPairs(pairs.clean, pairs.clean, pairs.answer, pairs.foil)
    assert CircuitEvaluator(model=model, pairs=same).total_effect == pytest.approx((0, 0), abs=1e-6)


def test_the_smallest_circuit_of_a_model_that_ignores_the_rest():
    """Truth: an answer through one head's values and the direct path needs no other edges."""
    config = replace(LINEAR, readout="last")
    model, pairs = linear(config), pairs_for(config)
    with torch.no_grad():
        model.blocks[1].attn.out.weight.zero_()
        model.blocks[0].attn.out.weight[:, config.d_head :] = 0
    evaluator = CircuitEvaluator(model=model, pairs=pairs)
    edge_mask = find_smallest(evaluator, eap(model, pairs), 0.99)
    possible = {"input->a0.h0<v>", "a0.h0->logits", "input->logits"}
    assert set(build_graph(config).name_edges(edge_mask)) <= possible
    assert evaluator.faithfulness(edge_mask) >= 0.99
    assert evaluator.completeness(edge_mask) == pytest.approx(0, abs=0.02)
    with pytest.raises(BadInput, match=r"between 0 and 1, got 1\.5"):
        find_smallest(evaluator, eap(model, pairs), 1.5)


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_the_faithfulness_asked_for_is_reached_whatever_cut_edges_carry(ablation):
    """Where they carry a constant, what hangs on no input still moves the answer."""
    config = ONE_ANSWER["bare"]
    model, pairs = build(config), pairs_for(config)
    evaluator = CircuitEvaluator(model=model, pairs=pairs, ablation=ablation)
    edge_mask = find_smallest(evaluator, eap(model, pairs), 0.95)
    assert evaluator.faithfulness(edge_mask) >= 0.95
    assert torch.equal(keep_connected(model, edge_mask), edge_mask)
