"""Both sides of a norm's gain and bias, and the name that one of them had before."""

from __future__ import annotations

import pytest
import torch

from toyvit.config import ModelConfig
from toyvit.errors import BadInput
from toyvit.model import ViT
from toyvit.model.forward import run_model, trace
from toyvit.model.sites import select_sites
from toyvit.model.taps import editing, recording, replacing
from toyvit.model.views import Cache

SHAPE = {"image_size": (8, 8), "patch_size": 4, "n_channels": 1, "n_classes": 3}
PLACES = ("blocks.0.ln1", "blocks.0.ln2", "blocks.1.ln1", "blocks.1.ln2", "ln_final")
IMAGES = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))
norms = pytest.mark.parametrize("norm", ["layer", "rms"])


def build(norm="layer"):
    """A model whose gains and biases are far from 1 and 0."""
    model = ViT(ModelConfig(d_model=16, n_heads=2, d_mlp=24, norm=norm, **SHAPE))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("gain", "bias")):
                weight.normal_(1, 0.5, generator=generator)
    return model


@norms
def test_gain_and_bias_lie_between_the_two_sites(norm):
    model = build(norm)
    cache = trace(model, IMAGES)
    for place in PLACES:
        part = model.get_submodule(place)
        before = cache[f"{place}.before_gain"]
        expected = before * part.gain + part.bias
        assert torch.allclose(cache[f"{place}.after_gain"], expected, atol=1e-5)
        assert torch.allclose(before.square().mean(-1), torch.ones(()), atol=0.03)  # epsilon
        if norm == "layer":
            assert before.mean(-1).abs().max() < 1e-5


@norms
def test_an_edit_before_the_gain_goes_through_it(norm):
    model = build(norm)
    for place in PLACES:
        part = model.get_submodule(place)
        early = run_model(model, IMAGES, editing({f"{place}.before_gain": lambda x: 2 * x + 1}))
        late = editing(
            {
                f"{place}.after_gain": lambda x, part=part: (
                    2 * (x - part.bias) + part.gain + part.bias
                )
            }
        )
        assert torch.allclose(early, run_model(model, IMAGES, late), atol=1e-4)
    own = trace(model, IMAGES, "*.before_gain")
    assert torch.equal(run_model(model, IMAGES, replacing(own)), run_model(model, IMAGES))


def test_an_edited_scale_is_what_the_site_before_the_gain_is_divided_by():
    model = build()
    record = recording(["ln_final.before_gain"])

    def note(site, value):
        return 2 * value if site == "ln_final.scale" else record(site, value)

    run_model(model, IMAGES, note)
    whole = trace(model, IMAGES)["ln_final.before_gain"]
    assert torch.allclose(record.values["ln_final.before_gain"], whole / 2, atol=1e-6)


def test_there_is_none_before_the_gain_without_a_norm():
    config = ModelConfig(norm="none", d_mlp=8, **SHAPE)
    assert "ln_final.before_gain" not in ViT(config).sites()
    with pytest.raises(BadInput, match="unknown site"):
        select_sites("ln_final.hook_normalized", config)


def test_the_old_name_works_for_this_version_with_a_notice(caplog):
    model = build()
    now = trace(model, IMAGES)
    old = trace(model, IMAGES, ["blocks.*.ln1.normalized", "logits"])
    assert list(old) == ["logits", "blocks.0.ln1.normalized", "blocks.1.ln1.normalized"]
    for layer in range(2):
        expected = now[f"blocks.{layer}.ln1.after_gain"]
        assert torch.equal(old[f"blocks.{layer}.ln1.normalized"], expected)

    silent, same = (
        run_model(model, IMAGES, editing({f"ln_final.{name}": torch.zeros_like}))
        for name in ("normalized", "after_gain")
    )
    assert torch.equal(silent, same) and not torch.equal(same, run_model(model, IMAGES))
    assert Cache(now)["ln_final.normalized"] is now["ln_final.after_gain"]
    lines = [record.getMessage() for record in caplog.records]
    assert "the site 'ln_final.normalized' is called 'ln_final.after_gain' now" in lines
    assert len(lines) == len(set(lines)), "once for each name"
    with pytest.raises(BadInput, match=r"unknown site 'embed\.normalized'"):
        run_model(model, IMAGES, recording(["embed.normalized"]))


def test_transformerlens_name_is_the_side_that_it_means_there():
    model = build()
    _, cache = model.run_with_cache(IMAGES, ["*"])
    assert cache["blocks.0.ln1.hook_normalized"] is cache["blocks.0.ln1.before_gain"]
    assert select_sites("ln_final.hook_normalized", model.config) == ["ln_final.before_gain"]


def test_a_norm_that_offers_the_old_name_is_seen_under_the_new():
    class Old(torch.nn.Module):
        def forward(self, x, tap):
            return tap("normalized", x)

    model = build()
    model.ln_final = Old()
    record = recording(["ln_final.after_gain"])
    run_model(model, IMAGES, record)
    assert list(record.values) == ["ln_final.after_gain"]
