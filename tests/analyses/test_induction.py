"""Induction: prefix matching, strength and copying, on planted heads and on idle ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tests.analyses.planted import behind, model_for, one_hot, random, uniform
from toyvit.analyses import induction
from toyvit.analyses.chance import spread_evenly
from toyvit.data.task import Retrieval
from toyvit.model.options import allowed_keys

few = settings(max_examples=30)
prefixes = pytest.mark.parametrize("n_prefix", [0, 1, 3])
contents = st.lists(st.integers(0, 3), min_size=3, max_size=10)
RETRIEVAL = Retrieval(
    query=torch.tensor([8, 8]),
    target=torch.tensor([1, 5]),
    candidates=torch.tensor([[1, 3, 5, 7]] * 2),
)


def masks(n: int) -> dict[str, torch.Tensor]:
    return {
        "all": torch.ones(n, n, dtype=torch.bool),
        "causal": torch.ones(n, n, dtype=torch.bool).tril(),
    }


@few
@given(contents, st.integers(-3, 3), st.sampled_from(["all", "causal"]))
def test_targets_by_brute_force(content, offset, mask):
    """S_q = {p + delta : p != q, c_p = c_q, p + delta on the grid, allowed, and not q}."""
    n, allowed = len(content), masks(len(content))[mask]
    found = induction.find_prefix_targets(torch.tensor([content]), offset, allowed)[0]
    for query in range(n):
        places = {
            p + offset
            for p in range(n)
            if p != query and content[p] == content[query] and 0 <= p + offset < n
        }
        expected = {key for key in places if key != query and allowed[query, key]}
        assert set(found[query].nonzero().flatten().tolist()) == expected


@few
@given(
    contents,
    st.integers(-2, 2),
    st.sampled_from(["all", "causal"]),
    st.integers(0, 3),
    st.integers(0, 9),
)
def test_prefix_matching_of_planted_and_of_uniform_heads(content, offset, mask, n_prefix, seed):
    """Any split over the targets scores 1, uniform attention 0, whatever the content.

    NaN where there is no target.
    """
    n = len(content)
    targets = induction.find_prefix_targets(torch.tensor([content]), offset, masks(n)[mask])
    tokens = n + n_prefix
    n_allowed = torch.full((n,), tokens)
    flat, raw = induction.score_prefix_matching(uniform(tokens, n=1), targets, n_allowed)
    if not targets.any():
        assert flat.isnan().all() and raw.isnan().all()
        return
    split = random(n, n=1, heads=2, seed=seed, mask=targets[:, None].float() + 1e-12)
    pattern = behind(split, n_prefix)
    planted, on_target = induction.score_prefix_matching(pattern, targets, n_allowed)
    assert torch.allclose(planted, torch.ones(2), atol=1e-5) and torch.allclose(
        on_target, torch.ones(2), atol=1e-5
    )
    chance = targets.sum(-1)[targets.any(-1)].float().mean() / tokens
    assert flat.abs().max() < 1e-6 and torch.allclose(raw, chance.expand(3))
    away = behind(random(n, n=1, heads=2, mask=(~targets)[:, None].float() + 1e-12), n_prefix)
    missed = induction.score_prefix_matching(away, targets, n_allowed)
    if not targets.all(-1).any():
        assert missed[1].abs().max() < 1e-5 and torch.allclose(
            missed[0], -chance / (1 - chance), atol=1e-5
        )


def test_prefix_matching_counts_only_the_queries_asked_for():
    content = torch.tensor([[0, 5, 1, 6, 0]])
    targets = induction.find_prefix_targets(content, 1, masks(5)["all"])
    pattern = uniform(5, n=1).clone()
    pattern[:, :, 4] = torch.tensor([0.0, 1, 0, 0, 0])
    last = torch.tensor([[False] * 4 + [True]])
    assert (
        induction.score_prefix_matching(pattern, targets, torch.full((5,), 5), last)[0].min() == 1
    )
    assert (
        induction.score_prefix_matching(pattern, targets, torch.full((5,), 5), ~last)[0]
        .isnan()
        .all()
    )


def test_a_next_patch_head_owes_its_score_to_the_order_of_the_content():
    """In runs of the same content it scores high at delta 0.

    Against shuffled content it falls, and a uniform head stays.
    """
    content = torch.arange(8).repeat_interleave(3)[None]
    following = one_hot([*range(1, 24), 23], n=1)
    n_allowed = torch.full((24,), 24)
    in_order = induction.find_prefix_targets(content, 0, masks(24)["all"])
    assert induction.score_prefix_matching(following, in_order, n_allowed)[1].min() > 0.6
    raw, flat = [], []
    for seed in range(40):
        shuffled = content[:, torch.randperm(24, generator=torch.Generator().manual_seed(seed))]
        targets = induction.find_prefix_targets(shuffled, 0, masks(24)["all"])
        raw.append(induction.score_prefix_matching(following, targets, n_allowed)[0][0].item())
        flat.append(
            induction.score_prefix_matching(uniform(24, n=1), targets, n_allowed)[1][0].item()
        )
    assert abs(sum(raw) / 40) < 0.04 and flat == pytest.approx([2 / 24] * 40)
    assert (
        induction.score_prefix_matching(
            following, induction.find_prefix_targets(content, 1, masks(24)["all"]), n_allowed
        )[1].max()
        == 0
    )


@prefixes
def test_strength_and_mass(n_prefix):
    perfect = behind(uniform(9), n_prefix)
    perfect[:, :, n_prefix + 8] = 0
    spread, wrong = perfect.clone(), perfect.clone()
    for image in range(2):
        perfect[image, :, n_prefix + 8, n_prefix + RETRIEVAL.target[image]] = 1
        wrong[image, :, n_prefix + 8, n_prefix + 3] = 1
    spread[:, :, n_prefix + 8, n_prefix + RETRIEVAL.candidates[0]] = 0.25
    for pattern, strength, mass in (
        (perfect, 1, 1),
        (spread, 0, 0.25),
        (wrong, -1 / 3, 0),
        (uniform(9 + n_prefix), 0, 1 / (9 + n_prefix)),
    ):
        assert induction.induction_strength(pattern, RETRIEVAL, n_prefix) == pytest.approx(
            [strength] * 3, abs=1e-6
        )
        assert induction.induction_mass(pattern, RETRIEVAL, n_prefix) == pytest.approx(
            [mass] * 3, abs=1e-6
        )


@prefixes
def test_previous_cell(n_prefix):
    cells = torch.tensor([1, 3, 5])
    shift = behind(one_hot([0, 0, 2, 2, 4, 4, 6]), n_prefix)
    assert induction.previous_cell_mass(shift, cells, n_prefix).min() == 1
    assert induction.previous_cell_mass(shift, torch.arange(1, 7), n_prefix) == pytest.approx(
        [0.5] * 3
    )
    assert induction.previous_cell_mass(uniform(7 + n_prefix), cells, n_prefix) == pytest.approx(
        [1 / (7 + n_prefix)] * 3
    )


@pytest.mark.parametrize("mask", ["causal", "bidirectional"])
@pytest.mark.parametrize("options", [{"cls_token": False}, {"n_registers": 2}])
def test_the_analysis_finds_a_planted_circuit(mask, options):
    """Previous-cell heads in the first layer, induction heads in the second, behind a prefix."""
    model, batch = model_for("induction", n=8, mask=mask, **options)
    n, patches = model.config.n_prefix, model.config.n_patches
    first = behind(one_hot([0, *range(patches - 1)], n=8, heads=2), n)
    second = uniform(n + patches, n=8, heads=2).clone()
    second[:, :, n + patches - 1] = 0
    second[torch.arange(8), :, n + patches - 1, n + batch.retrieval.target] = 1
    found = induction.measure_induction(
        model, batch, {"blocks.0.attn.pattern": first, "blocks.1.attn.pattern": second}
    )
    for quantity in ("mass", "strength", "prefix_matching", "prefix_matching_raw"):
        assert torch.allclose(found[quantity][1], torch.ones(2), atol=1e-6), quantity
        assert found[quantity][0].max() < 0.6, quantity
    for quantity in ("previous_cell", "previous_cell_everywhere"):
        assert found[quantity][0].min() == 1 and found[quantity][1].max() < 0.1, quantity
    even = spread_evenly(model.config).expand(8, 2, -1, -1)
    null = induction.measure_induction(
        model, batch, {"blocks.0.attn.pattern": even, "blocks.1.attn.pattern": even}
    )
    assert null["strength"].abs().max() < 1e-6 and null["prefix_matching"].abs().max() < 1e-6
    n_allowed = allowed_keys(model.config)[-1].sum()  # to the query, which stands last
    assert torch.allclose(null["mass"], 1 / n_allowed)
