"""Logits and every activation against TransformerLens's HookedTransformer with the same weights.

Needs the extra `peers`; skipped without it. The largest difference at a site is below 1e-5 of the
site's largest value, in float32. The blocks and the read-out are compared: a HookedTransformer
embeds words, so it is given the stream that enters our first block.
"""

from __future__ import annotations

import warnings

import pytest
import torch

from toyvit import torchvision_guard  # noqa: F401
from toyvit.config import ModelConfig
from toyvit.model import ViT
from toyvit.model.mappings.transformer_lens import (
    convert_to_transformer_lens,
    describe_transformer_lens,
)

TOLERANCE = 1e-5
UNUSED = ("W_E", "W_pos", "mask", "IGNORE")  # of words, and constants
SHAPE = {"image_size": (12, 12), "patch_size": 4, "n_channels": 1, "n_classes": 5}
CONFIGS = {
    "bidirectional, CLS": ModelConfig(
        n_layers=3, n_heads=4, d_model=32, d_mlp=48, attention_bias=True, **SHAPE
    ),
    "causal, ReLU": ModelConfig(
        n_heads=2,
        d_model=24,
        d_mlp=40,
        mask="causal",
        cls_token=False,
        readout="last",
        activation="relu",
        **SHAPE,
    ),
    "attention alone, RMSNorm": ModelConfig(n_heads=2, d_model=24, norm="rms", **SHAPE),
}


@pytest.fixture(scope="module")
def library():
    """TransformerLens, whose import warns of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformer_lens", exc_type=ImportError)


def build(config):
    """A model whose every weight is drawn, gains, biases and all."""
    model = ViT(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(name.endswith("gain"), 0.2, generator=generator)
    return model


def convert(model, library):
    """The HookedTransformer with a model's weights."""
    arguments = describe_transformer_lens(model.config)
    settings = library.HookedTransformerConfig(
        **arguments, use_attn_result=True, device="cpu", init_weights=False
    )
    other = library.HookedTransformer(settings)
    weights = convert_to_transformer_lens(model)
    missing, unexpected = other.load_state_dict(weights, strict=False)
    assert not unexpected and all(name.endswith(UNUSED) for name in missing)
    return other


def differ(ours, theirs):
    """Largest difference as a share of the largest value; masked scores must be masked in both."""
    masked = ours.isinf()
    assert torch.equal(masked, theirs.isinf())
    ours = ours.masked_fill(masked, 0)
    return ((ours - theirs.masked_fill(masked, 0)).abs().max() / ours.abs().max()).item()


# The name says that it goes in 4.0, whose bridge wraps downloaded models alone.
pytestmark = pytest.mark.filterwarnings("ignore:.*HookedTransformer.*:DeprecationWarning")


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_and_activations(name, library):
    config = CONFIGS[name]
    model = build(config)
    images = torch.randn(6, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits, cache = model.run_with_cache(images)
        their_logits, theirs = convert(model, library).run_with_cache(
            cache["blocks.0.resid_pre"], start_at_layer=0
        )

    read = -1 if config.readout == "last" else 0
    assert differ(logits, their_logits[:, read]) < TOLERANCE

    compared = [site for site in theirs if site.startswith(("blocks", "ln_final"))]
    assert len(compared) >= 12 * config.n_layers
    for site in compared:
        assert differ(cache[site], theirs[site]) < TOLERANCE, site


def test_a_difference_in_one_weight_is_seen(library):
    model = build(CONFIGS["bidirectional, CLS"])
    images = torch.randn(6, 1, 12, 12, generator=torch.Generator().manual_seed(1))
    other = convert(model, library)
    with torch.no_grad():
        model.layers[1].attn.qkv.weight[0, 0] += 0.1
        logits, cache = model.run_with_cache(images)
        theirs = other(cache["blocks.0.resid_pre"], start_at_layer=0)
    assert differ(logits, theirs[:, 0]) > 10 * TOLERANCE
