"""Masks behave: what a token may not see, at first or second hand, cannot change it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import given, settings, strategies as st

from tests.laws.models import BASE, build, pictures
from toyvit.config import ModelConfig
from toyvit.model.forward import trace
from toyvit.model.options import MASKS, allowed_keys

SHAPES = {
    "CLS": replace(BASE, n_layers=3),
    "CLS and registers": replace(BASE, n_registers=2),
    "registers only": replace(BASE, n_registers=2, cls_token=False, readout="mean"),
    "patches only": replace(BASE, n_layers=3, cls_token=False, readout="last"),
    "wide": replace(BASE, image_size=(4, 14), n_layers=1, window=2),
}
MODELS = {
    f"{mask}, {shape}": replace(config, mask=mask)
    for mask in MASKS
    for shape, config in SHAPES.items()
    if config.cls_token or mask != "no-cls-read"
}
every_model = pytest.mark.parametrize("config", MODELS.values(), ids=MODELS)


@every_model
def test_patterns_are_distributions_over_what_is_allowed(config):
    allowed = allowed_keys(config)
    cache = trace(build(config), pictures(config))
    for layer in range(config.n_layers):
        scores = cache[f"blocks.{layer}.attn.attn_scores"]
        pattern = cache[f"blocks.{layer}.attn.pattern"]
        assert torch.equal(scores == -torch.inf, ~allowed.expand_as(scores))
        assert torch.equal(pattern, scores.softmax(-1))
        assert torch.allclose(pattern.sum(-1), torch.ones(()), atol=1e-6)
        assert (pattern[..., ~allowed] == 0).all()
        assert (pattern[..., allowed] > 0).all()


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(config, id=name, marks=[pytest.mark.slow] * ("wide" not in name))
        for name, config in MODELS.items()
    ],
)
def test_a_patch_changes_exactly_the_tokens_that_it_reaches(config):
    """Reach grows a step a layer: what a token sees, and all that that could see before."""
    model, images = build(config), pictures(config)
    sees = allowed_keys(config).float()
    before = trace(model, images, ["blocks.*.resid_post"])
    rows, columns = config.grid
    for patch in range(config.n_patches):
        changed = images.clone().unflatten(2, (rows, -1)).unflatten(4, (columns, -1))
        changed[:, :, patch // columns, :, patch % columns] += 1
        after = trace(model, changed.flatten(4).flatten(2, 3), ["blocks.*.resid_post"])
        reached = torch.zeros(config.n_tokens)
        reached[config.n_prefix + patch] = 1
        for layer in range(config.n_layers):
            site = f"blocks.{layer}.resid_post"
            reached = ((sees @ reached) > 0).float()
            same = (before[site] == after[site]).all(-1)
            assert torch.equal(same, (reached == 0).expand_as(same)), (patch, layer)


@every_model
def test_every_token_sees_itself_and_cls_sees_all(config):
    allowed = allowed_keys(config)
    assert allowed.diagonal().all()
    assert allowed[: config.n_prefix, config.n_prefix :].all()
    if config.cls_token:
        assert allowed[0].all()


def allows_causal(config: ModelConfig, query: int, key: int) -> bool:
    n = config.n_prefix
    return query < n or n <= key <= query


def allows_local(config: ModelConfig, query: int, key: int) -> bool:
    n, width = config.n_prefix, config.grid[1]
    if query < n or key < n:
        return True
    query_row, query_column = divmod(query - n, width)
    key_row, key_column = divmod(key - n, width)
    distance = max(abs(query_row - key_row), abs(query_column - key_column))
    return distance <= config.window


ALLOWS = {
    "bidirectional": lambda config, query, key: True,
    "causal": allows_causal,
    "local": allows_local,
    "no-cls-read": lambda config, query, key: key != 0 or query == 0,
}


@settings(max_examples=40)
@given(
    st.sampled_from(list(ALLOWS)),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from([0, 2]),
)
def test_masks_are_what_their_sentences_say(mask, rows, columns, window, cls, registers):
    config = replace(
        BASE,
        mask=mask,
        image_size=(2 * rows, 2 * columns),
        window=window,
        cls_token=cls or mask == "no-cls-read",
        n_registers=registers,
        readout="mean",
    )
    tokens = range(config.n_tokens)
    allows = [ALLOWS[mask](config, query, key) for query, key in product(tokens, tokens)]
    expected = torch.tensor(allows).view(config.n_tokens, config.n_tokens)
    assert torch.equal(allowed_keys(config), expected)
