"""Gradient noise and curvature of losses whose gradients and Hessians are known, and of models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from tests.analyses.planted import OPTIONS, model_for
from tests.laws.models import mark_slow
from toyvit.analyses import landscape
from toyvit.analyses.llc import build_loss


def normal(*size, seed=0):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def linear(slopes):
    """A loss whose gradient on sample i is slopes[i]."""
    return lambda weights, rows: (slopes if rows is None else slopes[rows]).mean(0) @ weights["w"]


@pytest.mark.parametrize("size", mark_slow([1, 4, 16], [4]))
def test_planted_gradient_noise(size):
    """Gradients of mean (1, 0, ...) and variances 1 to 9: a scale of 30 samples in any parts."""
    slopes = normal(40_000, 6) * torch.tensor([1.0, 4, 1, 9, 9, 6]).double().sqrt()
    slopes[:, 0] += 1
    found = landscape.estimate_noise_scale(
        landscape.compute_gradients(linear(slopes), {"w": torch.zeros(6).double()}, 40_000, size),
        size,
    )
    assert found["noise"] == pytest.approx(30, rel=0.03)
    assert found["signal"] == pytest.approx(1, abs=0.06) and found["scale"] == pytest.approx(
        30, rel=0.08
    )


@settings(max_examples=20)
@given(n=st.integers(2, 30), size=st.integers(1, 5), seed=st.integers(0, 99))
def test_two_batch_sizes_say_what_the_sample_variance_says(n, size, seed):
    parts = normal(n, 3, seed=seed)
    found = landscape.estimate_noise_scale(parts, size)
    assert found["noise"] == pytest.approx(size * parts.var(0).sum().item())
    assert found["signal"] == pytest.approx(
        (parts.mean(0).square().sum() - parts.var(0).sum() / n).item(), abs=1e-9
    )


def test_samples_that_agree_have_no_noise_and_noise_alone_has_no_scale():
    alike = landscape.estimate_noise_scale(torch.ones(10, 3).double(), 2)
    assert alike["noise"] == 0 and alike["signal"] == pytest.approx(3) and alike["scale"] == 0
    opposed = landscape.estimate_noise_scale(torch.tensor([[1.0, 0], [-1, 0]]).double(), 1)
    assert (
        opposed["noise"] == pytest.approx(2) and opposed["signal"] < 0 and opposed["scale"].isnan()
    )


def draw_parts(seed, signal, parts=64, size=8):
    """Mean gradients of parts whose samples have a variance of 30 and this squared mean."""
    gradients = normal(parts, 6, seed=seed) * (30 / 6 / size) ** 0.5
    gradients[:, 0] += signal**0.5
    return gradients


def test_errors_are_those_of_repeated_estimates():
    """The spread of the estimate over 400 draws, against the mean of the stated errors."""
    drawn = [draw_parts(seed, signal=1.0) for seed in range(400)]
    estimates = [landscape.estimate_noise_scale(parts, 8) for parts in drawn]
    errors = [landscape.estimate_noise_errors(parts, 8) for parts in drawn]
    for name in ("noise", "signal", "scale"):
        spread = torch.stack([estimate[name] for estimate in estimates]).std()
        stated = torch.stack([error[f"{name}_se"] for error in errors]).square().mean().sqrt()
        assert stated == pytest.approx(spread.item(), rel=0.15), name
    assert torch.stack([error["valid"] for error in errors]).mean() > 0.95


def test_noise_alone_is_not_valid():
    """Gradients without a mean: told from one in 1 of 20 at most."""
    flags = [
        landscape.estimate_noise_errors(draw_parts(seed, 0.0), 8)["valid"] for seed in range(400)
    ]
    assert torch.stack(flags).mean() <= 0.05


@pytest.mark.parametrize("parts", [2, 3, 5])
def test_the_jackknife_leaves_out_one_part_after_another(parts):
    gradients = normal(parts, 4, seed=3) + 2
    errors = landscape.estimate_noise_errors(gradients, 2)
    if parts < 3:
        assert errors["noise_se"].isnan() and errors["valid"] == 0
        return
    for name in ("noise", "signal", "scale"):
        values = torch.stack(
            [
                landscape.estimate_noise_scale(gradients[torch.arange(parts) != left], 2)[name]
                for left in range(parts)
            ]
        )
        expected = ((parts - 1) * values.var(correction=0)).sqrt().item()
        assert errors[f"{name}_se"] == pytest.approx(expected), name


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", ["induction 4x4", "regress"])
def test_gradients_of_parts_are_those_of_the_model(name, options):
    model, batch = model_for(name, n=7, **OPTIONS[options])
    weights, loss = landscape.detach_parameters(model), build_loss(model, batch)
    found = landscape.compute_gradients(loss, weights, 7, 3)
    assert found.shape == (2, sum(weight.numel() for weight in weights.values()))
    loss(dict(model.named_parameters()), torch.arange(3, 6)).backward()
    slopes = [
        torch.zeros_like(weight) if weight.grad is None else weight.grad
        for weight in model.parameters()
    ]
    expected = torch.cat([slope.flatten() for slope in slopes])
    assert torch.allclose(found[1], expected, rtol=1e-3, atol=1e-5)


@settings(max_examples=15)
@given(n=st.integers(3, 40), seed=st.integers(0, 99), top=st.floats(-5, 20))
def test_top_eigenvalue_of_a_quadratic(n, seed, top):
    """Known eigenvalues in random directions, the largest in absolute value at the wrong end."""
    rotation = torch.linalg.qr(normal(n, n, seed=seed + 1000)).Q
    values = torch.cat(
        [
            torch.tensor([top]),
            top - 0.5 - 30 * torch.rand(n - 1, generator=torch.Generator().manual_seed(seed)),
        ]
    )
    matrix = rotation * values.double() @ rotation.T
    found = landscape.find_top_eigenvalue(
        lambda w, rows: w["w"] @ matrix @ w["w"] / 2, {"w": normal(n, seed=seed + 1)}, seed
    )
    assert found == pytest.approx(top, rel=1e-2, abs=1e-2)


def test_a_flat_loss_does_not_curve():
    assert landscape.find_top_eigenvalue(linear(normal(4, 3)), {"w": normal(3)}) == 0


@pytest.mark.parametrize("options", mark_slow(OPTIONS, ["one layer"]))
def test_the_hessian_of_a_model_is_that_of_its_loss(options):
    """Against the whole matrix of one module's weights, the others held."""
    model, batch = model_for("markov", n=5, **OPTIONS[options])
    every, loss = landscape.detach_parameters(model), build_loss(model, batch)
    part = {"head.weight": every["head.weight"].double()}
    rest = {name: weight.double() for name, weight in every.items() if name not in part}
    images = batch.images
    batch = type(batch)(images.double(), batch.target)
    loss = build_loss(model.double(), batch)

    def alone(weights, rows):
        return loss(rest | weights, rows)

    matrix = torch.autograd.functional.hessian(
        lambda at: alone({"head.weight": at}, None), part["head.weight"]
    )
    size = part["head.weight"].numel()
    expected = np.linalg.eigvalsh(matrix.reshape(size, size).numpy())[-1]
    assert landscape.find_top_eigenvalue(alone, part) == pytest.approx(expected, rel=2e-3)
    assert landscape.measure_hessian(model, batch, {})["top"] >= expected * (1 - 2e-3), (
        "a part curves no more than the whole"
    )
