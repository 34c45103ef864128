"""The spectrum of a Hessian by Lanczos, on losses whose Hessian is known and on a model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.analyses.planted import model_for
from toyvit.analyses.curvature import sample_spectrum
from toyvit.analyses.llc import build_loss
from toyvit.analyses.sampling import LlcConfig, sample_chains

CURVATURES = torch.tensor([0.0, 0.0, 0.1, 1.0, 1.0, 10.0], dtype=torch.double)


def valley(weights, rows):
    return (CURVATURES * weights["w"].square()).sum() / 2


def zeros(n):
    return {"w": torch.zeros(n, dtype=torch.double)}


def count_stiff(curvatures, n_beta, gamma):
    stiff = n_beta * curvatures
    return (stiff / (stiff + gamma)).sum().item() / 2


@pytest.mark.parametrize("gamma", [1.0, 50.0, 1e4])
def test_the_regular_value_of_a_quadratic(gamma):
    """Exact: signs along the axes have the same weight in each direction."""
    spectrum = sample_spectrum(valley, zeros(6))
    assert spectrum.top == pytest.approx(10) and spectrum.size == 6
    assert spectrum.regular(1000, gamma) == pytest.approx(count_stiff(CURVATURES, 1000, gamma))
    assert spectrum.downhill(1000, gamma) == 0 and spectrum.slope == 0


def test_a_rotated_quadratic_within_the_error_of_its_probes():
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(300, 300, generator=generator).double()).Q
    values = torch.arange(1, 301).double() ** -1.0
    matrix = rotation * values @ rotation.T
    spectrum = sample_spectrum(lambda w, rows: w["w"] @ matrix @ w["w"] / 2, zeros(300), probes=4)
    assert spectrum.top == pytest.approx(1, rel=1e-3)
    exact = count_stiff(values, 1000, 30)
    assert spectrum.regular(1000, 30) == pytest.approx(exact, rel=0.12)


def test_a_normal_crossing_has_no_regular_value_and_directions_downward_do_not_count():
    crossing = sample_spectrum(lambda w, rows: (w["w"][0] * w["w"][1]).square(), zeros(2))
    assert crossing.regular(1000, 10) == 0 and crossing.top == 0
    saddle = sample_spectrum(lambda w, rows: w["w"][0].square() - w["w"][1].square(), zeros(2))
    assert saddle.regular(1000, 10) == pytest.approx(2000 / 2010 / 2)


@pytest.mark.slow
def test_a_slope_is_told_and_the_sampler_sees_it():
    """A chain slides down to where the spring holds it: below 0 where that outweighs the noise."""
    weights = {"w": torch.full((6,), 0.2, dtype=torch.double)}
    spectrum = sample_spectrum(valley, weights)
    gradient = 0.2 * CURVATURES
    stiff = 100 * CURVATURES
    exact = (100**2 * gradient**2 * (50 + stiff / 2) / (stiff + 50) ** 2).sum().item()
    assert spectrum.downhill(100, 50) == pytest.approx(-exact)
    settings = LlcConfig(
        step_size=2e-4, n_beta=100.0, localisation=50.0, draws=800, burn_in=400, chains=100
    )
    estimate = sample_chains(valley, weights, 1, settings)
    whole = spectrum.regular(100, 50) + spectrum.downhill(100, 50)
    assert estimate.chains.mean().item() == pytest.approx(whole, rel=0.1) and whole < -1


def test_flat_losses():
    constant = sample_spectrum(lambda w, rows: 0 * w["w"].sum() + 2, zeros(3))
    assert constant.regular(1000, 1) == 0 and constant.downhill(1000, 1) == 0
    linear = sample_spectrum(lambda w, rows: 0.5 * w["w"].sum(), zeros(3))
    assert linear.regular(10, 4) == 0
    assert linear.downhill(10, 4) == pytest.approx(-(10**2) * 0.75 / 4)


def test_the_spectrum_of_a_model_is_that_of_its_loss():
    """Against the whole matrix of one module's weights, the others held."""
    model, batch = model_for("markov", n=5)
    every = {name: weight.detach().double() for name, weight in model.named_parameters()}
    part = {"head.weight": every.pop("head.weight")}
    loss = build_loss(model.double(), type(batch)(batch.images.double(), batch.target))

    def alone(weights, rows):
        return loss(every | weights, rows)

    matrix = torch.autograd.functional.hessian(
        lambda at: alone({"head.weight": at}, None), part["head.weight"]
    )
    size = part["head.weight"].numel()
    values = torch.as_tensor(np.linalg.eigvalsh(matrix.reshape(size, size).numpy()))
    spectrum = sample_spectrum(alone, part, probes=8, iterations=60)
    assert spectrum.top == pytest.approx(values.max().item(), rel=1e-2)
    gamma = 10 * values.max().item()
    exact = count_stiff(values.clamp(min=0), 1000, gamma)
    assert spectrum.regular(1000, gamma) == pytest.approx(exact, rel=0.1)
