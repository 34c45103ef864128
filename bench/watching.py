"""What `watch` adds to somebody's training: a checkpoint, its analysis, over the steps between.

The loop is timm's model of the benches' four layers, in plain torch; 64 pictures, one analysis.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import toyvit.torchvision_guard  # noqa: F401

# isort: split
import torch
from timm.models.vision_transformer import VisionTransformer
from torch.nn import functional as F

from bench.timing import Result, interleave
from toyvit.bridges.watching import Watcher, watch

BAR = 0.02
EVERY = 100
BATCH = 128
N_SHOWN = 64
SHAPES = {"4L+MLP d128 T17 B128": (4, 128), "2L+MLP d32 T17 B128, a toy": (2, 32)}


def build_loop(
    depth: int, width: int, folder: Path
) -> tuple[Callable[[], object], Watcher, Callable[[], object]]:
    """One step of the plain loop, its watcher, and one more checkpoint of this."""
    torch.manual_seed(0)
    model = VisionTransformer(
        img_size=28,
        patch_size=7,
        in_chans=1,
        num_classes=10,
        embed_dim=width,
        depth=depth,
        num_heads=4,
    )
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    images = torch.randn(BATCH, 1, 28, 28)
    classes = torch.arange(BATCH) % 10

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images), classes).backward()
        optimizer.step()

    shown = (images[:N_SHOWN], classes[:N_SHOWN])
    watcher = watch(model, into=folder, every=EVERY, pictures=shown, analyses=["attention"])

    def keep() -> None:
        watcher.reach(watcher.n_steps + EVERY)

    return step, watcher, keep


def results(repeats: int | None) -> Iterator[Result]:
    """Of each shape a checkpoint with its analysis over the steps between two."""
    for name, (depth, width) in SHAPES.items():
        with tempfile.TemporaryDirectory() as place:
            step, watcher, keep = build_loop(depth, width, Path(place) / "run")
            steps = interleave(f"{name}: steps", {"steps": step}, repeats or 9, calls=5)
            keeps = interleave(f"{name}: watch", {"watch": keep}, repeats or 9)
            watcher.close()
        is_asked = depth == max(shape[0] for shape in SHAPES.values())
        yield Result(
            name=f"watch every {EVERY}: {name}",
            ours=keeps["watch"],
            peer=[EVERY * time for time in steps["steps"]],
            peer_name=f"{EVERY} steps",
            bar=BAR if is_asked else None,
        )
