"""Positions inside attention, against loops over queries and keys."""

from __future__ import annotations

import cmath
from dataclasses import replace

import pytest
import torch

from tests.laws.models import BASE, build, pictures
from toyvit.config import ModelConfig
from toyvit.errors import BadInput
from toyvit.instruments.weight_circuits import qk_circuit
from toyvit.model import ViT
from toyvit.model.forward import trace
from toyvit.model.mappings.timm import convert_from_timm, convert_to_timm
from toyvit.model.offsets import count_offsets

OF_OFFSETS = ("relative", "relative-grid")


def name_offset(config: ModelConfig, query: int, key: int) -> tuple:
    """What decides the bias of a pair of tokens, in words of its own."""
    n = config.n_prefix
    columns = config.grid[1] if config.positions == "relative-grid" else config.n_patches
    if query < n and key < n:
        return "prefix", query, key
    if query < n:
        return "prefix sees patch", query
    if key < n:
        return "patch sees prefix", key
    down = (key - n) // columns - (query - n) // columns
    right = (key - n) % columns - (query - n) % columns
    return "offset", down, right


@pytest.mark.parametrize("n_registers", [0, 2])
@pytest.mark.parametrize("positions", OF_OFFSETS)
def test_biases_are_one_number_a_head_and_offset(positions, n_registers):
    config = replace(BASE, positions=positions, n_registers=n_registers)
    model = build(config)
    cache = trace(model, pictures(config))
    for layer in range(config.n_layers):
        here = {name: cache[f"blocks.{layer}.attn.{name}"] for name in ("q", "k", "attn_scores")}
        by_offset: dict[tuple, list[float]] = {}
        for query in range(config.n_tokens):
            for key in range(config.n_tokens):
                products = (here["q"][:, query] * here["k"][:, key]).sum(-1)
                bias = here["attn_scores"][:, :, query, key] - products / config.d_head**0.5
                assert torch.allclose(bias[0], bias[1], atol=1e-5)
                name = name_offset(config, query, key)
                first = by_offset.setdefault(name, bias[0].tolist())
                assert bias[0].tolist() == pytest.approx(first, abs=1e-5), name

        learned = model.layers[layer].attn.relative.bias
        grid = config.grid if positions == "relative-grid" else (1, config.n_patches)
        assert len(by_offset) == len(learned) == count_offsets(grid, config.n_prefix)
        there = torch.tensor(list(by_offset.values())).sort(0).values
        assert torch.allclose(there, learned.sort(0).values, atol=1e-5)


def turn_by_hand(config: ModelConfig, token: int, features: list[float]) -> list[float]:
    """Pairs as complex numbers: the first half turned by the row, the second by the column."""
    patch = token - config.n_prefix
    row, column = divmod(patch, config.grid[1]) if patch >= 0 else (0, 0)
    n_pairs = len(features) // 2
    turned = []
    for pair in range(n_pairs):
        place, number = (row, pair) if pair < n_pairs // 2 else (column, pair - n_pairs // 2)
        angle = place * 100 ** (-number / (n_pairs // 2))
        value = complex(*features[2 * pair : 2 * pair + 2]) * cmath.exp(1j * angle)
        turned += [value.real, value.imag]
    return turned


def test_rotary_positions_turn_pairs_of_features():
    config = replace(BASE, positions="rotary", d_model=16, n_registers=1)
    cache = trace(build(config), pictures(config, 1))
    for name in "qk":
        before = cache[f"blocks.1.attn.{name}"][0]
        after = cache[f"blocks.1.attn.rot_{name}"][0]
        for token in range(config.n_tokens):
            for head in range(config.n_heads):
                expected = turn_by_hand(config, token, before[token, head].tolist())
                assert after[token, head].tolist() == pytest.approx(expected, abs=1e-5)
        assert torch.equal(after[: config.n_prefix], before[: config.n_prefix])


def test_rotary_scores_of_the_same_contents_depend_on_offsets_alone():
    config = replace(BASE, positions="rotary", d_model=32)
    rotation = build(config).layers[0].attn.rotation
    content = torch.randn(2, 1, config.d_head, generator=torch.Generator().manual_seed(0))
    query, key = (rotation(part.expand(config.n_tokens, -1)) for part in content / 4)
    scores = query @ key.T
    by_offset: dict[tuple, float] = {}
    grid = replace(config, positions="relative-grid")
    for asks in range(config.n_prefix, config.n_tokens):
        for answers in range(config.n_prefix, config.n_tokens):
            name = name_offset(grid, asks, answers)
            first = by_offset.setdefault(name, scores[asks, answers].item())
            assert scores[asks, answers].item() == pytest.approx(first, abs=1e-6), name
    assert len({round(score, 5) for score in by_offset.values()}) == len(by_offset)


@pytest.mark.parametrize("positions", OF_OFFSETS)
def test_biases_begin_at_0_unless_a_scale_is_given(positions):
    config = replace(BASE, positions=positions)
    images = pictures(config)
    assert torch.equal(ViT(config)(images), ViT(replace(BASE, positions="none"))(images))

    scaled = ViT(replace(config, relative_scale=0.3, image_size=(20, 20)))
    biases = torch.cat([block.attn.relative.bias for block in scaled.layers])
    assert biases.std().item() == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize("positions", [*OF_OFFSETS, "rotary"])
def test_what_cannot_have_such_positions_is_one_line(positions):
    config = replace(BASE, positions=positions, attention_bias=True)
    with pytest.raises(BadInput, match=f"timm's .* no such model.* positions '{positions}'"):
        convert_to_timm(ViT(config))
    with pytest.raises(BadInput, match=f"positions '{positions}'"):
        convert_from_timm({}, config)


def test_rotary_positions_need_pairs_for_rows_and_columns_and_have_no_qk_circuit():
    config = replace(BASE, positions="rotary")
    with pytest.raises(BadInput, match=r"a multiple of 4, got 2$"):
        ViT(replace(config, n_heads=4))
    with pytest.raises(BadInput, match="no one QK circuit"):
        qk_circuit(ViT(config), 0)
