"""Tasks for the laws of worlds: every task with its defaults, and variants of some."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Sequence

import numpy as np
import pytest
from _pytest.mark import ParameterSet

from tests import standins
from toyvit.config import (
    AdditionConfig,
    ClassifyConfig,
    CountingConfig,
    DspritesConfig,
    FewshotConfig,
    InductionConfig,
    MarkovConfig,
    ObjectsConfig,
    PointersConfig,
    ReconstructConfig,
    RegressConfig,
    RelationsConfig,
    RepeatsConfig,
    SortOfClevrConfig,
    TaskConfig,
)
from toyvit.data import worlds
from toyvit.data.question_configs import LookConfig
from toyvit.data.task import Batch, Task, build_task

CONFIGS: dict[str, TaskConfig] = {
    name: kind() for name, kind in worlds.list_task_configs().items()
} | {
    "induction 4x4": InductionConfig(rows=4, columns=4, n_labels=16, noise=0),
    "induction 1x7": InductionConfig(rows=1, columns=7, n_labels=4),
    "markov masked": MarkovConfig(rows=3, columns=4, ask="masked", noise=0.2),
    "markov grid": MarkovConfig(rows=4, columns=3, form="grid", n_textures=2),
    "markov grid masked": MarkovConfig(rows=3, columns=3, form="grid", ask="masked"),
    "repeats masked": RepeatsConfig(
        rows=3, columns=5, n_glyphs=6, least=2, most=6, ask="masked", noise=0
    ),
    "addition ordered": AdditionConfig(modulus=11, split="ordered"),
    "addition clock": AdditionConfig(modulus=12, shown="clock"),
    "classify a factor": ClassifyConfig(world="counting", factor="right"),
    "regress a class": RegressConfig(world="digits", factor="class"),
    "reconstruct cells": ReconstructConfig(world="glyphs", hidden=0.2),
    "look at digits": LookConfig(
        world="digits",
        size=(16, 16),
        channels=3,
        n_answers=10,
        mean=(0.4, 0.5, 0.6),
        deviation=(0.2, 0.3, 0.4),
    ),
    "look at glyphs": LookConfig(world="glyphs", size=(20, 28), n_answers=1000),
    "dsprites same": DspritesConfig(ask="same", factor="orientation", noise=0.1),
    "dsprites larger": DspritesConfig(ask="larger"),
    "dsprites left, all outlines": DspritesConfig(ask="left", held_out=0),
    "counting all seen": CountingConfig(most=2, held_out=0, noise=0),
    "fewshot mixed": FewshotConfig(
        n_pairs=5, n_classes=12, n_labels=4, burstiness=3, p_bursty=0.5, zipf=1
    ),
    "fewshot random": FewshotConfig(
        n_pairs=3, n_classes=8, n_labels=5, burstiness=1, labels="random"
    ),
    "fewshot distinct": FewshotConfig(
        n_pairs=2, n_classes=8, n_labels=3, burstiness=1, labels="distinct"
    ),
    "fewshot vectors": FewshotConfig(
        source="vectors", n_pairs=3, n_classes=10, n_labels=4, burstiness=2, p_bursty=0.5
    ),
    "fewshot alone": FewshotConfig(n_pairs=2, n_classes=40, burstiness=0, noise=0),
    "counting count": CountingConfig(most=6, ask="count", distractors=10),
    "counting compare": CountingConfig(most=4, ask="compare", distractors=5),
    "sort-of-clevr relational": SortOfClevrConfig(ask="relational", noise=0.1),
    "sort-of-clevr held out": SortOfClevrConfig(held_out=0.25),
    "sort-of-clevr 2 objects": SortOfClevrConfig(n_objects=2, cell=16),
    "objects held out": ObjectsConfig(source="glyphs", size=32, held_out=0.3),
    "objects count": ObjectsConfig(size=40, most=2, ask="count", noise=0),
    "objects glyphs": ObjectsConfig(source="glyphs", size=24),
    "relations match": RelationsConfig(ask="match"),
    "relations odd": RelationsConfig(ask="odd"),
    "relations 2x5 match": RelationsConfig(
        ask="match", rows=2, columns=5, n_shapes=6, noise=0, alike=0.8
    ),
    "relations 3x3 odd": RelationsConfig(ask="odd", rows=3, columns=3, n_objects=9, n_shapes=2),
    "relations 1x2": RelationsConfig(rows=1, columns=2, n_shapes=2),
    "pointers 2 hops": PointersConfig(hops=2),
    "pointers sum": PointersConfig(
        rows=3, columns=4, n_values=10, window=3, aggregate="sum", noise=0
    ),
    "pointers 2 hops sum": PointersConfig(
        rows=2, columns=4, n_values=5, hops=2, window=7, aggregate="sum", held_out=0.5
    ),
    "pointers all seen": PointersConfig(rows=1, columns=3, n_values=2, held_out=0),
    "pointers mnist": PointersConfig(source="mnist", noise=0.1),
    "classify mnist": ClassifyConfig(world="mnist"),
    "objects mnist": ObjectsConfig(source="mnist", held_out=0.2),
    "fewshot mnist": FewshotConfig(source="mnist", n_pairs=4, n_classes=5, n_labels=5, noise=0),
    "fewshot omniglot": FewshotConfig(source="omniglot", n_pairs=4, n_classes=100),
}
standins.trust()  # in a process of its own too
MADE = {name: build_task(config) for name, config in CONFIGS.items()}

# Every split of every one of them.
SPLITS = [(name, split) for name in CONFIGS for split in MADE[name].world.sizes]


def mark_splits(cases: Sequence[tuple[str, ...]]) -> list[ParameterSet]:
    """Parameters of laws that hold for each (name, split, ...): all but `test` are slow."""
    return [pytest.param(*case, marks=[pytest.mark.slow] * (case[1] != "test")) for case in cases]


def splits(name: str) -> list[str]:
    """The splits of a task's world."""
    return list(MADE[name].world.sizes)


def some(name: str, split: str, n: int) -> np.ndarray:
    """The first n samples of a split, or all where there are fewer."""
    size = MADE[name].world.sizes[split]
    return np.arange(n if size is None else min(n, size))


def patches(made: Task, batch: Batch) -> np.ndarray:
    """The pixels of each patch (patch image pixel)."""
    side = made.world.patch_size
    cells = (
        batch.images[:, 0]
        .unflatten(1, (-1, side))
        .unflatten(3, (-1, side))
        .transpose(2, 3)
        .flatten(1, 2)
        .flatten(2)
    )
    return cells.transpose(0, 1).numpy()


def fingerprint(batch: Batch) -> str:
    """Everything of a batch, to the bit."""
    found = hashlib.sha256(batch.images.numpy().tobytes() + batch.target.numpy().tobytes())
    parts = {
        **batch.factors,
        **(batch.strategies or {}),
        "content": batch.content,
        "objects": batch.objects,
    }
    for name, other in (batch.counterfactuals or {}).items():
        parts |= {f"other {name}": other.images, f"answer to other {name}": other.target}
    for name, part in parts.items():
        found.update(name.encode() + (b"" if part is None else part.numpy().tobytes()))
    return found.hexdigest()


def fingerprints() -> dict[str, str]:
    return {
        name: fingerprint(made.draw_batch(3, split, some(name, split, 9)))
        for name, made in MADE.items()
        for split in splits(name)
    }


if __name__ == "__main__":
    json.dump(fingerprints(), sys.stdout)
