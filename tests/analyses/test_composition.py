"""Composition and copying of heads: rank one, orthogonal, random; and the norms folded in."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from tests.analyses.planted import model_for, traced
from toyvit.analyses import composition
from toyvit.instruments.weight_circuits import fold_head_weights
from toyvit.model.shapes import HeadWeights

D = 64


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def heads(width: int, n: int, seed: int) -> HeadWeights:
    q, k, v = draw(3, n, D, width, seed=seed)
    return HeadWeights(q, k, v, draw(n, width, D, seed=seed + 1))


def test_rank_one_heads_give_an_absolute_cosine():
    early, late = heads(1, 3, 0), heads(1, 4, 7)
    found = composition.score_composition(early, late)
    for kind, reading in zip("qkv", late[:3], strict=True):
        expected = cosine_similarity(early[3][:, None, 0], reading[None, :, :, 0], dim=-1).abs()
        assert torch.allclose(found[kind], expected, atol=1e-6), kind


@pytest.mark.parametrize("part", range(3))
def test_orthogonal_subspaces_do_not_compose(part):
    early = heads(8, 2, 0)
    late = heads(8, 2, 7)
    early.o[:, :, : D // 2] = 0
    late[part][:, D // 2 :] = 0
    found = composition.score_composition(early, late)
    assert found["qkv"[part]].abs().max() < 1e-6
    assert min(found[kind].min() for kind in "qkv" if kind != "qkv"[part]) > 0.05


@pytest.mark.parametrize(("width", "spread"), [(8, 0.0125), (16, 0.00695)])
def test_random_heads_compose_at_one_over_the_root_of_the_width(width, spread):
    mean, sd = composition.simulate_composition(D, width)
    assert 0.122 < mean < 0.128 and sd == pytest.approx(spread, rel=0.02)
    found = composition.score_composition(heads(width, 12, 3), heads(width, 12, 11))
    for kind in "qkv":
        assert found[kind].mean().item() == pytest.approx(mean, abs=0.004)


def test_the_score_lies_between_0_and_1_and_knows_no_scale():
    early, late = heads(8, 2, 0), heads(8, 2, 7)
    found = composition.score_composition(early, late)
    scaled = composition.score_composition(
        HeadWeights(*(3 * part for part in early)),
        HeadWeights(*(0.1 * part for part in late)),
    )
    for kind in "qkv":
        assert torch.allclose(found[kind], scaled[kind], atol=1e-6)
        assert found[kind].min() > 0 and found[kind].max() <= 1
    same = draw(1, D, 8, seed=5)
    basis = torch.linalg.qr(same[0]).Q[None]
    whole = HeadWeights(basis, basis, basis, basis.transpose(1, 2))
    assert composition.score_composition(whole, whole)["v"].item() == pytest.approx(
        8**-0.5, abs=1e-5
    )


@pytest.mark.parametrize("norm", ["layer", "rms", "none"])
def test_the_analysis_pairs_earlier_with_later_layers_only(norm):
    model, batch = model_for("induction", n=2, norm=norm, n_layers=3)
    found = composition.measure_composition(model, batch, traced(model, batch))
    mean, sd = composition.simulate_composition(16, 8)
    for kind in "qkv":
        score = found[f"{kind}_composition"]
        for early in range(3):
            for late in range(3):
                assert score[early, :, late].isnan().all() == (early >= late)
        layers = (fold_head_weights(model, layer) for layer in (0, 2))
        by_hand = composition.score_composition(*layers)[kind]
        assert torch.allclose(score[0, :, 2], by_hand)
        assert torch.allclose(found[f"{kind}_composition_z"][0, :, 2], (by_hand - mean) / sd)


@pytest.mark.parametrize("width", [1, 2, 64])
def test_the_mean_square_of_random_heads_is_one_over_the_width(width):
    """Exactly, whatever the heads' width: a random direction's share of any other."""
    mean, sd = composition.simulate_composition(D, width)
    assert mean**2 + sd**2 == pytest.approx(1 / D, rel=0.03) and sd > 0


@pytest.mark.slow
@pytest.mark.parametrize("width", [8, 16, 32])
def test_z_scores_of_random_heads_have_mean_0_and_spread_1(width):
    """2,500 separate pairs, drawn from another stream than the null's."""
    mean, sd = composition.simulate_composition(D, width)
    scores = []
    for seed in range(2500 // 5):
        early, late = heads(width, 5, 1000 + 4 * seed), heads(width, 5, 1002 + 4 * seed)
        scores.append(composition.score_composition(early, late)["q"].diagonal())
    z = (torch.cat(scores) - mean) / sd
    assert len(z) == 2500 and z.mean().abs() <= 0.06 and z.std() == pytest.approx(1, abs=0.03)

    copying = composition.score_copying(draw(2500, D, width, seed=5), draw(2500, width, D, seed=6))
    z = copying / composition.simulate_copying(D, width)
    assert z.mean().abs() <= 0.06 and z.std() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("theta", [0, 0.5, math.pi / 2, 2, math.pi])
@pytest.mark.parametrize("scale", [1.0, 1e-4, 100.0])
def test_copying_of_a_rotation_is_its_cosine(theta, scale):
    rotation = scale * torch.tensor(
        [[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]]
    )
    assert composition.score_copying(torch.eye(2)[None], rotation[None]).item() == pytest.approx(
        math.cos(theta), abs=1e-5
    )
    wide = torch.zeros(1, 5, 2)
    wide[0, :2] = torch.eye(2)
    assert composition.score_copying(
        wide, rotation[None] @ wide.transpose(1, 2)
    ).item() == pytest.approx(math.cos(theta), abs=1e-5)


def test_copying_of_the_identity_and_of_random_heads():
    eye = torch.eye(8)[None]
    assert composition.score_copying(eye, eye).item() == pytest.approx(
        1
    ) and composition.score_copying(eye, -eye).item() == pytest.approx(-1)
    generator = torch.Generator().manual_seed(0)
    for width, spread in ((8, 0.20), (16, 0.10), (32, 0.05)):
        w_v, w_o = (
            torch.randn(400, *shape, generator=generator) for shape in ((64, width), (width, 64))
        )
        scores = composition.score_copying(w_v, w_o)
        assert (
            scores.std().item() == pytest.approx(spread, rel=0.15)
            and scores.mean().abs() < 4 * spread / 20
        )
    model, batch = model_for("induction")
    assert (
        composition.measure_composition(model, batch, traced(model, batch))["copying"].abs().max()
        < 0.8
    )
