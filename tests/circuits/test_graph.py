"""The graph: cutting nothing, cutting all, cutting a single edge, carrying along a path."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tests.laws.models import BASE, CASES, build, configs, mark_slow, noise, pictures
from toyvit.circuits.graph import build_graph, cache_nodes, edge_tap, patch_path, run_edges
from toyvit.errors import BadInput
from toyvit.model.forward import run_model, trace
from toyvit.model.taps import recording, replacing, then


def check_both_ends(config):
    model, images = build(config), pictures(config, 3)
    plain = run_model(model, images)
    other = run_model(model, noise(images))
    here = cache_nodes(model, images)
    there = cache_nodes(model, noise(images))
    full_mask = build_graph(config).allowed.float()

    nothing = torch.zeros(len(here.outputs), 1, 1, config.d_model)
    assert torch.equal(run_edges(model, here, full_mask, nothing), plain)
    assert torch.allclose(run_edges(model, here, 0 * full_mask, there.outputs), other, atol=1e-5)
    assert torch.equal(run_edges(model, here, 0 * full_mask, here.outputs), plain)


def check_resumes(config, seed):
    """From the first block with a cut edge on, to the bit the whole pass with those edges cut."""
    model, images = build(config), pictures(config, 3)
    allowed = build_graph(config).allowed
    here = cache_nodes(model, images)
    there = cache_nodes(model, noise(images))
    generator = torch.Generator().manual_seed(seed)
    uncut = int(torch.randint(len(allowed) + 1, (), generator=generator))
    edge_mask = allowed * torch.rand(allowed.shape, generator=generator).round(decimals=1)
    edge_mask[:uncut] = allowed[:uncut].float()

    whole = run_model(model, images, edge_tap(model, edge_mask, there.outputs))
    assert torch.equal(run_edges(model, here, edge_mask, there.outputs), whole)


@pytest.mark.parametrize("case", mark_slow(CASES))
def test_nothing_cut_is_the_plain_forward_pass_to_the_bit_and_all_cut_is_the_other_picture(case):
    check_both_ends(CASES[case])


@pytest.mark.parametrize("case", mark_slow(CASES))
@pytest.mark.parametrize("seed", range(2))
def test_starting_at_the_first_cut_is_the_whole_forward_pass(case, seed):
    check_resumes(CASES[case], 2 * list(CASES).index(case) + seed)


@pytest.mark.slow
@settings(max_examples=25)
@given(configs(), st.integers(0, 99))
def test_the_same_for_any_model(config, seed):
    check_both_ends(config)
    check_resumes(config, seed)


@pytest.mark.parametrize("case", CASES)
def test_streams_are_what_enters_each_block_and_the_read_out(case):
    config = CASES[case]
    model, images = build(config), pictures(config, 3)
    streams = cache_nodes(model, images).streams
    cache = trace(model, images, ["blocks.*.resid_pre", "blocks.*.resid_post"])
    entering = [cache[f"blocks.{layer}.resid_pre"] for layer in range(config.n_layers)]
    last = cache[f"blocks.{config.n_layers - 1}.resid_post"]
    assert len(streams) == config.n_layers + 1
    assert all(map(torch.equal, streams, [*entering, last]))


@pytest.mark.parametrize("case", CASES)
def test_senders_write_the_residual_stream(case):
    config = CASES[case]
    model, images = build(config), pictures(config, 3)
    written = cache_nodes(model, images).outputs
    cache = trace(model, images, ["blocks.*.resid_p*", "blocks.*.attn_out"])
    assert torch.equal(written[0], cache["blocks.0.resid_pre"])
    first = written[1 : 1 + config.n_heads].sum(0)
    assert torch.allclose(first + model.b_O[0], cache["blocks.0.attn_out"], atol=1e-5)
    last = cache[f"blocks.{config.n_layers - 1}.resid_post"]
    assert torch.allclose(written.sum(0) + model.b_O.sum(0), last, atol=1e-5)


@pytest.mark.parametrize("case", ["attention only", "registers", "bare", "mask=local"])
def test_an_edge_is_read_by_its_receiver_alone(case):
    """Cutting an edge changes what its receiver reads, and nothing before or beside it."""
    config = CASES[case]
    model, images = build(config), pictures(config, 3)
    graph = build_graph(config)
    other = cache_nodes(model, noise(images)).outputs
    sites = [f"blocks.1.attn.{part}" for part in "qkv"]
    plain = trace(model, images, sites)
    for part in "qkv":
        edge_mask = graph.allowed.float() - graph.mask_edges([f"a0.h1->a1.h0<{part}>"])
        record = recording(sites)
        with torch.no_grad():
            model(images, then(edge_tap(model, edge_mask, other), record))
        for site in sites:
            changed = (record.values[site] != plain[site]).any(-1).any(0).any(0)
            assert changed.tolist() == [site.endswith(part), False], (part, site)


def test_a_path_carries_the_product_of_its_weights():
    """Truth, without norm and MLP: a head's direct path is what it writes times the unembedding."""
    config = replace(BASE, d_mlp=0, norm="none", readout="cls", mask="bidirectional")
    model, images = build(config), pictures(config, 3)
    other = noise(images)
    plain = run_model(model, images)
    difference = cache_nodes(model, other).outputs - cache_nodes(model, images).outputs
    written = difference[build_graph(config).find_sender("a0.h1")]
    change = patch_path(model, images, other, ["a0.h1", "logits"]) - plain
    assert torch.allclose(change, written[:, 0] @ model.W_U, atol=1e-5)

    # Through the values of a later head, its pattern as it was: V, O, the unembedding.
    change = patch_path(model, images, other, ["a0.h1", "a1.h0<v>", "logits"]) - plain
    pattern = trace(model, images)["blocks.1.attn.pattern"][:, 0, 0]
    attended = torch.einsum("it,itm->im", pattern, written)
    expected = attended @ model.W_V[1, 0] @ model.W_O[1, 0] @ model.W_U
    assert torch.allclose(change, expected, atol=1e-5)


