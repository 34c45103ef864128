"""Superposition: polygons, random directions, and models whose directions are planted."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor
from torch.nn.functional import one_hot

from tests.analyses.planted import model_for, traced
from toyvit.analyses import superposition, tokens
from toyvit.analyses.analysis import Tagged
from toyvit.stats import feature_dimensionality, random_dimensionality


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def polygon(n: int) -> Tensor:
    angles = 2 * math.pi * torch.arange(n, dtype=torch.float64) / n
    return torch.stack([angles.cos(), angles.sin()], 1)


@pytest.mark.parametrize(
    ("directions", "expected", "dimensions"),
    [
        (torch.tensor([[1.0], [-1.0]]).double(), 1 / 2, 1),
        (polygon(3), 2 / 3, 2),
        (polygon(4), 1 / 2, 2),
        (polygon(5), 2 / 5, 2),
        (torch.eye(6).double(), 1, 6),
        (torch.eye(4).double() - 1 / 4, 3 / 4, 3),  # a tetrahedron
    ],
)
def test_dimensionality_of_solids(directions, expected, dimensions):
    found = feature_dimensionality(directions)
    assert torch.allclose(found, torch.full_like(found, expected), atol=1e-12)
    assert found.sum().item() == pytest.approx(dimensions)
    apart = torch.block_diag(
        directions, draw(3, 7)
    )  # what lives in other dimensions does not matter
    assert torch.allclose(feature_dimensionality(apart)[: len(directions)], found, atol=1e-12)
    turned = directions @ torch.linalg.qr(draw(directions.shape[1], directions.shape[1])).Q
    assert torch.allclose(feature_dimensionality(turned), found, atol=1e-12)
    assert torch.allclose(
        feature_dimensionality(7 * torch.stack([directions, turned])),
        found.expand(2, -1),
        atol=1e-12,
    )


@given(st.integers(2, 200), st.integers(2, 64), st.integers(0, 1000))
def test_random_directions_have_what_is_expected_of_them(n, d, seed):
    directions = draw(n, d, seed=seed)
    found = feature_dimensionality(directions / directions.norm(dim=1, keepdim=True)).mean().item()
    assert found == pytest.approx(random_dimensionality(n, d), rel=0.5 if n * d < 200 else 0.2)


def test_a_direction_of_length_0_has_no_dimension_and_takes_none():
    found = feature_dimensionality(torch.cat([polygon(3), torch.zeros(1, 2).double()]))
    assert found.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 0])


def test_labels_read_the_head():
    """Rows planted as a pentagon, and a shift common to all rows, which softmax does not see."""
    model, batch = model_for("classify")
    n, d = model.head.weight.shape
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.weight[:, :2] = polygon(n).float()
        model.head.weight += 3 * draw(d).float()
    found = superposition.measure_label_superposition(model, batch, {})
    assert torch.allclose(found["dimensionality"], torch.full((n,), 2 / n), atol=1e-5)
    a, c = 1 - 1 / n, -1 / n  # variance of a centred row's coordinate, covariance of two rows'
    own = (d * d + 2 * d) * a**2
    others = (n - 1) * (d * d * c**2 + d * (a**2 + c**2))
    assert found["dimensionality_random"].item() == pytest.approx(own / (own + others), rel=0.06)
    with torch.no_grad():
        model.head.weight.copy_(draw(n, d, seed=1))
    means = []
    for seed in range(20):
        with torch.no_grad():
            model.head.weight.copy_(draw(n, d, seed=seed))
        null = superposition.measure_label_superposition(model, batch, {})
        means.append(null["dimensionality"].mean().item())
    expected = null["dimensionality_random"].item()
    assert sum(means) / len(means) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("options", [{"cls_token": False}, {"n_registers": 2}, {}])
def test_factors_in_coordinates_of_their_own_do_not_share(options):
    model, batch = model_for("classify", n=400, **options)
    seen, values = traced(model, batch), batch.factors["class"]
    generator = torch.Generator().manual_seed(3)
    other = torch.randint(2, values.shape, generator=generator)
    batch = type(batch)(
        images=batch.images, target=batch.target, factors={"one": values % 4, "other": other}
    )
    sites = ["blocks.0.resid_pre", "blocks.1.resid_pre", "blocks.1.resid_post"]
    apart, shared, noise = (dict(seen) for _ in range(3))
    codes = one_hot(values % 4, 4), one_hot(other, 2)
    for place, site in enumerate(sites):
        shape = seen[site].shape
        apart[site] = torch.zeros(shape)
        apart[site][..., :4], apart[site][..., 4:6] = codes[0][:, None], codes[1][:, None]
        shared[site] = torch.zeros(shape)
        shared[site][..., 0] = (values % 4 + 0.9 * other)[:, None]  # one coordinate for all
        noise[site] = draw(*shape, seed=place).float()
    for group in tokens.average_groups(seen[sites[0]], model.config):
        found = superposition.measure_factor_superposition(model, batch, apart)
        assert torch.allclose(
            found[Tagged("dimensionality", factor="one", group=group)],
            torch.full((3,), 3 / 4),
            atol=0.03,
        )
        assert torch.allclose(
            found[Tagged("dimensionality", factor="other", group=group)],
            torch.full((3,), 1 / 2),
            atol=0.02,
        )
        crowd = superposition.measure_factor_superposition(model, batch, shared)
        assert torch.allclose(
            crowd[Tagged("dimensionality", factor="one", group=group)],
            torch.full((3,), 1 / 6),
            atol=1e-3,
        )
        null = superposition.measure_factor_superposition(model, batch, noise)
        for name in ("one", "other"):
            assert null[Tagged("dimensionality", factor=name, group=group)].max() < 0.75
            random = null[Tagged("dimensionality_random", factor=name)].item()
            shares = null[Tagged("dimensionality", factor=name, group=group)]
            assert shares.mean().item() == pytest.approx(random, rel=0.15)


def test_random_directions_of_factors_have_the_stated_dimensionality():
    """Centred within a factor, of one length, by hand; without centring they would have more."""
    sizes, d = (4, 2, 1), 16
    stated = superposition.draw_dimensionality(sizes, d)
    means = torch.zeros(300, 3).double()
    for seed in range(300):
        parts = [draw(size, d, seed=10 * seed + size) for size in sizes]
        parts = [part - part.mean(0) for part in parts]
        directions = torch.cat([part / part.norm(dim=1, keepdim=True) for part in parts[:2]])
        shares = feature_dimensionality(torch.cat([directions, parts[2]]))
        means[seed] = torch.stack([part.mean() for part in shares.split(sizes)])
    assert means.mean(0).tolist() == pytest.approx(stated, rel=0.03)
    assert stated[1] < 0.5 < random_dimensionality(sum(sizes), d)


def test_a_factor_of_one_value_has_no_direction():
    x, values = draw(50, 6), torch.zeros(50, dtype=torch.int64)
    found = superposition.fit_probe_directions(
        x, {"constant": values, "other": torch.arange(50) % 2}
    )
    assert found["constant"].abs().max() == 0
    assert torch.allclose(found["other"].norm(dim=1), torch.ones(2).double())
