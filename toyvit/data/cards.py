"""Data sets for other people's tools: a checksum of the first samples, and arrays with their card."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from toyvit.data import source
from toyvit.data.generic import WORLDS
from toyvit.data.task import Task
from toyvit.errors import BadInput

N_CHECKED = 1000


def checksum(made: Task) -> str:
    """SHA-256 of the pictures (float32) and targets of the first 1,000 training samples of seed 0; the card states it."""
    batch = made.frozen(0, "train", N_CHECKED)
    return hashlib.sha256(batch.images.numpy().tobytes() + batch.target.numpy().tobytes()).hexdigest()


def arrays(made: Task, split: str, n: int) -> dict[str, NDArray[np.generic]]:
    """The first n samples of a split, seed 0.

    `images` (picture, height, width), or with channels last; the answer, `labels` where it is a class a picture, else
    `target`; what probes read, `factor_NAME`; and all that the pictures were drawn from, `world_NAME`.
    """
    size = made.world.sizes[split]
    drawn = made.world.sample(0, split, np.arange(n if size is None else min(n, size)))
    batch = made.describe(drawn)
    images = batch.images.permute(0, 2, 3, 1).numpy()
    name = "target" if batch.classes is None else "labels"
    found: dict[str, NDArray[np.generic]] = {
        "images": images[..., 0] if images.shape[3] == 1 else images,
        name: batch.target.numpy(),
    }
    found |= {f"factor_{factor}": values.numpy() for factor, values in batch.factors.items() if factor != "class"}
    return found | {f"world_{factor}": values for factor, values in drawn.items()}


def export(name: str, folder: Path, n: int) -> Path:
    """Write the first n samples of every split (or all there are) as npz, and the card, into a new folder; whole or not."""
    if folder.exists():
        raise BadInput(f"{folder} exists already: --export makes a new folder")
    made, card = WORLDS[name][0](), source.prepared(name) / "README.md"
    beside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for split in made.world.sizes:
        np.savez_compressed(beside / f"{split}.npz", **arrays(made, split, n))  # type: ignore[arg-type]
    text = card.read_text() if card.exists() else f"# {name}\n"
    first = f"\n**These files.** The first {n:,} samples of each split (or all there are), seed 0, task `{made.config.name}`.\n"
    (beside / "README.md").write_text(text + first)
    beside.rename(folder)
    return folder
