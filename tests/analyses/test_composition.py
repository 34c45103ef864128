"""Composition of heads: rank one, orthogonal, random, and the gain that the later norm applies."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from tests.analyses.planted import model_for, traced
from toyvit.analyses import induction
from toyvit.model.vit import HeadWeights

D = 64


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def heads(width: int, n: int, seed: int) -> HeadWeights:
    q, k, v = draw(3, n, D, width, seed=seed)
    return HeadWeights(q, k, v, draw(n, width, D, seed=seed + 1))


def test_rank_one_heads_give_an_absolute_cosine():
    early, late = heads(1, 3, 0), heads(1, 4, 7)
    found = induction.score_composition(early, late, None)
    for kind, reading in zip("qkv", late[:3], strict=True):
        expected = cosine_similarity(early[3][:, None, 0], reading[None, :, :, 0], dim=-1).abs()
        assert torch.allclose(found[kind], expected, atol=1e-6), kind


@pytest.mark.parametrize("part", range(3))
def test_orthogonal_subspaces_do_not_compose(part):
    early = heads(8, 2, 0)
    late = heads(8, 2, 7)
    early.o[:, :, : D // 2] = 0
    late[part][:, D // 2 :] = 0
    found = induction.score_composition(early, late, None)
    assert found["qkv"[part]].abs().max() < 1e-6
    assert min(found[kind].min() for kind in "qkv" if kind != "qkv"[part]) > 0.05


@pytest.mark.parametrize(("width", "spread"), [(8, 0.0125), (16, 0.007)])
def test_random_heads_compose_at_one_over_the_root_of_the_width(width, spread):
    mean, sd = induction.simulate_composition(D, width)
    assert 0.122 < mean < 0.128 and sd == pytest.approx(spread, rel=0.2)
    found = induction.score_composition(heads(width, 12, 3), heads(width, 12, 11), None)
    for kind in "qkv":
        assert found[kind].mean().item() == pytest.approx(mean, abs=0.004)


def test_the_score_lies_between_0_and_1_and_knows_no_scale():
    early, late = heads(8, 2, 0), heads(8, 2, 7)
    found = induction.score_composition(early, late, None)
    scaled = induction.score_composition(
        HeadWeights(*(3 * part for part in early)),
        HeadWeights(*(0.1 * part for part in late)),
        None,
    )
    for kind in "qkv":
        assert torch.allclose(found[kind], scaled[kind], atol=1e-6)
        assert found[kind].min() > 0 and found[kind].max() <= 1
    same = draw(1, D, 8, seed=5)
    basis = torch.linalg.qr(same[0]).Q[None]
    whole = HeadWeights(basis, basis, basis, basis.transpose(1, 2))
    assert induction.score_composition(whole, whole, None)["v"].item() == pytest.approx(
        8**-0.5, abs=1e-5
    )


def test_the_gain_is_folded_into_what_the_later_head_reads():
    early, late, gain = heads(8, 2, 0), heads(8, 3, 7), draw(D, seed=9)
    folded = HeadWeights(*(gain[:, None] * part for part in late[:3]), late.o)
    with_gain = induction.score_composition(early, late, gain)
    by_hand = induction.score_composition(early, folded, None)
    assert all(torch.allclose(with_gain[kind], by_hand[kind], atol=1e-6) for kind in "qkv")
    assert torch.allclose(
        induction.score_composition(early, late, torch.ones(D))["q"],
        induction.score_composition(early, late, None)["q"],
    )


@pytest.mark.parametrize("norm", ["layer", "rms", "none"])
def test_the_analysis_pairs_earlier_with_later_layers_only(norm):
    model, batch = model_for("induction", n=2, norm=norm, n_layers=3)
    found = induction.measure_composition(model, batch, traced(model, batch))
    mean, sd = induction.simulate_composition(16, 8)
    for kind in "qkv":
        score = found[f"{kind}_composition"]
        for early in range(3):
            for late in range(3):
                assert score[early, :, late].isnan().all() == (early >= late)
        gain = model.blocks[2].ln1.gain if norm != "none" else None
        by_hand = induction.score_composition(
            model.blocks[0].attn.head_weights(), model.blocks[2].attn.head_weights(), gain
        )[kind]
        assert torch.allclose(score[0, :, 2], by_hand)
        assert torch.allclose(found[f"{kind}_composition_z"][0, :, 2], (by_hand - mean) / sd)
