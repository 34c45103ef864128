"""Direct logit attribution: the parts sum to the logits, whatever the model, and each part is what it says."""

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


def traced(model, images):
    return trace(model, images, [*SITES, *(["blocks.*.mlp.post"] if model.config.d_mlp else [])])


def check_sums(model, images):
    seen, logits = traced(model, images), run_model(model, images)
    parts = attribute_components(model, seen)
    total = torch.stack(list(parts.values())).sum(0)
    assert torch.allclose(total.reshape(logits.shape), logits, atol=1e-5), (
        (total.reshape(logits.shape) - logits).abs().max()
    )
    patches = attribute_patches(model, seen).sum(2)
    heads = torch.stack([value for name, value in parts.items() if name.startswith("a")]).sum(0)
    assert torch.allclose(patches, heads, atol=1e-5)
    for layer in range(model.config.n_layers if model.config.d_mlp else 0):
        assert torch.allclose(
            attribute_neurons(model, seen, layer).sum(2), parts[f"m{layer}"], atol=1e-5
        )


@pytest.mark.parametrize("case", CASES)
def test_components_sum_to_the_logits(case):
    check_sums(build(CASES[case]), pictures(CASES[case], 3))


@settings(max_examples=40)
@given(configs())
def test_components_sum_to_the_logits_of_any_model(config):
    check_sums(build(config), pictures(config))


@pytest.mark.parametrize("readout", ["cls", "mean", "every"])
def test_a_head_s_part_is_what_its_removal_takes_off_where_no_norm_and_no_later_layer_intervenes(
    readout,
):
    config = replace(BASE, norm="none", d_mlp=0, readout=readout)
    model, images = build(config), pictures(config, 3)
    whole, parts = run_model(model, images), attribute_components(model, traced(model, images))

    def silenced(z):
        z = z.clone()
        z[:, :, 1] = 0
        return z

    without = run_model(model, images, editing({"blocks.1.attn.z": silenced}))
    assert torch.allclose(whole - without, parts["a1.h1"].reshape(whole.shape), atol=1e-5)
    assert not torch.allclose(whole - without, parts["a1.h0"].reshape(whole.shape), atol=1e-2)


def test_a_source_s_part_is_the_pattern_times_what_the_source_holds():
    """Truth: a head that attends to one token has its whole contribution there, and no other token has any."""
    config = replace(BASE, norm="rms")
    model, images = build(config), pictures(config, 3)
    chosen = 4

    def only(pattern):
        new = torch.zeros_like(pattern)
        new[..., chosen] = 1
        return new

    tap = editing({"blocks.1.attn.pattern": only})
    with torch.no_grad():
        _, cache = model.run_with_cache(images)
    seen = dict(cache)
    seen["blocks.1.attn.pattern"] = only(seen["blocks.1.attn.pattern"])
    parts = attribute_sources(model, seen, 1)
    others = [token for token in range(config.n_tokens) if token != chosen]
    assert parts[:, :, :, others].abs().max() == 0 and parts[:, :, :, chosen].abs().max() > 0.01
    assert not torch.equal(run_model(model, images, tap), run_model(model, images))
