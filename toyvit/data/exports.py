"""Data sets for other people's tools: baselines, a checksum, and arrays with their card."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from toyvit.config.whole_files import build_folder
from toyvit.data.baselines import N_SCORED, fit_baselines, score_patch_probes
from toyvit.data.cards import collect_pages
from toyvit.data.npz_files import Arrays, write_npz
from toyvit.data.task import Task
from toyvit.errors import BadInput, name_file, quote_code

N_CHECKED = 1000
OWN_SPLITS = ("train", "validation", "test")  # those that every task has


class ArrayFacts(NamedTuple):
    """What an export says of an array."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    least: float
    most: float


def hash_samples(task: Task) -> str:
    """SHA-256 of the first 1,000 training samples of seed 0; the card states it.

    Of their pictures (float32) and targets.
    """
    batch = task.eval_batch("train", N_CHECKED, 0)
    content = batch.images.numpy().tobytes() + batch.target.numpy().tobytes()
    return hashlib.sha256(content).hexdigest()


def score_baselines(task: Task) -> dict[str, float]:
    """What baselines score on the first 1,000 test pictures (or all there are) of seed 0.

    The task's own; where it asks each picture for a class, also probes of its pixels, and the best
    of the probes that see one patch where pictures are made of patches. Scores on further splits,
    such as `held_out`, stand last, their split before them. The card states them all.
    """
    scores = task.baselines(task.eval_batch("test", N_SCORED, 0)) | fit_baselines(task.config)
    if "accuracy.pixel_probe" in scores and task.world.patch_size:
        by_patch = score_patch_probes(task.config, task.world.patch_size)
        scores["accuracy.best_patch_probe"] = float(by_patch.max())

    for split in task.world.sizes:
        if split not in OWN_SPLITS:
            further = task.baselines(task.eval_batch(split, N_SCORED, 0))
            scores |= {f"{split} {name}": score for name, score in further.items()}
    return scores


def build_arrays(task: Task, split: str, n: int) -> Arrays:
    """The first n samples of a split, seed 0, as `datasets/exports.md` describes them."""
    size = task.world.sizes[split]
    factors = task.world.sample(0, split, np.arange(n if size is None else min(n, size)))
    batch = task.batch_from_factors(factors)
    images = batch.images.permute(0, 2, 3, 1).numpy()

    arrays: Arrays = {"images": images[..., 0] if images.shape[3] == 1 else images}
    arrays["target" if batch.classes is None else "labels"] = batch.target.numpy()
    for name, values in batch.factors.items():
        if name != "class":
            arrays[f"factor_{name}"] = values.numpy()
    return arrays | {f"world_{name}": values for name, values in factors.items()}


def export_samples(
    name: str, task: Task, folder: Path, n: int, draw: Callable[[Path], object]
) -> Path:
    """Write the first n samples of every split (or all there are) into a new folder.

    As npz, with the card of the data set `name` and the pages that it links to, and the preview
    that `draw` makes; whole or not at all.
    """
    check_vacant(folder)
    try:
        with name_file(folder), build_folder(folder) as beside:
            _fill(beside, name, task, n, draw)
    except OSError:
        check_vacant(folder)  # another export was faster
        raise
    return folder


def check_vacant(folder: Path) -> None:
    """BadInput where an export would have to touch what is there."""
    if folder.exists():
        raise BadInput(f"{folder} exists already: --export makes a new folder")


def _fill(folder: Path, name: str, task: Task, n: int, draw: Callable[[Path], object]) -> None:
    facts: dict[str, dict[str, ArrayFacts]] = {}
    for split in task.world.sizes:
        arrays = build_arrays(task, split, n)
        write_npz(folder / f"{split}.npz", arrays)
        facts[split] = {array: _note_facts(values) for array, values in arrays.items()}

    draw(folder / "preview.png")
    pages = collect_pages(name)
    pages["README.md"] += f"\n{_describe_files(task, facts)}"
    for file_name, text in pages.items():
        (folder / file_name).write_text(text)


def _note_facts(values: NDArray[np.generic]) -> ArrayFacts:
    return ArrayFacts(
        values.dtype, values.shape, float(np.nanmin(values)), float(np.nanmax(values))
    )


def _describe_files(task: Task, facts: dict[str, dict[str, ArrayFacts]]) -> str:
    """What the files of an export hold: a table of the arrays, over all splits."""
    sizes = ", ".join(
        f"{quote_code(f'{split}.npz')} {arrays['images'].shape[0]:,}"
        for split, arrays in facts.items()
    )
    lines = [
        f"**These files.** The first samples of each split, seed 0: {sizes}. "
        f"Settings of the task: {quote_code(str(task.config))}.",
        "The scores and the checksum above are of the set's default settings.",
        "",
        "| array | type | shape | smallest | largest |",
        "|---|---|---|---|---|",
    ]

    for name, first in facts["train"].items():
        of_splits = [arrays[name] for arrays in facts.values()]
        shape = " x ".join(["sample", *map(str, first.shape[1:])])
        least = min(part.least for part in of_splits)
        most = max(part.most for part in of_splits)
        lines.append(f"| {quote_code(name)} | {first.dtype} | {shape} | {least:g} | {most:g} |")
    return "\n".join([*lines, ""])
