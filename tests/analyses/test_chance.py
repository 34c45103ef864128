"""Chance levels under every mask: a model whose scores are all 0 gets exactly what is stated."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from tests.analyses.planted import model_for, traced
from tests.laws.worlds import CONFIGS
from toyvit.analyses import ANALYSES
from toyvit.analyses.analysis import Tagged, split_key
from toyvit.analyses.chance import spread_evenly
from toyvit.config import ModelConfig
from toyvit.model.options import MASKS, allowed_keys

# Every mask with every number of registers, with CLS and without where the mask can do without.
PREFIXES = [
    {"mask": mask, "n_registers": n_registers, "cls_token": cls}
    for mask, n_registers, cls in product(MASKS, (0, 1, 3), (True, False))
    if cls or mask != "no-cls-read"
]
OF_PATTERNS = ("attention", "object_attention", "induction")
# Every task under some mask and prefix, and tasks for every analysis of patterns under all of them.
CASES = [(name, PREFIXES[place % len(PREFIXES)]) for place, name in enumerate(CONFIGS)] + list(
    product(("induction 1x7", "markov", "objects glyphs"), PREFIXES)
)
ROUNDING = 5e-6  # of sums in float32, whose order is the processor's


def plant_scores_of_0(name, options):
    """A model with random weights but for its queries, and what it does on a test batch."""
    model, batch = model_for(name, n=12, **options)  # float32 sums over more round further
    with torch.no_grad():
        for block in model.layers:
            block.attn.qkv.weight[: model.config.d_model] = 0
    return model, batch, traced(model, batch)


def name_chance(key):
    quantity, tags = split_key(key)
    return Tagged(f"{quantity}_chance", **tags) if tags else f"{quantity}_chance"


@pytest.mark.parametrize(("name", "options"), CASES)
def test_even_attention_scores_what_is_stated_as_chance(name, options):
    model, batch, cache = plant_scores_of_0(name, options)
    even = spread_evenly(model.config)
    for layer in range(model.config.n_layers):
        pattern = cache[f"blocks.{layer}.attn.pattern"]
        assert torch.allclose(pattern, even.expand_as(pattern), atol=ROUNDING)

    for analysis in map(ANALYSES.__getitem__, OF_PATTERNS):
        if analysis.list_missing(model, batch):
            continue
        measures = analysis.measure(model, batch, cache)
        stated = {key for key in measures if name_chance(key) in measures}
        assert stated, analysis.name
        for key in stated:
            chance = measures[name_chance(key)].nan_to_num(-7)
            value = measures[key].nan_to_num(-7)
            assert (value - chance).abs().max() < ROUNDING, (analysis.name, key)


@pytest.mark.parametrize(
    ("name", "options"),
    [pytest.param(*case, marks=pytest.mark.slow if n % 12 else ()) for n, case in enumerate(CASES)],
)
def test_even_attention_gets_no_score_of_a_type_but_uniform(name, options):
    model, batch, cache = plant_scores_of_0(name, options)
    measures = ANALYSES["heads"].measure(model, batch, cache)
    of_weights = ("copy", "copy_labels")
    for key, value in measures.items():
        quantity, tags = split_key(key)
        if quantity == "score" and tags["type"] not in of_weights:
            wanted = float(tags["type"] == "uniform")
            numbers = value[~value.isnan()]
            assert ((numbers - wanted).abs() < 1e-4).all(), tags["type"]


def test_levels_under_the_causal_mask_of_25_patches():
    """By hand: a(q) = q + 1 keys; their logarithms, reciprocals and tails (MEASURES, Notation)."""
    config = ModelConfig(
        mask="causal",
        cls_token=False,
        readout="last",
        image_size=(40, 40),
        patch_size=8,
        n_channels=1,
        n_classes=2,
    )
    keys = torch.arange(1, 26).double()
    even = spread_evenly(config)[0, 0].double()
    assert torch.allclose(even, torch.ones(25, 25).tril().double() / keys[:, None])
    assert -torch.xlogy(even, even).sum(-1).mean() == pytest.approx(keys.log().mean())
    assert keys.log().mean() == pytest.approx(2.320, abs=5e-4)
    assert even.diagonal(-1).mean() == pytest.approx((1 / keys[1:]).mean())
    assert (1 / keys[1:]).mean() == pytest.approx(0.117, abs=5e-4)
    of_keys = even.mean(0)[[0, 1, 12, 24]]
    assert of_keys.tolist() == pytest.approx([0.153, 0.113, 0.029, 0.0016], abs=6e-4)


def test_a_pattern_that_is_not_even_is_seen():
    """The check can fail: what a mask forbids is no chance level of another mask."""
    options = {"mask": "causal", "n_registers": 1, "cls_token": False}
    model, batch, cache = plant_scores_of_0("induction 1x7", options)
    open_model, _ = model_for("induction 1x7", **{**options, "mask": "bidirectional"})
    measures = ANALYSES["attention"].measure(open_model, batch, cache)
    assert (measures["entropy"] - measures["entropy_chance"]).abs().max() > 0.1
    assert allowed_keys(model.config).sum() < allowed_keys(open_model.config).sum()
