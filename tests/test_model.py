"""Laws of the tap over every site of several models."""

import math

import pytest
import torch

from toyvit.config import ModelConfig
from toyvit.errors import BadInput
from toyvit.model import ViT
from toyvit.taps import editing, recording, replacing

CONFIGS = [
    {"norm": norm, "positions": positions, "mask": mask, "d_mlp": d_mlp, "n_registers": registers, "readout": readout}
    for norm, positions, mask, d_mlp, registers, readout in (
        ("layer", "learned", "causal", 0, 0, "last"),
        ("rms", "sincos", "bidirectional", 24, 2, "cls"),
        ("none", "none", "local", 24, 1, "mean"),
        ("layer", "learned", "no-cls-read", 0, 2, "every"),
    )
]


def build(options: dict) -> tuple[ViT, torch.Tensor]:
    config = ModelConfig(n_heads=2, d_model=16, image_size=(16, 16), patch_size=4, n_channels=1, n_classes=5, **options)
    return ViT(config, seed=1), torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("options", CONFIGS)
def test_every_site(options):
    model, images = build(options)
    plain = model(images)
    tap = recording(model.sites())
    assert torch.equal(model(images, tap), plain)
    assert list(model.sites()) != [] and set(tap.values) == set(model.sites())
    for site, value in tap.values.items():
        assert value.ndim == len(model.sites()[site].axes.split()) + (
            options["readout"] == "every" and site in ("readout", "logits")
        )
        assert torch.equal(model(images, replacing({site: value.clone()})), plain), site
        noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(2))
        edited = model(images, editing({site: lambda x, noise=noise: x + noise}))
        assert not torch.allclose(edited, plain), site


def test_step_zero_scores_chance():
    model, images = build({"readout": "cls"})
    found = torch.nn.functional.cross_entropy(model(images), torch.tensor([0, 1, 2])).item()
    assert found == pytest.approx(math.log(5), rel=0.1)


def test_a_misspelt_site_names_the_nearest():
    model, images = build({"readout": "cls"})
    with pytest.raises(BadInput, match=r"did you mean 'blocks.0.attn.pattern'"):
        model(images, replacing({"blocks.0.attn.patern": images}))
