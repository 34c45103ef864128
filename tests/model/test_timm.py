"""Parity with timm's VisionTransformer: logits and every block's output, both ways."""

import pytest
import torch

from toyvit import torchvision_guard  # noqa: F401
from toyvit.config import ModelConfig
from toyvit.model import ViT
from toyvit.model.mappings.timm import convert_from_timm, convert_to_timm
from toyvit.model.taps import recording

CONFIG = ModelConfig(
    n_layers=3,
    n_heads=4,
    d_model=32,
    d_mlp=64,
    norm_epsilon=1e-6,
    attention_bias=True,
    image_size=(12, 20),
    patch_size=4,
    n_channels=3,
    n_classes=7,
)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_parity_both_ways(dtype, tolerance):
    from timm.models.vision_transformer import VisionTransformer

    torch.manual_seed(0)
    theirs = VisionTransformer(
        img_size=(12, 20),
        patch_size=4,
        in_chans=3,
        num_classes=7,
        embed_dim=32,
        depth=3,
        num_heads=4,
        mlp_ratio=2,
    )
    for weight in theirs.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    theirs = theirs.to(dtype).eval()
    images = torch.randn(5, 3, 12, 20, dtype=dtype)
    ours = convert_from_timm(theirs.state_dict(), CONFIG)
    outputs = []
    for block in theirs.blocks:
        block.register_forward_hook(lambda module, inputs, out: outputs.append(out))
    expected = theirs(images)
    tap = recording([f"blocks.{layer}.resid_post" for layer in range(3)])
    assert (ours(images, tap) - expected).abs().max() < tolerance * expected.abs().max()
    for layer, output in enumerate(outputs):
        error = (tap.values[f"blocks.{layer}.resid_post"] - output).abs().max()
        assert error < tolerance * output.abs().max()

    fresh = ViT(CONFIG, seed=3).to(dtype)
    theirs.load_state_dict(convert_to_timm(fresh))
    assert (theirs(images) - fresh(images)).abs().max() < tolerance
