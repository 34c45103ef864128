"""Modular addition, p = 53, by a small MLP on embeddings: grokking, and its local learning coefficient on the way."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from toyvit.model.toys import Sums
from toyvit.replications.record import ONE_RUN, Check, Found, Replication, lines
from toyvit.replications.training import descend, first

P, SHARE = 53, 0.4
STEPS, BATCH, RATE, DECAY, LOOKS = 40_000, 128, 5e-3, 2e-4, 80


def data(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pairs and their sums: 40 % of all ordered pairs to train on, and the others."""
    pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(2**20 + seed))
    seen, unseen = order.split([round(SHARE * len(order)), len(order) - round(SHARE * len(order))])
    sums = pairs.sum(1) % P
    return pairs[seen], sums[seen], pairs[unseen], sums[unseen]


def run(seed: int, folder: Path, steps: int = STEPS, looks: int = LOOKS) -> Found:
    pairs, sums, others, answers = data(seed)
    generator, model = torch.Generator().manual_seed(2**21 + seed), Sums(P, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
    when = sorted({round(k * steps / looks) for k in range(looks + 1)})
    accuracy: dict[str, list[float]] = {"training": [], "test": []}
    kept: list[Sums] = []

    def loss(step: int) -> Tensor:
        rows = torch.randint(len(pairs), (BATCH,), generator=generator)
        return F.cross_entropy(model(pairs[rows]), sums[rows])

    def look(step: int) -> None:
        for name, x, y in (("training", pairs, sums), ("test", others, answers)):
            accuracy[name].append((model(x).argmax(1) == y).float().mean().item())
        kept.append(copy.deepcopy(model))

    descend(model, optimizer, loss, steps, look, when)
    numbers = {
        "training_99": first(when, accuracy["training"], over=0.99),
        "test_10": first(when, accuracy["test"], over=0.1),
        "test_95": first(when, accuracy["test"], over=0.95),
        "test_at_end": accuracy["test"][-1],
    }
    shown = {name: (when, values) for name, values in accuracy.items()}
    panels = [lines("modular addition, p = 53", "step", "accuracy", shown, levels={"chance": 1 / P})]
    return Found(numbers, panels)


ROW = Replication(
    name="modular-addition",
    title="Modular addition, p = 53: grokking",
    source="devinterp, example notebook on grokking",
    compared=(
        "Training and test accuracy of an MLP on embeddings (12 numbers each, 48 hidden units, GELU), 40 % of the ordered "
        "pairs to train on, Adam with weight decay 2e-4 at a rate of 5e-3, batches of 128, 40,000 steps."
    ),
    run=run,
    checks=(
        Check("training_99", "step of training accuracy 0.99", "2,000", ONE_RUN, 500, 5000),
        Check("test_10", "step of test accuracy 0.1", "under 0.03 to 12,000", ONE_RUN, 6000, 40000, must=True),
        Check("test_95", "step of test accuracy 0.95", "1 by 19,000; not all seeds", ONE_RUN, 9500, 38000, must=True),
    ),
    minutes=0.8,
)
