"""Lens, attribution, knock-out, patching, edges: they sum up, agree, find nothing in nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.analyses.planted import OPTIONS, model_for, one_hot, traced, uniform
from tests.laws.models import BASE
from toyvit.analyses import ANALYSES, circuits, lens, object_attention
from toyvit.analyses.analysis import Tagged
from toyvit.circuits.edges import eap
from toyvit.circuits.graph import build_graph
from toyvit.circuits.pairs import METRICS, PatchingPairs, counterfactual_pairs
from toyvit.circuits.patching import (
    connect_objects,
    connect_tokens,
    run_attention_knockout,
    select_tokens,
)
from toyvit.data.task import Batch, loss, score_class_baselines
from toyvit.model.forward import run_model, trace
from toyvit.model.taps import editing


@pytest.mark.parametrize("options", OPTIONS)
def test_attribution_sums_to_the_answer_s_logit_over_the_mean(options):
    model, batch = model_for("classify", **OPTIONS[options])
    found = circuits.measure_attribution(model, batch, traced(model, batch))
    logits = run_model(model, batch.images)
    whole = (logits.gather(1, batch.target[:, None])[:, 0] - logits.mean(1)).mean()
    parts = sum(value.sum() for quantity, value in found.items() if quantity != "direct_patch")
    assert torch.allclose(parts, whole, atol=1e-4)
    assert torch.allclose(found["direct_patch"].sum(), found["direct"].sum(), atol=1e-4)


@pytest.mark.parametrize("name", ["classify", "markov", "pointers"])
@pytest.mark.parametrize("options", OPTIONS)
def test_the_lens_ends_at_the_model_s_answer(name, options):
    model, batch = model_for(name, **OPTIONS[options])
    found = lens.measure_lens(model, batch, traced(model, batch))
    performance = ANALYSES["performance"].measure(model, batch, traced(model, batch))
    assert found["accuracy_of_layer"][-1] == performance["accuracy"]
    assert found["kl"][-1] == 0 and found["kl_of_patches"][-1] == 0 and (found["kl"] >= -1e-6).all()
    if "decided" in found:
        rows = found["decided"][~found["decided"].isnan().any(1)]
        assert len(rows) == len(batch.target.unique()) and torch.allclose(
            rows.sum(1), torch.ones(len(rows))
        )


def test_a_layer_that_does_nothing_decides_nothing():
    """Truth: where the last block writes nothing, the answer is final before it.

    Null: the embedding alone knows less.
    """
    model, batch = model_for("classify", n_registers=1)
    with torch.no_grad():
        model.blocks[1].attn.out.weight.zero_()
    found = lens.measure_lens(model, batch, traced(model, batch))
    assert torch.allclose(found["kl"][1], torch.tensor(0.0), atol=1e-6) and found["kl"][0] > 1e-3
    assert found["accuracy_of_layer"][1] == found["accuracy_of_layer"][2]
    says = batch.target.bincount(minlength=10) / len(batch.target)
    assert all(
        value in says for value in found["accuracy_of_position"]
    )  # the same class for every picture
    assert found["decided"].nan_to_num()[:, 2].sum() == 0


def test_segmentation_of_a_lens_that_knows_the_mask():
    """Truth: a model whose every layer says the label of each patch.

    Null: one that says background only.
    """
    model, batch = model_for("objects", norm="none", d_model=16)
    n = model.config.n_prefix
    one = torch.nn.functional.one_hot(batch.target, 16).float()
    known = torch.cat([torch.zeros(len(one), n, 16), one], 1)
    with torch.no_grad():
        model.head.weight.copy_(torch.eye(16)[: model.config.n_classes])
        model.head.bias.zero_()
    stream = dict.fromkeys(
        ("blocks.0.resid_pre", "blocks.1.resid_pre", "blocks.1.resid_post"), known
    )
    found = lens.measure_segmentation(model, batch, stream)
    assert (found["iou"] == 1).all() and found["iou_of_position"] < 1
    nothing = {name: torch.zeros_like(known) for name in stream}
    background = (batch.target == 0).double().mean().item()
    constant = lens.measure_segmentation(model, batch, nothing)["iou"]
    assert constant[0].item() == pytest.approx(background / len(batch.target.unique()), rel=1e-6)


@pytest.mark.parametrize("n_prefix", [0, 1, 3])
def test_object_shares_sum_to_1_and_planted_patterns_are_theirs(n_prefix):
    objects = torch.tensor([[0, 1, 1, 2, 0], [3, 0, 0, 3, 1]])
    tokens, cls = 5 + n_prefix, n_prefix > 0
    config = replace(BASE, readout="mean", cls_token=cls, n_registers=max(0, n_prefix - 1))
    batch = Batch(torch.zeros(2, 1, 4, 4), torch.zeros(2, 5).long(), objects=objects)
    groups = object_attention.group_keys(batch, config)

    def share(pattern):
        shares = object_attention.share_by_group(pattern, groups)
        return {key["group"]: value for key, value in shares.items()}

    shares = share(uniform(tokens))
    assert sum(share[0].item() for share in shares.values()) == pytest.approx(1)
    assert shares["cls"][0].item() == pytest.approx(cls / tokens)
    assert shares["registers"][0].item() == pytest.approx(max(0, n_prefix - 1) / tokens)
    itself = share(one_hot(torch.arange(tokens)))
    assert itself["itself"].tolist() == [1, 1, 1] and itself["other"].abs().max() == 0
    # Every token looks at the first patch: background in one picture, object 3 in the other.
    first = share(one_hot([n_prefix] * tokens))
    assert first["background"][0].item() == pytest.approx(3 / 6)
    assert first["itself"][0].item() == pytest.approx(2 / 6)
    assert first["other"][0].item() == pytest.approx(1 / 6)


@pytest.mark.parametrize("n_prefix", [0, 2])
def test_connections_between_objects(n_prefix):
    """Truth: every connection from a patch of an object to a patch is just one of the three."""
    objects = torch.tensor([[0, 1, 1, 2, 0], [0, 0, 0, 0, 0]])
    edges = connect_objects(objects, n_prefix)
    named = {
        name: [tuple(place) for place in (one[0, n_prefix:, n_prefix:]).nonzero().tolist()]
        for name, one in edges.items()
    }
    assert named["itself"] == [(1, 1), (1, 2), (2, 1), (2, 2), (3, 3)]
    assert named["other"] == [(1, 3), (2, 3), (3, 1), (3, 2)]
    assert named["background"] == [(1, 0), (1, 4), (2, 0), (2, 4), (3, 0), (3, 4)]
    assert (
        sum(int(one.sum()) for one in edges.values()) == 15
    )  # none in the empty picture, none to or from the prefix


def test_flow_between_objects_is_the_pattern_without_them():
    """Truth: as if those weights were taken out by hand.

    Null: with one object a picture there is no other one.
    """
    model, batch = model_for("objects")
    assert batch.objects is not None
    seen = trace(model, batch.images)
    found = circuits.measure_attention_knockout(model, batch, seen)
    edges = connect_objects(batch.objects, model.config.n_prefix)["background"]

    def without(scores):
        return scores.masked_fill(edges[:, None], -torch.inf)

    by_hand = loss(
        run_model(model, batch.images, editing({"blocks.0.attn.attn_scores": without})),
        batch.target,
    )
    cost = found[Tagged("loss_rise", key_group="background", query_group="object")][0]
    assert (
        torch.allclose(cost, by_hand - loss(seen["logits"], batch.target), atol=1e-6)
        and cost.abs() > 1e-5
    )
    alone = replace(batch, objects=(batch.objects > 0).long())
    assert (
        circuits.measure_attention_knockout(model, alone, seen)[
            Tagged("loss_rise", key_group="other", query_group="object")
        ]
        == 0
    ).all()


@pytest.mark.parametrize("options", ["CLS and registers", "one layer", "CLS, causal, no norm"])
def test_flow_is_what_blocking_costs(options):
    """Null: what is blocked after its last reader costs exactly 0."""
    model, batch = model_for("classify", **OPTIONS[options], readout="cls")
    found = circuits.measure_attention_knockout(model, batch, trace(model, batch.images))
    last = model.config.n_layers - 1
    assert found[Tagged("loss_rise", key_group="cls", query_group="patches")][last] == 0
    assert found[Tagged("loss_rise", key_group="patches", query_group="patches")][last] == 0
    assert found[Tagged("loss_rise", key_group="patches", query_group="cls")][last].abs() > 1e-4
    assert all(value.isfinite().all() for value in found.values())


def test_with_every_layer_blocked_only_the_label_prior_is_left():
    """Truth: a CLS that sees no patch in any layer answers every picture the same."""
    model, batch = model_for("classify", readout="cls")
    same = run_attention_knockout(
        model,
        trace(model, batch.images),
        connect_tokens(select_tokens(model, "cls"), select_tokens(model, "patches")),
        [0, 1],
    )
    assert torch.allclose(same, same[:1].expand_as(same), atol=1e-6)
    assert loss(same, batch.target) >= score_class_baselines(batch.target)["loss.label_prior"]


@pytest.mark.slow
def test_patching_and_edges_see_only_what_a_counterfactual_changes():
    """Another query changes the last cell alone.

    Under the causal mask earlier tokens and their edges are exactly 0.
    """
    model, batch = model_for("induction 4x4", cls_token=False, mask="causal")
    found = circuits.measure_patching(model, batch, {})
    for change in batch.counterfactuals:
        assert found[Tagged("patched_head", change=change, direction="noise")].shape == (2, 2, 16)
    assert (
        found[Tagged("patched_head", change="query", direction="denoise")][:, :, :-1].abs().max()
        == 0
    )
    assert found[Tagged("patched_stream", change="query", direction="denoise")][
        :, -1
    ].tolist() == pytest.approx([1, 1], abs=1e-4)
    scores = circuits.measure_edges(model, batch, {})
    pairs = counterfactual_pairs(batch, "query", 64)
    logits = run_model(model, pairs.clean)
    clean = (logits.gather(1, pairs.answer[:, None]) - logits.gather(1, pairs.foil[:, None])).mean()
    assert torch.allclose(scores[Tagged("clean", change="query")], clean)
    edges = {
        key["edge"]: value
        for key, value in scores.items()
        if key.quantity == "edge_score" and key["change"] == "query"
    }
    assert len(edges) == int(build_graph(model.config).allowed.sum())
    out = sum(value for edge, value in edges.items() if edge.startswith("input->"))
    assert torch.allclose(
        out, scores[Tagged("corrupt", change="query")] - clean, rtol=0.2, atol=0.02
    )


def test_errors_of_edges_are_those_of_the_mean_over_pairs(monkeypatch):
    """Truth: scores of each pair alone, and clean minus corrupt pair by pair."""
    monkeypatch.setattr(circuits, "N_PAIRS", 6)
    model, batch = model_for("induction 4x4", cls_token=False, mask="causal")
    scores = circuits.measure_edges(model, batch, {})
    pairs = counterfactual_pairs(batch, "query", 6)
    n = len(pairs.clean)
    assert scores[Tagged("pairs", change="query")] == n

    alone = []
    effects = []
    for place in range(n):
        pair = PatchingPairs(
            pairs.clean[[place]], pairs.corrupt[[place]], pairs.answer[[place]], pairs.foil[[place]]
        )
        alone.append(eap(model, pair, points=5))
        clean = run_model(model, pair.clean)
        corrupt = run_model(model, pair.corrupt)
        change = METRICS["logit_difference"](clean, pair, clean)
        effects.append(change - METRICS["logit_difference"](corrupt, pair, corrupt))
    errors = torch.stack(alone).std(0) / n**0.5
    graph = build_graph(model.config)
    for edge, error in zip(graph.edges, errors[graph.allowed], strict=True):
        measured = scores[Tagged("edge_error", change="query", edge=edge)]
        assert torch.allclose(measured, error, rtol=1e-3, atol=1e-6), edge
    error = torch.cat(effects).std() / n**0.5
    assert torch.allclose(scores[Tagged("effect_error", change="query")], error, rtol=1e-4)
