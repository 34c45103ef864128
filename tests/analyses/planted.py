"""Patterns planted by hand, and models and batches for laws over every analysis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import cycle

import pytest
import torch
from torch import Tensor

from tests.laws.worlds import CONFIGS, MADE
from toyvit.analyses import landscape, llc
from toyvit.analyses.curvature import sample_spectrum
from toyvit.config import ModelConfig
from toyvit.data.task import Batch
from toyvit.model import ViT
from toyvit.model.forward import trace


def uniform(tokens: int, n: int = 2, heads: int = 3) -> Tensor:
    return torch.full((n, heads, tokens, tokens), 1 / tokens)


def one_hot(keys: list[int] | Tensor, n: int = 2, heads: int = 3) -> Tensor:
    """Query q attends to keys[q] and nothing else."""
    keys = torch.as_tensor(keys)
    return torch.nn.functional.one_hot(keys, len(keys)).float().expand(n, heads, -1, -1)


def random(
    tokens: int, n: int = 2, heads: int = 3, seed: int = 0, mask: Tensor | None = None
) -> Tensor:
    """Rows drawn from Dirichlet(1), zero where a mask (query key) forbids."""
    draws = (
        -torch.rand(n, heads, tokens, tokens, generator=torch.Generator().manual_seed(seed))
        .clamp(min=1e-9)
        .log()
    )
    draws = draws if mask is None else draws * mask
    return draws / draws.sum(-1, keepdim=True)


def behind(pattern: Tensor, n_prefix: int) -> Tensor:
    """A pattern among patches, behind CLS and registers that attend to all and get no attention."""
    n, heads, patches, _ = pattern.shape
    out = torch.zeros(n, heads, n_prefix + patches, n_prefix + patches)
    out[:, :, n_prefix:, n_prefix:] = pattern
    out[:, :, :n_prefix] = 1 / (n_prefix + patches)
    return out


def model_for(name: str, n: int = 24, seed: int = 0, **options: object) -> tuple[ViT, Batch]:
    """A small model with large random weights for a task of the laws' table, and a test batch."""
    made = MADE[name]
    world = made.world
    readout = {"image": "mean", "patch": "every", "pixels": "pixels"}[made.output_kind]
    config = ModelConfig(n_layers=2, n_heads=2, d_model=16, readout=readout)
    height, width = world.image_size
    size = world.patch_size or next(
        size for size in (8, 6, 4, 2) if not (height % size or width % size) and height > size
    )
    config = replace(
        config,
        image_size=world.image_size,
        patch_size=size,
        n_channels=world.n_channels,
        n_classes=made.n_classes,
        **options,  # type: ignore[arg-type]
    )
    model = ViT(config, seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.1)
    return model, made.eval_batch("test", n, 0)


OPTIONS: dict[str, dict[str, object]] = {
    "bare, causal": {"cls_token": False, "mask": "causal"},
    "CLS and registers": {"n_registers": 2, "d_mlp": 12},
    "registers only, local": {
        "cls_token": False,
        "n_registers": 1,
        "mask": "local",
        "norm": "rms",
        "positions": "relative-grid",
    },
    "rotary": {"positions": "rotary", "attention_bias": True},
    "CLS, causal, no norm": {"mask": "causal", "norm": "none", "attention_bias": True},
    "one layer": {"n_layers": 1, "mask": "no-cls-read", "n_registers": 1},
}
# Tasks on which the slow analyses are put through the laws: a target of each kind.
SLOW_ON = ("induction 1x7", "markov", "pointers 2 hops", "regress", "objects glyphs")


def pair_models() -> list[tuple[str, str]]:
    """Every task with one of the options, or three where few tasks have its analyses.

    Going round: the next variant of a task, or the next of the few, has the options that follow.
    """
    pairs: list[tuple[str, str]] = []
    rounds: dict[str, Iterator[str]] = {}
    for name in sorted(CONFIGS, key=(*SLOW_ON, *CONFIGS).index):
        kind = MADE[name].output_kind
        is_rare = name in SLOW_ON or kind == "pixels"
        options = rounds.setdefault(kind if is_rare else CONFIGS[name].name, cycle(OPTIONS))
        pairs += [(name, next(options)) for _ in range(3 if is_rare else 1)]
    return pairs


# Pairs that no round comes to, for analyses of few tasks.
FEW = [
    ("addition", "CLS, causal, no norm"),
    ("addition", "one layer"),
    ("addition", "rotary"),
    ("markov grid", "rotary"),
    ("markov masked", "CLS, causal, no norm"),
    ("markov masked", "one layer"),
    ("objects", "registers only, local"),
    *(("hidden-states", options) for options in OPTIONS if options != "bare, causal"),
]
MODELS = [*pair_models(), *FEW]


def iterate_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn or iterated is subject to the same laws when it is done fewer times."""
    monkeypatch.setattr(llc, "DEFAULT", replace(llc.DEFAULT, draws=4, burn_in=0))
    monkeypatch.setattr(llc, "sample_spectrum", partial(sample_spectrum, iterations=4))
    monkeypatch.setattr(landscape, "TOLERANCE", 0.5)


def traced(model: ViT, batch: Batch) -> dict[str, Tensor]:
    return trace(model, batch.images)
