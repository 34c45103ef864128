"""Direct logit attribution: the parts sum to the logits, and each part is what it claims to be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings

from tests.laws.models import BASE, CASES, build, configs, pictures
from toyvit.instruments.attribution import (
    SITES,
    attribute_components,
    attribute_neurons,
    attribute_patches,
    attribute_sources,
)
from toyvit.model.forward import run_model, trace
from toyvit.model.taps import editing


def trace_parts(model, images):
    return trace(model, images, [*SITES, *(["blocks.*.mlp.post"] if model.config.d_mlp else [])])


def check_sums(model, images):
    cache = trace_parts(model, images)
    logits = run_model(model, images)
    parts = attribute_components(model, cache)
    total = torch.stack(list(parts.values())).sum(0).reshape(logits.shape)
    assert torch.allclose(total, logits, atol=1e-5), (total - logits).abs().max()

    patches = attribute_patches(model, cache).sum(2)
    heads = torch.stack([value for name, value in parts.items() if name.startswith("a")]).sum(0)
    assert torch.allclose(patches, heads, atol=1e-5)
    for layer in range(model.config.n_layers if model.config.d_mlp else 0):
        neurons = attribute_neurons(model, cache, layer).sum(2)
        assert torch.allclose(neurons, parts[f"m{layer}"], atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_components_sum_to_the_logits(case):
    check_sums(build(CASES[case]), pictures(CASES[case], 3))


@pytest.mark.slow
@settings(max_examples=25)
@given(configs())
def test_components_sum_to_the_logits_of_any_model(config):
    check_sums(build(config), pictures(config))


@pytest.mark.parametrize("readout", ["cls", "mean", "every"])
def test_a_head_s_part_is_what_its_removal_takes_off_where_no_norm_and_no_later_layer_intervenes(
    readout,
):
    config = replace(BASE, norm="none", d_mlp=0, readout=readout)
    model, images = build(config), pictures(config, 3)
    whole = run_model(model, images)
    parts = attribute_components(model, trace_parts(model, images))

    def silence(z):
        z = z.clone()
        z[:, :, 1] = 0
        return z

    without = run_model(model, images, editing({"blocks.1.attn.z": silence}))
    assert torch.allclose(whole - without, parts["a1.h1"].reshape(whole.shape), atol=1e-5)
    assert not torch.allclose(whole - without, parts["a1.h0"].reshape(whole.shape), atol=1e-2)


def test_a_source_s_part_is_the_pattern_times_what_the_source_holds():
    """Truth: a head that attends to one token has its whole contribution there."""
    config = replace(BASE, norm="rms")
    model, images = build(config), pictures(config, 3)
    source = 4

    def attend_to_source(pattern):
        new = torch.zeros_like(pattern)
        new[..., source] = 1
        return new

    tap = editing({"blocks.1.attn.pattern": attend_to_source})
    cache = trace(model, images)
    cache["blocks.1.attn.pattern"] = attend_to_source(cache["blocks.1.attn.pattern"])
    parts = attribute_sources(model, cache, 1)
    others = [token for token in range(config.n_tokens) if token != source]
    assert parts[:, :, :, others].abs().max() == 0
    assert parts[:, :, :, source].abs().max() > 0.01
    assert not torch.equal(run_model(model, images, tap), run_model(model, images))
