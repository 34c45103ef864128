"""Ranks, power laws and CKA of planted representations, and what white noise reads."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from tests.analyses.planted import OPTIONS, model_for, traced
from toyvit import stats
from toyvit.analyses import geometry
from toyvit.analyses.analysis import Tagged


def normal(*size, seed=0):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def rotation(n, seed=0):
    return torch.linalg.qr(normal(n, n, seed=seed)).Q


def with_variances(variances, n=400, seed=0):
    """Samples whose covariance has these eigenvalues, in directions of no axis, around a mean."""
    d = len(variances)
    x = normal(n, d, seed=seed)
    white = torch.linalg.qr(x - x.mean(0)).Q * math.sqrt(n - 1)
    return white * torch.as_tensor(variances, dtype=torch.double).sqrt() @ rotation(d, seed) + 5


@settings(max_examples=20)
@given(rank=st.integers(1, 12), scale=st.floats(1e-2, 1e2), seed=st.integers(0, 9))
def test_planted_ranks(rank, scale, seed):
    """n equal directions among 12 are n, whatever their scale, rotation and mean."""
    found = geometry.describe_shape(with_variances([scale] * rank + [0.0] * (12 - rank), seed=seed))
    assert found["effective_rank"] == pytest.approx(rank, rel=1e-3)
    assert found["participation_ratio"] == pytest.approx(rank, rel=1e-6)
    assert found["alpha_last"] == rank and found["samples_per_feature"] == pytest.approx(400 / 12)
    if rank > 1:
        assert found["alpha"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.5])
def test_exact_power_laws(alpha):
    variances = torch.arange(1, 65, dtype=torch.double) ** -alpha
    assert stats.power_law(variances, 1, 64) == pytest.approx(alpha)
    assert stats.power_law(7 * variances, 5, 40) == pytest.approx(alpha)
    assert geometry.describe_shape(with_variances(variances))["alpha"] == pytest.approx(
        alpha, rel=1e-6
    )


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.5])
def test_alpha_req_is_fitted_as_in_its_source(alpha):
    """Truth: an exact power law from j = 11 to 50, whatever lies before and after.

    Where it is none: the weighted regression by hand, on the logarithms, weights 1 / j.
    """
    variances = torch.arange(1, 65, dtype=torch.double) ** -alpha
    variances[:10] = 9.0
    variances[50:] *= 0.1
    shape = geometry.describe_shape(with_variances(variances))
    assert shape["alpha_req"] == pytest.approx(alpha, rel=1e-6)
    assert shape["alpha"] != pytest.approx(alpha, rel=0.1), "the fit over all j is another"

    uneven = normal(64, seed=4).abs().sort(descending=True).values
    ranks = np.arange(11, 51)
    slope, _ = np.polyfit(np.log(ranks), uneven[10:50].log().numpy(), 1, w=ranks**-0.5)
    assert geometry.alpha_req(uneven) == pytest.approx(-slope)


@pytest.mark.parametrize("rank", [49, 50])
def test_alpha_req_is_nan_below_a_rank_of_50(rank):
    variances = torch.arange(1, 65, dtype=torch.double) ** -1.0
    variances[rank:] = 0
    value = geometry.describe_shape(with_variances(variances))["alpha_req"]
    assert value.isnan() if rank < 50 else value == pytest.approx(1, rel=1e-5)
    assert geometry.describe_shape(normal(500, 49))["alpha_req"].isnan()


@pytest.mark.parametrize(("n", "reads"), [(1000, 0.26), (10_000, 0.08)])
def test_white_noise_does_not_read_zero(n, reads):
    found = geometry.describe_shape(normal(n, 64))
    assert found["alpha"] == pytest.approx(reads, abs=0.02) and found["alpha_last"] == 64
    assert 58 < found["participation_ratio"] < found["effective_rank"] < 64


def test_effective_rank_is_of_singular_values():
    """Two directions of sd 3 and 1: shares 3/4 and 1/4."""
    expected = math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))
    assert stats.effective_rank(torch.tensor([9.0, 1.0]).double()) == pytest.approx(expected)
    assert stats.participation_ratio(torch.tensor([9.0, 1.0]).double()) == pytest.approx(100 / 82)


def song(x, y):
    """HSIC_1 as Song 2012 writes it, and the CKA of it."""
    g, h = ((z @ z.T).fill_diagonal_(0) for z in (x, y))
    n, one = len(x), torch.ones(len(x), dtype=torch.double)

    def hsic(a, b):
        trace = (
            (a @ b).trace()
            + (one @ a @ one) * (one @ b @ one) / ((n - 1) * (n - 2))
            - 2 / (n - 2) * (one @ a @ b @ one)
        )
        return trace / (n * (n - 3))

    return hsic(g, h) / (hsic(g, g) * hsic(h, h)).sqrt()


def unbiased(x, y):
    return stats.cka(torch.stack([stats.centre_gram(x), stats.centre_gram(y)]))[0, 1].item()


def biased(x, y):
    x, y = x - x.mean(0), y - y.mean(0)
    return ((x.T @ y).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm())).item()


@settings(max_examples=20)
@given(n=st.integers(4, 30), d=st.integers(1, 9), seed=st.integers(0, 99), scale=st.floats(0.1, 10))
def test_cka_is_the_published_form_and_does_not_see_rotations(n, d, seed, scale):
    x, y = normal(n, d, seed=seed) + 3, normal(n, 4, seed=seed + 1)
    gram = stats.centre_gram(x)
    assert torch.allclose(gram.sum(0), torch.zeros(n).double(), atol=1e-8 * n * gram.abs().max())
    if n > 4:  # of four samples the centred matrices have two degrees of freedom, and may be 0
        assert unbiased(x, y) == pytest.approx(song(x, y).item(), abs=1e-6)
        assert unbiased(x, scale * x @ rotation(d) - 7) == pytest.approx(1)
        assert unbiased(x, y) == pytest.approx(unbiased(y @ rotation(4), scale * x), abs=1e-9)


@pytest.mark.parametrize(("n", "sd"), [(16, 0.10), (64, 0.02)])
def test_cka_of_independent_noise_is_zero(n, sd):
    """As many features as samples: the biased form reads 0.5."""
    pairs = [(normal(n, n, seed=2 * seed), normal(n, n, seed=2 * seed + 1)) for seed in range(60)]
    values = torch.tensor([unbiased(x, y) for x, y in pairs])
    assert values.mean().abs() < 4 * sd / math.sqrt(60) and values.std() == pytest.approx(
        sd, rel=0.35
    )
    assert torch.tensor([biased(x, y) for x, y in pairs]).mean() == pytest.approx(0.5, abs=0.03)


def test_the_biased_form_with_many_samples():
    x, y = normal(1024, 64), normal(1024, 64, seed=1)
    assert biased(x, y) == pytest.approx(0.06, abs=0.01) and abs(unbiased(x, y)) < 0.01


def test_what_does_not_vary_has_no_cka():
    grams = torch.stack([stats.centre_gram(x) for x in (normal(9, 3), torch.zeros(9, 3))])
    found = stats.cka(grams)
    assert found[0, 0] == pytest.approx(1) and found[0, 1].isnan() and found[1].isnan().all()


@pytest.mark.parametrize("options", OPTIONS)
def test_representations_planted_in_the_stream(options):
    """Layer l has l + 1 directions in its patches.

    The first two layers' images are alike up to rotation, the last is noise.
    """
    model, batch = model_for("induction 4x4", n=40, **OPTIONS[options])
    seen, config = traced(model, batch), model.config
    sites = [
        *(f"blocks.{layer}.resid_pre" for layer in range(config.n_layers)),
        f"blocks.{config.n_layers - 1}.resid_post",
    ]
    n, prefix, width = seen[sites[0]].shape[0], config.n_prefix, config.d_model
    patches = config.n_tokens - prefix
    for layer, site in enumerate(sites):
        values = [1.0] * (layer + 1) + [0.0] * (width - layer - 1)
        planted = (
            with_variances(values, n=n * patches, seed=layer).float().unflatten(0, (n, patches))
        )
        seen[site] = torch.cat([torch.full((n, prefix, width), 2.0), planted], 1)
    found = geometry.measure_geometry(model, batch, seen)
    assert found[Tagged("effective_rank", group="patches")] == pytest.approx(
        [layer + 1 for layer in range(len(sites))], rel=1e-2
    )
    matrix = found[Tagged("cka", group="patches")]
    assert matrix.diagonal() == pytest.approx([1] * len(sites))
    assert matrix.fill_diagonal_(0).abs().max() < 0.25
    assert (Tagged("cka", group="cls") in found) == config.cls_token
    if config.cls_token:
        assert (
            found[Tagged("effective_rank", group="cls")].isnan().all()
            and found[Tagged("cka", group="cls")].isnan().all()
        )
        assert (found[Tagged("alpha_last", group="cls")] == 0).all() and found[
            Tagged("alpha", group="cls")
        ].isnan().all()


def test_turned_layers_are_alike():
    model, batch = model_for("induction 4x4", n=30, **OPTIONS["CLS and registers"])
    seen = traced(model, batch)
    turned = (seen["blocks.0.resid_pre"].double() @ rotation(model.config.d_model) * 3 + 1).float()
    found = geometry.measure_geometry(model, batch, seen | {"blocks.1.resid_pre": turned})
    assert found[Tagged("cka", group="patches")][0, 1] == pytest.approx(1, abs=1e-4)
    assert found[Tagged("cka", group="patches")][0, 2] < 0.999
