"""A model from elsewhere: what its quick analyses cost a checkpoint, beside a forward pass."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import toyvit.torchvision_guard  # noqa: F401

# isort: split
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

from bench.timing import Result, interleave
from toyvit.bridges.importing import import_run
from toyvit.measuring import measure
from toyvit.model.forward import run_model

BAR = 15_000.0
N_IMAGES = 64


def results(repeats: int | None) -> Iterator[Result]:
    """A 12-layer timm ViT of width 192, 197 tokens, 1,000 classes, random weights, 64 pictures."""
    torch.manual_seed(0)
    net = VisionTransformer(embed_dim=192, depth=12, num_heads=3, num_classes=1000)
    rounds = repeats or 3
    with tempfile.TemporaryDirectory() as place:
        files = []
        for step in range(rounds):
            files.append(Path(place, f"net_{step}.safetensors"))
            with torch.no_grad():
                net.head.bias.add_(1e-3)  # another file each time
            save_file(net.state_dict(), files[-1])
        run = import_run(files, Path(place, "run"))

        batch = run.batch("test", N_IMAGES)
        model = run.model(0)
        plain = interleave("forward", {"forward": lambda: run_model(model, batch.images)}, rounds)
        ours = []
        for step in run.steps:
            start = time.process_time()
            measure(run, images=N_IMAGES, steps=[step], progress=False)
            ours.append(1e3 * (time.process_time() - start))
    yield Result(
        name="quick analyses of an imported ViT, 12L 197 tokens (CPU time)",
        ours=ours,
        peer=plain["forward"],
        peer_name="forward pass",
        bar=BAR,
        barred="ours",
    )
