"""Models for the laws: a case for every entry of every table of options, and mixtures of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from _pytest.mark import ParameterSet
from hypothesis import strategies as st
from torch import Tensor

from toyvit.config import ModelConfig
from toyvit.model import ViT, options

TABLES: dict[str, dict[str, Any]] = {
    "norm": options.NORMS,
    "positions": options.POSITIONS,
    "mask": options.MASKS,
    "activation": options.ACTIVATIONS,
    "readout": options.READOUTS,
}
BASE = ModelConfig(
    n_heads=2, d_model=8, d_mlp=12, image_size=(6, 8), patch_size=2, n_channels=2, n_classes=3
)  # 3 x 4 patches
CASES = {
    f"{field}={entry}": replace(BASE, **{field: entry})
    for field, table in TABLES.items()
    for entry in table
} | {
    "attention only": replace(BASE, d_mlp=0),
    "registers": replace(BASE, n_registers=2),
    "registers, no CLS": replace(BASE, n_registers=2, cls_token=False, readout="last"),
    "bare": replace(BASE, d_mlp=0, cls_token=False, readout="last", mask="causal", bias=False),
    "attention biases": replace(BASE, attention_bias=True),
    "embed norm": replace(BASE, embed_norm=True, n_registers=1),
    "dropout": replace(BASE, dropout=0.3),
    "one layer": replace(BASE, n_layers=1, n_heads=4),
    "rotary, attention biases": replace(BASE, positions="rotary", attention_bias=True),
    "one patch": replace(BASE, image_size=(2, 2)),
}
# A sort of each; laws are held for the other cases by the slow tests.
CORE = (
    "norm=layer",
    "positions=relative-grid",
    "positions=rotary",
    "mask=causal",
    "readout=every",
    "readout=pooled",
    "embed norm",
    "registers",
    "bare",
    "one patch",
)


def mark_slow(names: Iterable[str], core: Iterable[str] = CORE) -> list[ParameterSet]:
    """Parameters, marked as slow where they are not of the core."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name not in core)) for name in names]


every_case = pytest.mark.parametrize(
    "config",
    [
        pytest.param(config, id=name, marks=[pytest.mark.slow] * (name not in CORE))
        for name, config in CASES.items()
    ],
)
PATCH_READOUTS = ("every", "pixels")  # read-outs that give one answer a patch


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    """Any small model that the tables allow."""
    options = {field: draw(st.sampled_from(list(table))) for field, table in TABLES.items()}
    needs_cls = options["readout"] == "cls" or options["mask"] == "no-cls-read"
    patch = draw(st.integers(1, 3))
    n_heads = draw(st.integers(1, 3))
    d_head = 4 if options["positions"] == "rotary" else draw(st.integers(3, 6))
    return ModelConfig(
        **options,
        n_layers=draw(st.integers(1, 3)),
        n_heads=n_heads,
        d_model=n_heads * d_head,
        d_mlp=draw(st.sampled_from([0, 10])),
        window=draw(st.integers(1, 2)),
        cls_token=needs_cls or draw(st.booleans()),
        n_registers=draw(st.sampled_from([0, 2])),
        attention_bias=draw(st.booleans()),
        bias=draw(st.booleans()),
        dropout=draw(st.sampled_from([0.0, 0.5])),
        patch_size=patch,
        image_size=(patch * draw(st.integers(2, 4)), patch * draw(st.integers(2, 4))),
        n_channels=draw(st.integers(1, 3)),
        n_classes=draw(st.integers(2, 4)),
    )


def build(config: ModelConfig, seed: int = 1) -> ViT:
    """A model in evaluation mode with large random weights, biases and gains included.

    So that nothing hides behind a 0.
    """
    model = ViT(config, seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            is_matrix = weight.ndim == 2 and name not in ("positions", "prefix")
            scale = 0.8 / weight.shape[1] ** 0.5 if is_matrix else 0.5
            weight.normal_(0, scale, generator=generator)
    return model


def pictures(config: ModelConfig, n: int = 2, seed: int = 0) -> Tensor:
    shape = n, config.stated("n_channels"), *config.stated("image_size")
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def noise(like: Tensor, seed: int = 5) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))
