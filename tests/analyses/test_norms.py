"""Plain sizes: what scaling does to them, and sizes planted in the residual stream."""

from __future__ import annotations

import pytest
import torch

from tests.analyses.planted import OPTIONS, model_for, traced
from toyvit.analyses import norms
from toyvit.analyses.analysis import Tagged, split_key


@pytest.mark.parametrize("options", OPTIONS)
def test_scaling_a_weight_scales_its_norm_alone(options):
    model, batch = model_for("induction 4x4", n=3, **OPTIONS[options])
    seen = traced(model, batch)
    before = norms.measure_norms(model, batch, seen)
    named = {name: weight for name, weight in model.named_parameters() if weight.numel()}
    assert {Tagged("weight", module=name) for name in named} == {
        key for key in before if split_key(key)[0] == "weight"
    }
    for name, weight in named.items():
        assert torch.allclose(
            before[Tagged("weight", module=name)], weight.detach().square().sum().sqrt()
        )
        saved = weight.detach().clone()
        with torch.no_grad():
            weight.mul_(3)
        after = norms.measure_norms(model, batch, seen)
        for key in before:
            if key == Tagged("weight", module=name):
                assert torch.allclose(after[key], 3 * before[key])
            elif key != "weight_total":
                assert torch.equal(after[key], before[key])
        with torch.no_grad():
            weight.copy_(saved)
    everything = torch.cat([weight.detach().flatten() for weight in named.values()])
    assert torch.allclose(before["weight_total"], everything.norm())


@pytest.mark.parametrize("options", OPTIONS)
def test_planted_sizes_of_the_residual_stream(options):
    model, batch = model_for("induction 4x4", n=3, **OPTIONS[options])
    seen, n, n_layers = traced(model, batch), model.config.n_prefix, model.config.n_layers
    sites = [
        *(f"blocks.{layer}.resid_pre" for layer in range(n_layers)),
        f"blocks.{n_layers - 1}.resid_post",
    ]
    for layer, site in enumerate(sites):
        seen[site] = torch.zeros_like(seen[site])
        seen[site][:, n:, 0] = 3.0 + layer
        seen[site][:, n:, 1] = -4.0 * (3 + layer) / 3
        seen[site][:, :n, 2] = 0.5
    found = norms.measure_norms(model, batch, seen)
    assert found[Tagged("residual", group="patches")] == pytest.approx(
        [(3 + layer) * 5 / 3 for layer in range(n_layers + 1)], rel=1e-6
    )
    assert (Tagged("residual", group="prefix") in found) == (n > 0)
    if n:
        assert found[Tagged("residual", group="prefix")] == pytest.approx([0.5] * (n_layers + 1))