def test_a_path_to_itself_does_nothing_and_all_paths_of_one_hop_are_the_node():
    """Null: the same pictures; law: patching all edges out of a head replaces its output."""
    config = CASES["registers"]
    model, images = build(config), pictures(config, 3)
    other = noise(images)
    same = patch_path(model, images, images, ["a0.h0", "a1.h1<k>", "logits"])
    assert torch.equal(same, run_model(model, images))

    edge_mask = build_graph(config).allowed.float()
    edge_mask[:, build_graph(config).find_sender("a0.h0")] = 0
    here = cache_nodes(model, images)
    patched = run_edges(model, here, edge_mask, cache_nodes(model, other).outputs)
    z = trace(model, images)["blocks.0.attn.z"]
    z[:, :, 0] = trace(model, other)["blocks.0.attn.z"][:, :, 0]
    replaced = run_model(model, images, replacing({"blocks.0.attn.z": z}))
    assert torch.allclose(patched, replaced, atol=1e-5)


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (["a0.h0->a1.h0"], r"did you mean 'a0.h0->a1.h0<"),
        (["a1.h0->a0.h0<q>"], r"no edge 'a1.h0->a0.h0<q>'"),
        (["input->m5"], "did you mean 'input->m"),
    ],
)
def test_an_edge_that_is_not_there_is_refused(edges, message):
    with pytest.raises(BadInput, match=message):
        build_graph(BASE).mask_edges(edges)


def test_a_path_that_is_not_there_is_refused():
    model, images = build(BASE), pictures(BASE)
    with pytest.raises(BadInput, match="two nodes"):
        patch_path(model, images, images, ["a0.h0"])
    with pytest.raises(BadInput, match=r"no sender 'a9\.h0'"):
        patch_path(model, images, images, ["a9.h0", "logits"])
    with pytest.raises(BadInput, match=r"no edge 'a1\.h0->a0\.h0<q>'"):
        patch_path(model, images, images, ["a1.h0", "a0.h0<q>", "logits"])
    with pytest.raises(BadInput, match="a list of two nodes or more, got"):
        patch_path(model, images, images, "a0.h0->logits")
    with pytest.raises(BadInput, match="each picture needs one other"):
        patch_path(model, images, images[:1], ["a0.h0", "logits"])


def test_names_and_matrices_of_edges_are_the_same_thing():
    for config in CASES.values():
        graph = build_graph(config)
        assert torch.equal(graph.mask_edges(graph.edges), graph.allowed.float())
        assert len(set(graph.edges)) == int(graph.allowed.sum())
