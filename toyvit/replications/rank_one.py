"""The product of three vectors: a plateau and a drop (Singh 2024).

Earlier with one factor clamped, smooth with two.
"""

from __future__ import annotations

from math import inf
from pathlib import Path

import pandas as pd
import torch

from toyvit.dynamics.transitions import find_first_step
from toyvit.model.taps import replacing
from toyvit.model.toys import RankOne
from toyvit.replications.record import PLOT, Check, Outcome, Replication, build_lines
from toyvit.replications.training import descend

SIZE = 20
SCALE = 0.3
STEPS = 1000
RATE = 1.0
CLAMPS = {"nothing clamped": "", "c clamped": "c", "b and c clamped": "bc"}


def train_product(seed: int, clamped: str, steps: int = STEPS) -> list[float]:
    """Mean squared error over entries, by step, of plain gradient descent.

    Towards the product of three N(0, 1) vectors.
    """
    generator = torch.Generator().manual_seed(2**20 + seed)
    goal = {name: torch.randn(SIZE, generator=generator) for name in "abc"}
    target = torch.einsum("i,j,k->ijk", *goal.values())
    model = RankOne(SIZE, SCALE, seed)
    tap = replacing({name: goal[name] for name in clamped})
    errors = []

    def loss(step: int) -> torch.Tensor:
        value = (model(tap) - target).square().mean()
        errors.append(value.item())
        return value

    descend(model, torch.optim.SGD(model.parameters(), lr=RATE), loss, steps)
    return errors


def run_seed(seed: int, folder: Path) -> Outcome:
    curves = {name: pd.Series(train_product(seed, clamped)) for name, clamped in CLAMPS.items()}
    shares = {name: curve / curve[0] for name, curve in curves.items()}
    numbers: dict[str, float | None] = {}
    for name, curve in curves.items():
        short = name.replace(" clamped", "").replace(" ", "_")
        for share in (0.9, 0.5, 0.1):
            numbers[f"{short}_{share}"] = find_first_step(curve < share * curve[0])

    ten = numbers["nothing_0.1"]
    ninety = numbers["nothing_0.9"]
    numbers["width"] = (ten - ninety) / ninety if ten and ninety else None
    clamped = numbers["c_0.5"]
    free = numbers["nothing_0.5"]
    numbers["earlier"] = free / clamped if clamped and free else None

    points = {name: (list(range(STEPS)), share.tolist()) for name, share in shares.items()}
    panel = build_lines(
        "three factors", "iteration", "loss, share of the first", points, scale="symlog"
    )
    return Outcome(numbers, [panel])


ROW = Replication(
    name="rank-one",
    title="The product of three vectors, with clamps",
    source="Singh 2024, section on a toy of three interacting parts",
    compared=(
        "Mean squared error of a (x) b (x) c, 20 entries each, towards a product of three N(0, 1) "
        "vectors; plain gradient descent, rate 1, 1,000 iterations; nothing clamped, c clamped to "
        "its goal, b and c clamped. Start: N(0, 0.3^2)."
    ),
    run=run_seed,
    checks=(
        Check(
            "nothing_0.5",
            "iterations to half of the first loss, nothing clamped",
            "a plateau, then a drop within 1,000",
            PLOT,
            50,
            1000,
        ),
        Check(
            "width",
            "iterations from 90 % to 10 % of the loss, over those before",
            "abrupt",
            PLOT,
            0,
            0.5,
        ),
        Check("earlier", "how many times sooner with c clamped", "earlier", PLOT, 1.5, inf),
        Check(
            "b_and_c_0.9",
            "iterations to 90 % of the loss, b and c clamped: no plateau",
            "smooth",
            PLOT,
            0,
            5,
        ),
    ),
    minutes=0.01,
    remark=(
        "A start whose overlaps with the goal multiply to less than 0 has to turn round first, "
        "and may not in 1,000."
    ),
)
