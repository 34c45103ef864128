"""Attention geometry: truths and nulls on planted patterns, laws on random ones."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tests.analyses.planted import behind, model_for, one_hot, random, traced, uniform
from toyvit.analyses import attention
from toyvit.model.options import allowed_keys

few = settings(max_examples=25)
grids = st.tuples(st.integers(1, 5), st.integers(1, 5))
prefixes = pytest.mark.parametrize("n_prefix", [0, 1, 3])


@pytest.mark.parametrize("tokens", [2, 17, 25])
def test_entropy_between_one_hot_and_uniform(tokens):
    assert attention.entropy(one_hot(list(range(tokens)))).abs().max() == 0
    assert torch.allclose(attention.entropy(uniform(tokens)), torch.tensor(math.log(tokens)))
    found = attention.entropy(random(tokens, heads=8))
    assert found.min() > 0 and found.max() < math.log(tokens)
    mask = torch.ones(tokens, tokens).tril()
    causal = attention.entropy(mask.div(mask.sum(-1, keepdim=True)).expand(1, 1, -1, -1))
    assert causal.item() == pytest.approx(
        sum(math.log(n) for n in range(1, tokens + 1)) / tokens, rel=1e-5
    )


@prefixes
@pytest.mark.parametrize(("side", "far"), [(4, 2.008), (7, 3.610), (8, 4.137)])
def test_distance_of_uniform_and_of_self_attention(side, far, n_prefix):
    assert attention.distance(uniform(side**2 + n_prefix), (side, side), n_prefix)[
        0
    ].item() == pytest.approx(far, abs=1e-3)
    itself = behind(one_hot(list(range(side**2))), n_prefix)
    assert attention.distance(itself, (side, side), n_prefix).abs().max() == 0


@pytest.mark.slow
@few
@given(grids, st.integers(0, 3), st.integers(0, 99))
def test_distance_is_the_same_on_a_reflected_grid(grid, n_prefix, seed):
    rows, columns = grid
    pattern = random(rows * columns + n_prefix, seed=seed)
    index = torch.arange(rows * columns).reshape(grid)
    expected = attention.distance(pattern, grid, n_prefix)
    for turned in (index.flip(0), index.flip(1), index.flip(0, 1)):
        order = torch.cat([torch.arange(n_prefix), n_prefix + turned.flatten()])
        assert torch.allclose(
            attention.distance(pattern[:, :, order][:, :, :, order], grid, n_prefix),
            expected,
            atol=1e-5,
        )
    transposed = torch.cat([torch.arange(n_prefix), n_prefix + index.T.flatten()])
    swapped = pattern[:, :, transposed][:, :, :, transposed]
    assert torch.allclose(
        attention.distance(swapped, (columns, rows), n_prefix), expected, atol=1e-5
    )
    assert expected.min() >= 0 and expected.max() <= math.hypot(rows - 1, columns - 1) + 1e-5


def test_a_patch_that_attends_to_no_patch_counts_as_spread_evenly():
    pattern = torch.zeros(1, 1, 5, 5)
    pattern[..., 0] = 1
    assert attention.distance(pattern, (2, 2), 1).item() == pytest.approx((2 + math.sqrt(2)) / 4)


@few
@given(grids, st.integers(0, 2), st.integers(0, 99))
def test_the_offset_map_by_brute_force(grid, n_prefix, seed):
    """Weighted by how many patches support each offset, it sums to the attention among patches."""
    rows, columns = grid
    pattern = random(rows * columns + n_prefix, n=1, heads=1, seed=seed)
    found, count = attention.offset_map(pattern, grid, n_prefix)
    assert (
        found.shape == (1, 2 * rows - 1, 2 * columns - 1) and count.sum() == (rows * columns) ** 2
    )
    for down in range(1 - rows, rows):
        for right in range(1 - columns, columns):
            places = [
                (r, c)
                for r in range(rows)
                for c in range(columns)
                if 0 <= r + down < rows and 0 <= c + right < columns
            ]
            values = [
                pattern[
                    0, 0, n_prefix + r * columns + c, n_prefix + (r + down) * columns + c + right
                ].item()
                for r, c in places
            ]
            assert count[down + rows - 1, right + columns - 1] == len(values)
            assert found[0, down + rows - 1, right + columns - 1].item() == pytest.approx(
                sum(values) / len(values), abs=1e-5
            )
    among = pattern[0, 0, n_prefix:, n_prefix:].sum()
    assert torch.allclose((found[0] * count).sum(), among, rtol=1e-4)


@prefixes
@pytest.mark.parametrize("delta", [(0, 0), (0, -1), (0, 1), (-1, 0), (1, 1), (2, 0)])
def test_a_shift_is_found_and_uniform_attention_is_chance(delta, n_prefix):
    rows, columns = grid = (4, 5)
    keys = []
    for r in range(rows):
        for c in range(columns):
            down, right = r + delta[0], c + delta[1]
            inside = 0 <= down < rows and 0 <= right < columns
            keys.append(down * columns + right if inside else r * columns + c)
    score, row, column = attention.find_offset(behind(one_hot(keys), n_prefix), grid, n_prefix)
    assert score.min() == 1 and set(zip(row.tolist(), column.tolist(), strict=True)) == {delta}
    tokens = rows * columns + n_prefix
    assert torch.allclose(
        attention.find_offset(uniform(tokens), grid, n_prefix)[0], torch.tensor(1 / tokens)
    )
    assert torch.allclose(
        attention.offset_map(uniform(tokens), grid, n_prefix)[0], torch.tensor(1 / tokens)
    )


def test_an_offset_that_few_patches_support_does_not_win():
    """The bound of a quarter of the patches: random 4 x 4 patterns stay near 1/16."""
    corner = torch.full((1, 1, 16, 16), 1 / 16)
    corner[0, 0, 0] = 0
    corner[0, 0, 0, 15] = 1
    score, row, column = attention.find_offset(corner, (4, 4), 0)
    assert score.item() < 0.2 and (row.item(), column.item()) != (3, 3)
    assert attention.offset_map(corner, (4, 4), 0)[0].max() == 1
    many = random(16, n=4, heads=400)
    bounded, unbounded = (
        attention.find_offset(many, (4, 4), 0)[0],
        attention.offset_map(many, (4, 4), 0)[0].flatten(1).amax(1),
    )
    assert bounded.max() < 0.134 and unbounded.max() > 1.5 * bounded.max()


@pytest.mark.parametrize("grid", [(1, 3), (2, 2), (3, 4), (5, 5)])
def test_families_partition_and_their_chance(grid):
    rows, columns = grid
    n = rows * columns
    families = attention.list_families(grid)
    assert not (families["same_row"] & families["same_column"]).any()
    assert families["same_row"].sum() == n * (columns - 1) and families[
        "same_column"
    ].sum() == n * (rows - 1)
    assert not families["same_row"].diagonal().any() and torch.equal(
        families["same_row"], families["same_row"].T
    )
    assert (families["corner"] <= families["edge"]).all()
    assert families["corner"][0].sum() == min(rows, 2) * min(columns, 2)
    assert families["edge"][0].sum() == n - max(0, rows - 2) * max(0, columns - 2)
    for n_prefix in (0, 2):
        for pairs in families.values():
            chance = pairs.sum().item() / n / (n + n_prefix)
            assert torch.allclose(
                attention.family_mass(uniform(n + n_prefix), pairs, n_prefix), torch.tensor(chance)
            )
            planted = behind(
                (pairs / pairs.sum(-1, keepdim=True).clamp(min=1)).expand(1, 1, -1, -1), n_prefix
            )
            assert attention.family_mass(planted, pairs, n_prefix).item() == pytest.approx(
                pairs.any(-1).float().mean().item()
            )


@prefixes
def test_the_previous_patch_and_sinks(n_prefix):
    shift = behind(one_hot([0, *range(8)]), n_prefix)
    assert attention.previous_mass(shift, n_prefix).min() == 1
    assert torch.allclose(
        attention.previous_mass(uniform(9 + n_prefix), n_prefix), torch.tensor(1 / (9 + n_prefix))
    )
    assert torch.allclose(attention.received_mass(uniform(9)), torch.tensor(1 / 9))
    sink = attention.received_mass(one_hot([4] * 9))
    assert sink[0, 4] == 1 and sink.sum() == 3
    assert torch.allclose(attention.received_mass(random(9)).sum(-1), torch.ones(3))


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_rollout(n_layers):
    identity = attention.rollout([one_hot(list(range(5)))] * n_layers)
    assert torch.equal(identity, torch.eye(5).expand(2, -1, -1))
    share = 2.0**-n_layers
    expected = share * torch.eye(5) + (1 - share) / 5
    assert torch.allclose(attention.rollout([uniform(5)] * n_layers), expected.expand(2, -1, -1))
    patterns = [random(5, seed=layer) for layer in range(n_layers)]
    found = attention.rollout(patterns)
    assert torch.allclose(found.sum(-1), torch.ones(2, 5))
    product = torch.eye(5)
    for pattern in patterns:
        product = (pattern[0].mean(0) / 2 + torch.eye(5) / 2) @ product
    assert torch.allclose(found[0], product, atol=1e-6)


@pytest.mark.parametrize("mask", ["bidirectional", "causal"])
@pytest.mark.parametrize("n_registers", [0, 2])
def test_the_analysis_of_a_model_with_cls(mask, n_registers):
    """What patches give to CLS, to registers and to patches sums to 1."""
    model, batch = model_for("induction 4x4", mask=mask, n_registers=n_registers)
    seen, n = traced(model, batch), 1 + n_registers
    found = attention.measure_attention(model, batch, seen)
    pattern = torch.stack([seen[f"blocks.{layer}.attn.pattern"] for layer in range(2)])
    among = pattern[:, :, :, n:, n:].sum(-1).mean((1, 3))
    assert torch.allclose(
        found["cls_mass"] + found.get("register_mass", torch.zeros(())) + among,
        torch.ones(2, 2),
        atol=1e-5,
    )
    assert torch.allclose(found["cls_to_patches"], pattern[:, :, :, 0, n:].sum(-1).mean(1))
    assert (found["cls_mass"] == 0).all() == (mask == "causal")
    assert torch.allclose(found["rollout"].sum(), torch.tensor(1.0))
    allowed = allowed_keys(model.config).float()
    own_chance = (allowed / allowed.sum(-1, keepdim=True)).mean(0)
    above = pattern.mean((1, 3)) - own_chance
    assert torch.allclose(found["sink"], above.amax(-1), atol=1e-6)
    assert torch.equal(found["sink_token"], above.argmax(-1))


@pytest.mark.parametrize(
    ("name", "readout", "read"),
    [
        ("induction 4x4", "cls", [0]),
        ("induction 4x4", "last", [16]),
        ("induction 4x4", "mean", range(1, 17)),
        ("markov masked", "every", range(1, 13)),
    ],
)
def test_rollout_starts_from_what_is_read_out(name, readout, read):
    model, batch = model_for(name, **({} if readout == "every" else {"readout": readout}))
    cache = traced(model, batch)
    patterns = [cache[f"blocks.{layer}.attn.pattern"] for layer in range(2)]
    rows = attention.rollout(patterns)[:, list(read)]
    measures = attention.measure_attention(model, batch, cache)
    assert torch.allclose(measures["rollout"], rows.mean((0, 1)), atol=1e-6)
