"""One training step against timm's VisionTransformer in the same bare loop.

And against its matrix products alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import toyvit.torchvision_guard  # noqa: F401

# isort: split
import torch
from timm.models.vision_transformer import Attention, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from bench.timing import Result, interleave
from toyvit.config import ModelConfig, TrainConfig
from toyvit.model import ViT
from toyvit.train.module import build_optimizer

BAR = 1.0
CLASSES = 10
# name -> model, images a batch, steps a round
CASES: dict[str, tuple[ModelConfig, int, int]] = {
    "2L attention-only d64 T26 B64": (
        ModelConfig(
            n_layers=2,
            n_heads=4,
            d_model=64,
            patch_size=8,
            image_size=(40, 40),
            attention_bias=True,
        ),
        64,
        6,
    ),
    "2L+MLP d64 T17 B128": (
        ModelConfig(
            n_layers=2,
            n_heads=4,
            d_model=64,
            d_mlp=256,
            patch_size=7,
            image_size=(28, 28),
            attention_bias=True,
        ),
        128,
        3,
    ),
    "4L+MLP d128 T17 B128": (
        ModelConfig(
            n_layers=4,
            n_heads=4,
            d_model=128,
            d_mlp=512,
            patch_size=7,
            image_size=(28, 28),
            attention_bias=True,
        ),
        128,
        1,
    ),
}


class AttentionBlock(nn.Module):
    """timm's attention after its norm, added to the stream: a timm block without its MLP."""

    def __init__(self, dim: int, num_heads: int, qkv_bias: bool, **others: Any) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads=num_heads, qkv_bias=qkv_bias)

    def forward(self, x: Tensor, *args: Any, **others: Any) -> Tensor:
        return x + self.attn(self.norm1(x))


def build_timm(config: ModelConfig) -> VisionTransformer:
    """timm's model of the same shape, with the same biases."""
    block: dict[str, Any] = {} if config.d_mlp else {"block_fn": AttentionBlock}
    return VisionTransformer(
        img_size=config.stated("image_size"),
        patch_size=config.stated("patch_size"),
        in_chans=config.stated("n_channels"),
        num_classes=config.stated("n_classes"),
        embed_dim=config.d_model,
        depth=config.n_layers,
        num_heads=config.n_heads,
        mlp_ratio=config.d_mlp / config.d_model,
        qkv_bias=config.attention_bias,
        **block,
    )


def build_step(model: nn.Module, images: Tensor, target: Tensor) -> Callable[[], None]:
    """One update on a fixed batch: fused AdamW, cross-entropy, no clipping."""
    update = build_optimizer(model, TrainConfig())

    def step() -> None:
        update.zero_grad()
        F.cross_entropy(model(images), target).backward()
        update.step()

    return step


def build_product(rows: int, inner: int, columns: int, *batch: int) -> Callable[[], object]:
    """(rows x inner) times (inner x columns), and the two products of its backward pass."""
    a = torch.randn(*batch, rows, inner)
    b = torch.randn(*batch, columns, inner).mT
    out = torch.randn(*batch, rows, columns)
    left = torch.empty(a.shape)
    right = torch.empty(b.shape)
    return lambda: (
        torch.matmul(a, b, out=out),
        torch.matmul(out, b.mT, out=left),
        torch.matmul(a.mT, out, out=right),
    )


def build_products(config: ModelConfig, n: int) -> Callable[[], None]:
    """Every matrix product of a training step on n images, forwards and backwards, and no more."""
    d = config.d_model
    tokens = n * config.n_tokens
    heads = n * config.n_heads
    block = [
        build_product(tokens, d, 3 * d),
        build_product(tokens, d, d),
        build_product(config.n_tokens, config.d_head, config.n_tokens, heads),
        build_product(config.n_tokens, config.n_tokens, config.d_head, heads),
    ]
    if config.d_mlp:
        block += [build_product(tokens, d, config.d_mlp), build_product(tokens, config.d_mlp, d)]
    ends = [
        build_product(n * config.n_patches, config.d_patch, d),
        build_product(n, d, config.stated("n_classes")),
    ]

    def run() -> None:
        for multiply in ends + config.n_layers * block:
            multiply()

    return run


def results(repeats: int | None) -> Iterator[Result]:
    for name, (stated, n, steps) in CASES.items():
        config = replace(stated, n_channels=1, n_classes=CLASSES)
        images = torch.randn(n, 1, *config.stated("image_size"))
        target = torch.randint(0, CLASSES, (n,))
        jobs = {
            "ours": build_step(ViT(config), images, target),
            "timm": build_step(build_timm(config), images, target),
            "floor": build_products(config, n),
        }
        times = interleave(name, jobs, repeats or 61, steps)
        yield Result(
            name=f"step {name}",
            ours=times["ours"],
            peer=times["timm"],
            peer_name="timm",
            floor=times["floor"],
            bar=BAR,
        )
