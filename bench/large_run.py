"""A run of 257 tokens and 12 heads, never trained: for what must not stall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from toyvit.data.task import resolve_config
from toyvit.model import ViT
from toyvit.recipes import RECIPES
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run

SIDE = 16  # patches across and down


def make_large_run(path: Path, steps: Sequence[int] = (0, 10), n_layers: int = 2) -> Run:
    """Patches of two pixels, CLS before them; its weights are another seed's at every step."""
    rng = np.random.default_rng(0)
    file = path.parent / "own.npz"
    images = rng.integers(0, 255, (40, 2 * SIDE, 2 * SIDE), dtype=np.uint8)
    np.savez(file, images=images, labels=np.arange(40) % 4)
    recipe = RECIPES["digits"]()
    config = replace(
        recipe,
        model=replace(recipe.model, n_layers=n_layers, n_heads=12, d_model=96, patch_size=2),
        task=replace(recipe.task, npz=str(file), world="", factor="class"),
        train=replace(recipe.train, steps=max(steps), checkpoints=tuple(steps)),
    )
    resolved = resolve_config(config)
    folder = RunFolder(path)
    folder.create(resolved)
    for place, step in enumerate(steps):
        weights = ViT(resolved.model, seed=place).state_dict()
        folder.write_checkpoint(step, 0, weights, {"loss": 1.0, "accuracy": 0.25})
    return Run(path)
