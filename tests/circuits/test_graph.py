"""The graph of senders and receivers: cutting nothing, cutting all, cutting one edge, carrying along a path."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.laws.models import BASE, CASES, build, configs, noise, pictures
from toyvit.circuits.graph import build_graph, cache_nodes, edge_tap, patch_path, run_edges
from toyvit.errors import BadInput
from toyvit.model.forward import run_model, trace
from toyvit.model.taps import recording, replacing, then


def check_both_ends(config):
    model, images = build(config), pictures(config, 3)
    full_mask, here, there = (
        build_graph(config).allowed.float(),
        cache_nodes(model, images),
        cache_nodes(model, noise(images)),
    )
    assert torch.equal(
        run_edges(model, here, full_mask, torch.zeros(len(here.outputs), 1, 1, config.d_model)),
        run_model(model, images),
    )
    assert torch.allclose(
        run_edges(model, here, 0 * full_mask, there.outputs),
        run_model(model, noise(images)),
        atol=1e-5,
    )
    assert torch.equal(
        run_edges(model, here, 0 * full_mask, here.outputs), run_model(model, images)
    )


def check_resumes(config, seed):
    """From the first block with a cut edge on, to the bit the whole forward pass with those edges cut."""
    model, images = build(config), pictures(config, 3)
    wires, here, there = (
        build_graph(config),
        cache_nodes(model, images),
        cache_nodes(model, noise(images)),
    )
    uncut = int(
        torch.randint(len(wires.receivers) + 1, (), generator=torch.Generator().manual_seed(seed))
    )
    edge_mask = wires.allowed * torch.rand(
        wires.allowed.shape, generator=torch.Generator().manual_seed(seed)
    ).round(decimals=1)
    edge_mask[:uncut] = wires.allowed[:uncut].float()
    assert torch.equal(
        run_edges(model, here, edge_mask, there.outputs),
        run_model(model, images, edge_tap(model, edge_mask, there.outputs)),
    )


@pytest.mark.parametrize("case", CASES)
def test_nothing_cut_is_the_plain_forward_pass_to_the_bit_and_all_cut_is_the_other_picture(case):
    check_both_ends(CASES[case])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(4))
def test_starting_at_the_first_cut_is_the_whole_forward_pass(case, seed):
    check_resumes(CASES[case], seed)


@settings(max_examples=25)
@given(configs(), st.integers(0, 99))
def test_the_same_for_any_model(config, seed):
    check_both_ends(config)
    check_resumes(config, seed)


@pytest.mark.parametrize("case", CASES)
def test_streams_are_what_enters_each_block_and_the_read_out(case):
    config = CASES[case]
    model, images = build(config), pictures(config, 3)
    here, seen = (
        cache_nodes(model, images),
        trace(model, images, ["blocks.*.resid_pre", "blocks.*.resid_post"]),
    )
    last = seen.pop(f"blocks.{config.n_layers - 1}.resid_post")
    entering = [seen[f"blocks.{layer}.resid_pre"] for layer in range(config.n_layers)]
    assert (
        all(map(torch.equal, here.streams, [*entering, last]))
        and len(here.streams) == config.n_layers + 1
    )


@pytest.mark.parametrize("case", CASES)
def test_senders_write_the_residual_stream(case):
    config = CASES[case]
    model, images = build(config), pictures(config, 3)
    written, seen = (
        cache_nodes(model, images).outputs,
        trace(model, images, ["blocks.*.resid_p*", "blocks.*.attn_out"]),
    )
    assert torch.equal(written[0], seen["blocks.0.resid_pre"])
    first = written[1 : 1 + config.n_heads].sum(0)
    bias = model.blocks[0].attn.out.bias if config.attention_bias else 0
    assert torch.allclose(first + bias, seen["blocks.0.attn_out"], atol=1e-5)
    biases = (
        sum(block.attn.out.bias.detach() for block in model.blocks) if config.attention_bias else 0
    )
    last = seen[f"blocks.{config.n_layers - 1}.resid_post"]
    assert torch.allclose(written.sum(0) + biases, last, atol=1e-5)


@pytest.mark.parametrize("case", ["attention only", "registers", "bare", "mask=local"])
def test_an_edge_is_heard_by_its_receiver_alone(case):
    """Cutting one edge changes what that receiver reads, and nothing that comes before it or stands beside it."""
    config = CASES[case]
    model, images = build(config), pictures(config, 3)
    wires, other = build_graph(config), cache_nodes(model, noise(images)).outputs
    sites = [f"blocks.1.attn.{part}" for part in "qkv"]
    plain = trace(model, images, sites)
    for part in "qkv":
        edge_mask = wires.allowed.float()
        edge_mask -= wires.mask_edges([f"a0.h1->a1.h0<{part}>"])
        record = recording(sites)
        with torch.no_grad():
            model(images, then(edge_tap(model, edge_mask, other), record))
        for site in sites:
            moved = (record.values[site] != plain[site]).any(-1).any(0).any(0)
            assert moved.tolist() == [site.endswith(part), False], (part, site)


def test_a_path_carries_the_product_of_its_weights():
    """Truth: attention-only, receiver the logits, no norm: a head's direct path is what it writes times the head's weights."""
    config = replace(BASE, d_mlp=0, norm="none", readout="cls", mask="bidirectional")
    model, images = build(config), pictures(config, 3)
    other = noise(images)
    here, there = cache_nodes(model, images).outputs, cache_nodes(model, other).outputs
    change = patch_path(model, images, other, ["a0.h1", "logits"]) - run_model(model, images)
    place = build_graph(config).senders.index("a0.h1")
    assert torch.allclose(change, (there - here)[place, :, 0] @ model.head.weight.T, atol=1e-5)
    # Through the values of a later head, its pattern as it was: V then O then the head, mixed by the pattern.
    change = patch_path(model, images, other, ["a0.h1", "a1.h0<v>", "logits"]) - run_model(
        model, images
    )
    pattern = trace(model, images, ["blocks.1.attn.pattern"])["blocks.1.attn.pattern"][:, 0, 0]
    w_v, w_o = (weights[0] for weights in model.blocks[1].attn.head_weights()[2:])
    expected = (
        torch.einsum("it,itm->im", pattern, (there - here)[place]) @ w_v @ w_o @ model.head.weight.T
    )
    assert torch.allclose(change, expected, atol=1e-5)


def test_a_path_to_itself_does_nothing_and_all_paths_of_one_hop_are_the_node():
    """Null: a path that carries the same pictures; law: patching every edge out of a head is replacing the head's output."""
    config = CASES["registers"]
    model, images = build(config), pictures(config, 3)
    other = noise(images)
    assert torch.equal(
        patch_path(model, images, images, ["a0.h0", "a1.h1<k>", "logits"]), run_model(model, images)
    )
    edge_mask = build_graph(config).allowed.float()
    edge_mask[:, build_graph(config).senders.index("a0.h0")] = 0
    z = trace(model, images, ["blocks.0.attn.z"])["blocks.0.attn.z"]
    z[:, :, 0] = trace(model, other, ["blocks.0.attn.z"])["blocks.0.attn.z"][:, :, 0]
    replaced = run_model(model, images, replacing({"blocks.0.attn.z": z}))
    assert torch.allclose(
        run_edges(model, cache_nodes(model, images), edge_mask, cache_nodes(model, other).outputs),
        replaced,
        atol=1e-5,
    )


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
        wires = build_graph(config)
        assert torch.equal(wires.mask_edges(wires.edges), wires.allowed.float()) and len(
            set(wires.edges)
        ) == int(wires.allowed.sum())
