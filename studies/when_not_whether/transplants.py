"""Transplants: a part of an early start put into a late one, and how far that makes it early."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed

from studies.when_not_whether.crosses import Table
from studies.when_not_whether.half_way import Subject, find_half_way
from toyvit.config.foreign_files import read_object
from toyvit.config.whole_files import write_atomically
from toyvit.model import ViT
from toyvit.runs.disk import format_line

N_PAIRS = 4  # of the latest and the earliest first weights
N_STREAMS = 3
POSITIONS = "positions"
PATCHES = "patch embedding"
HEAD = "read-out"


@dataclass(frozen=True)
class Transplant:
    """What a part of an early start does in a late one, over pairs and data streams.

    shares   1 where the late start becomes as early as the donor, 0 where nothing changes; one
             value a pair, the mean of its streams
    """

    part: str
    shares: list[float]


def list_parts(model: ViT) -> dict[str, list[str]]:
    """The parts of a model that are put into another, by name: single ones, then several."""
    layers = range(model.config.n_layers)
    single = {POSITIONS: [POSITIONS], PATCHES: [PATCHES]}
    for layer in layers:
        single |= {name: [name] for name in (f"QK {layer}", f"OV {layer}")}
    blocks = [name for layer in layers for name in (f"QK {layer}", f"OV {layer}")]
    several = {
        "embedding": [POSITIONS, PATCHES],
        "all blocks": blocks,
        "all QK": [f"QK {layer}" for layer in layers],
        "all OV": [f"OV {layer}" for layer in layers],
        "embedding and QK 0": [POSITIONS, PATCHES, "QK 0"],
        "embedding and layer 0": [POSITIONS, PATCHES, "QK 0", "OV 0"],
    }
    return single | {HEAD: [HEAD]} | several


@torch.no_grad()
def put_parts(donor: ViT, parts: Sequence[str], model: ViT) -> None:
    """Overwrite parts of a model by those of a donor of the same shape."""
    width = model.config.d_model
    for part in parts:
        kind, _, layer = part.partition(" ")
        if part == POSITIONS:
            model.positions.copy_(donor.positions)
            model.prefix.copy_(donor.prefix)
        elif part == PATCHES:
            model.patch.load_state_dict(donor.patch.state_dict())
        elif part == HEAD:
            model.head.load_state_dict(donor.head.state_dict())
        else:
            own = model.blocks[int(layer)].attn
            other = donor.blocks[int(layer)].attn
            rows = slice(0, 2 * width) if kind == "QK" else slice(2 * width, 3 * width)
            own.qkv.weight[rows] = other.qkv.weight[rows]
            if kind == "OV":
                own.out.load_state_dict(other.out.state_dict())


def choose_pairs(table: Table, last: int) -> list[tuple[int, int]]:
    """The latest first weights, each with one of the earliest, by the mean over streams."""
    order = [table.inits[place] for place in table.take_logs(last).mean(1).argsort()]
    return list(zip(order[::-1][:N_PAIRS], order[:N_PAIRS], strict=True))


def transplant_all(subject: Subject, table: Table, file: Path, jobs: int = 1) -> list[Transplant]:
    """Every part of the earliest starts put into the latest, read from a file if it is there."""
    if file.exists():
        return [Transplant(*row) for row in read_object(file)["parts"]]
    last = subject.build_config(0, 0).train.steps
    pairs = choose_pairs(table, last)
    streams = table.streams[:N_STREAMS]
    names = list_parts(ViT(subject.build_config(0, 0).model))

    work = list(product(names, pairs, streams))
    runs = (
        delayed(train_with_part)(subject, names[name], *pair, stream) for name, pair, stream in work
    )
    steps = Parallel(n_jobs=jobs, inner_max_num_threads=1)(runs)
    logs = np.log(np.minimum(steps, last)).reshape(len(names), len(pairs), len(streams))
    transplants = [
        Transplant(name, _take_shares(table, last, pairs, streams, changed))
        for name, changed in zip(names, logs, strict=True)
    ]
    rows = [[item.part, item.shares] for item in transplants]
    record = {"recipe": subject.recipe, "pairs": pairs, "streams": streams, "parts": rows}
    write_atomically(file, format_line(record).encode())
    return transplants


def train_with_part(
    subject: Subject, parts: Sequence[str], late: int, early: int, stream: int
) -> float:
    """The half-way step of a late start with some parts of an early one."""
    config = subject.build_config(late, stream)
    donor = ViT(config.model, seed=early)
    return find_half_way(config, subject.level, partial(put_parts, donor, parts))


def _take_shares(
    table: Table,
    last: int,
    pairs: Sequence[tuple[int, int]],
    streams: Sequence[int],
    changed: np.ndarray,
) -> list[float]:
    """(late - changed) / (late - early), in logarithms, each a mean over streams."""
    logs = table.take_logs(last)
    columns = [table.streams.index(stream) for stream in streams]
    shares = []
    for (late, early), own in zip(pairs, changed, strict=True):
        before = logs[table.inits.index(late), columns].mean()
        goal = logs[table.inits.index(early), columns].mean()
        shares.append(float((before - own.mean()) / (before - goal)))
    return [round(share, 3) if math.isfinite(share) else 0.0 for share in shares]
