"""One training step by what the head reads, against timm's VisionTransformer in the same bare loop.

And against its matrix products alone; the default recipe's step against a model without taps.
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
from toyvit.data.task import build_task, resolve_config
from toyvit.model import ViT
from toyvit.recipes import RECIPES
from toyvit.train.optimizers import build_optimizer

CLASSES = 10
BARS = {
    "2L attention-only d64 T26 B64": 0.72,
    "2L+MLP d64 T17 B128": 0.66,
    "4L+MLP d128 T17 B128": 0.80,
}
TAPLESS_BAR = 1.05
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


class Reading(nn.Module):
    """A model that answers by what its head reads, as training asks it."""

    def __init__(self, model: ViT) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.answer(images)


class Tapless(nn.Module):
    """The default recipe's model by hand: two attention-only layers of one head, the last patch.

    With the weights of a `ViT` of that shape; nothing between its layers can be seen or changed.
    """

    def __init__(self, model: ViT) -> None:
        super().__init__()
        self.model = model
        self.size = model.config.patch_size
        self.scale = model.config.d_head**-0.5

    def forward(self, images: Tensor) -> Tensor:
        model = self.model
        n, channels, height, width = images.shape
        size = self.size
        cells = images.view(n, channels, height // size, size, width // size, size)
        patches = cells.permute(0, 2, 4, 1, 3, 5).reshape(n, -1, channels * size * size)
        x = F.linear(patches, model.patch.weight, model.patch.bias) + model.positions

        first, last = model.layers
        norm = first.ln1
        normed = F.layer_norm(x, norm.gain.shape, norm.gain, norm.bias, norm.epsilon)
        q, k, v = F.linear(normed, first.attn.qkv.weight).chunk(3, -1)
        mask = model.mask.expand(n, -1, -1)
        pattern = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=self.scale).softmax(-1)
        x = x + F.linear(torch.bmm(pattern, v), first.attn.out.weight)

        norm = last.ln1
        normed = F.layer_norm(x, norm.gain.shape, norm.gain, norm.bias, norm.epsilon)
        query, key, value = last.attn.qkv.weight.chunk(3)
        reads = torch.mm(F.linear(normed[:, -1], query), key)
        scores = torch.bmm(normed, reads[:, :, None]) * self.scale
        mixed = torch.bmm(scores.softmax(1).transpose(1, 2), normed)[:, 0]
        read = x[:, -1] + F.linear(F.linear(mixed, value), last.attn.out.weight)

        norm = model.ln_final
        read = F.layer_norm(read, norm.gain.shape, norm.gain, norm.bias, norm.epsilon)
        return F.linear(read, model.head.weight, model.head.bias)


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
    """Every matrix product of a step on n images, forwards and backwards, and no more.

    By what the head reads: of the last block one token an image.
    """
    d = config.d_model
    heads = config.n_heads
    length = config.n_tokens
    block = [
        build_product(n * length, d, 3 * d),
        build_product(length, config.d_head, length, n * heads),
        build_product(length, length, config.d_head, n * heads),
        *build_layers_of_tokens(config, n * length),
    ]
    last = [
        build_product(n, d, d),
        build_product(n, config.d_head, d, heads),
        build_product(heads, d, length, n),
        build_product(heads, length, d, n),
        build_product(n, d, config.d_head, heads),
        *build_layers_of_tokens(config, n),
    ]
    ends = [
        build_product(n * config.n_patches, config.d_patch, d),
        build_product(n, d, config.stated("n_classes")),
    ]

    def run() -> None:
        for multiply in ends + (config.n_layers - 1) * block + last:
            multiply()

    return run


def build_layers_of_tokens(config: ModelConfig, n: int) -> list[Callable[[], object]]:
    """The products of the output projection and of the MLP, on n tokens."""
    d = config.d_model
    products = [build_product(n, d, d)]
    if config.d_mlp:
        products += [build_product(n, d, config.d_mlp), build_product(n, config.d_mlp, d)]
    return products


def results(repeats: int | None) -> Iterator[Result]:
    for name, (stated, n, steps) in CASES.items():
        config = replace(stated, n_channels=1, n_classes=CLASSES)
        images = torch.randn(n, 1, *config.stated("image_size"))
        target = torch.randint(0, CLASSES, (n,))
        jobs = {
            "ours": build_step(Reading(ViT(config)), images, target),
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
            bar=BARS[name],
        )
    yield time_recipe(repeats or 61)


def time_recipe(rounds: int) -> Result:
    """A step of the default recipe against the same without taps."""
    run = resolve_config(RECIPES["induction"]())
    batch = build_task(run.task).eval_batch("validation", run.train.batch_size, 0)
    model = ViT(run.model)
    with torch.no_grad():
        torch.testing.assert_close(Tapless(model)(batch.images), model.answer(batch.images))

    jobs = {
        "ours": build_step(Reading(model), batch.images, batch.target),
        "tapless": build_step(Tapless(ViT(run.model)), batch.images, batch.target),
    }
    times = interleave("induction", jobs, rounds, 10)
    return Result(
        name="step induction",
        ours=times["ours"],
        peer=times["tapless"],
        peer_name="tapless",
        bar=TAPLESS_BAR,
    )
