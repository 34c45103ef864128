"""TransformerLens's names and shapes: with them the model by hand is the model, every option."""

from __future__ import annotations

import pytest
import torch

from tests.laws.models import CASES, build, every_case, noise, pictures
from toyvit.errors import BadInput
from toyvit.model.forward import trace

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
MLP_VIEWS = ("W_in", "W_out", "b_in", "b_out")


@every_case
def test_shapes_are_transformer_lens_s(config):
    model = build(config)
    layers, heads, d_head = config.n_layers, config.n_heads, config.d_head
    n_outputs = model.head.out_features
    shapes = {
        "W_E": (config.d_patch, config.d_model),
        "b_E": (config.d_model,),
        "W_pos": (config.n_patches, config.d_model),
        "W_Q": (layers, heads, config.d_model, d_head),
        "W_K": (layers, heads, config.d_model, d_head),
        "W_V": (layers, heads, config.d_model, d_head),
        "W_O": (layers, heads, d_head, config.d_model),
        "b_Q": (layers, heads, d_head),
        "b_K": (layers, heads, d_head),
        "b_V": (layers, heads, d_head),
        "b_O": (layers, config.d_model),
        "W_U": (config.d_model, n_outputs),
        "b_U": (n_outputs,),
    }
    if config.d_mlp:
        shapes |= {
            "W_in": (layers, config.d_model, config.d_mlp),
            "b_in": (layers, config.d_mlp),
            "W_out": (layers, config.d_mlp, config.d_model),
            "b_out": (layers, config.d_model),
        }
    assert {name: tuple(getattr(model, name).shape) for name in shapes} == shapes


@every_case
def test_the_forward_pass_by_hand_is_the_model_s(config):
    """Embedding, queries, keys, values, scores, what heads write, MLPs and head, from each tap."""
    model, images = build(config), pictures(config)
    cache = trace(model, images)

    embedded = cache["patches"] @ model.W_E + model.b_E
    assert torch.allclose(embedded, cache["embed"], **CLOSE)
    first = embedded + model.W_pos
    if config.embed_norm:
        centred = first - first.mean(-1, keepdim=True)
        scale = (centred.square().mean(-1, keepdim=True) + config.norm_epsilon).sqrt()
        first = centred / scale * model.ln_pre.gain + model.ln_pre.bias
    assert torch.allclose(first, cache["blocks.0.resid_pre"][:, config.n_prefix :], **CLOSE)

    for layer in range(config.n_layers):
        check_attention(model, cache, layer)
        if config.d_mlp:
            check_mlp(model, cache, layer)
    assert torch.allclose(cache["readout"] @ model.W_U + model.b_U, cache["logits"], **CLOSE)


def check_attention(model, cache, layer):
    here = {name.split(".")[-1]: value for name, value in cache.items() if f"s.{layer}." in name}
    read = cache[f"blocks.{layer}.ln1.after_gain"]
    parts = {}
    for name in "qkv":
        weight = getattr(model, f"W_{name.upper()}")[layer]
        bias = getattr(model, f"b_{name.upper()}")[layer]
        parts[name] = torch.einsum("itm,hmf->ithf", read, weight) + bias
        assert torch.allclose(parts[name], here[name], **CLOSE), name

    # Turns and biases by place have a truth of their own: tests/model/test_offsets.py.
    query = here.get("rot_q", parts["q"])
    key = here.get("rot_k", parts["k"])
    scores = torch.einsum("iqhf,ikhf->ihqk", query, key) / model.config.d_head**0.5
    scores = scores + model.mask + here.get("pos_bias", 0)
    assert torch.allclose(scores, here["attn_scores"], **CLOSE)
    z = torch.einsum("ihqk,ikhf->iqhf", scores.softmax(-1), parts["v"])
    assert torch.allclose(z, here["z"], **CLOSE)
    result = torch.einsum("ithf,hfm->ithm", z, model.W_O[layer])
    assert torch.allclose(result, here["result"], **CLOSE)
    assert torch.allclose(result.sum(2) + model.b_O[layer], here["attn_out"], **CLOSE)


def check_mlp(model, cache, layer):
    read = cache[f"blocks.{layer}.ln2.after_gain"]
    pre = read @ model.W_in[layer] + model.b_in[layer]
    assert torch.allclose(pre, cache[f"blocks.{layer}.mlp.pre"], **CLOSE)
    post = cache[f"blocks.{layer}.mlp.post"]
    written = post @ model.W_out[layer] + model.b_out[layer]
    assert torch.allclose(written, cache[f"blocks.{layer}.mlp_out"], **CLOSE)


@every_case
def test_views_are_the_head_weights_of_each_layer_and_gradients_flow_through_them(config):
    model = build(config)
    for layer, block in enumerate(model.layers):
        for name, weight in block.attn.head_weights()._asdict().items():
            assert torch.equal(getattr(model, f"W_{name.upper()}")[layer], weight), name

    (model.W_V * noise(model.W_V)).sum().backward()
    expected = noise(model.W_V)[0].transpose(1, 2).flatten(0, 1)
    assert torch.equal(model.blocks[0].attn.qkv.weight.grad[2 * config.d_model :], expected)


@pytest.mark.parametrize("name", MLP_VIEWS)
def test_mlp_weights_of_an_attention_only_model_are_refused(name):
    with pytest.raises(BadInput, match=f"{name} is the MLPs', and this model is attention-only"):
        getattr(build(CASES["attention only"]), name)
