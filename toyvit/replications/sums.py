"""Modular addition, p = 53, by a small MLP on embeddings: grokking, and its local learning coefficient on the way."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from toyvit.analyses.llc import LlcConfig, sample_chains
from toyvit.model.toys import Sums
from toyvit.replications.record import ONE_RUN, Check, Outcome, Replication, build_lines
from toyvit.replications.training import descend, find_first

P, SHARE = 53, 0.4
STEPS, BATCH, RATE, DECAY, LOOKS = 40_000, 128, 5e-3, 2e-4, 80
N_LLC = 20  # checkpoints, about, whose coefficient is estimated
# n beta as devinterp has it, batch over ln batch. On a grokked seed 3e-4 and 1e-3 differ by 5 % or less, 1e-4 by 30 %.
SAMPLER = LlcConfig(
    step_size=1e-3, n_beta=BATCH / math.log(BATCH), draws=200, burn_in=100, chains=4, batch=256
)


def list_sums(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pairs and their sums: 40 % of all ordered pairs to train on, and the others."""
    pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(2**20 + seed))
    seen, unseen = order.split([round(SHARE * len(order)), len(order) - round(SHARE * len(order))])
    sums = pairs.sum(1) % P
    return pairs[seen], sums[seen], pairs[unseen], sums[unseen]


def estimate_coefficient(model: Sums, pairs: Tensor, sums: Tensor) -> float | None:
    """The local learning coefficient of the training loss at a model's weights; None where the chains diverged."""

    def loss(weights: dict[str, Tensor], rows: Tensor | None) -> Tensor:
        x, y = (pairs, sums) if rows is None else (pairs[rows], sums[rows])
        return F.cross_entropy(functional_call(model, weights, (x,)), y)

    found = sample_chains(loss, dict(model.named_parameters()), len(pairs), SAMPLER, math.log(P))
    return None if found.diverged else found.mean


def run_seed(seed: int, folder: Path, steps: int = STEPS, looks: int = LOOKS) -> Outcome:
    pairs, sums, others, answers = list_sums(seed)
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
    places = range(0, len(when), max(1, (len(when) - 1) // N_LLC))
    llcs = [estimate_coefficient(kept[place], pairs, sums) for place in places]
    known = [value for value in llcs if value is not None]
    peak = max(known) if known else None
    numbers = {
        "training_99": find_first(when, accuracy["training"], over=0.99),
        "test_10": find_first(when, accuracy["test"], over=0.1),
        "test_95": find_first(when, accuracy["test"], over=0.95),
        "test_at_end": accuracy["test"][-1],
        "llc_peak": peak,
        "llc_end": llcs[-1],
        "llc_fall": llcs[-1] / peak if peak and llcs[-1] is not None else None,
    }
    shown = {name: (when, values) for name, values in accuracy.items()}
    nan = [float("nan") if value is None else value for value in llcs]
    panels = [
        build_lines(
            "modular addition, p = 53", "step", "accuracy", shown, levels={"chance": 1 / P}
        ),
        build_lines(
            "local learning coefficient",
            "step",
            "LLC",
            {"LLC": ([when[place] for place in places], nan)},
        ),
    ]
    return Outcome(numbers, panels)


ROW = Replication(
    name="modular-addition",
    title="Modular addition, p = 53: grokking",
    source="devinterp, example notebook on grokking",
    compared=(
        "Training and test accuracy of an MLP on embeddings (12 numbers each, 48 hidden units, GELU), 40 % of the ordered "
        "pairs to train on, Adam with weight decay 2e-4 at a rate of 5e-3, batches of 128, 40,000 steps; "
        "and the local learning coefficient of the training loss, at 20 checkpoints (n beta 26.4, spring 100)."
    ),
    run=run_seed,
    checks=(
        Check("training_99", "step of training accuracy 0.99", "2,000", ONE_RUN, 500, 5000),
        Check(
            "test_10",
            "step of test accuracy 0.1",
            "under 0.03 to 12,000",
            ONE_RUN,
            6000,
            40000,
            must=True,
        ),
        Check(
            "test_95",
            "step of test accuracy 0.95",
            "1 by 19,000; not all seeds",
            ONE_RUN,
            9500,
            38000,
            must=True,
        ),
        Check("llc_peak", "local learning coefficient at its highest", "49", ONE_RUN, 35, 65),
        Check(
            "llc_fall",
            "the coefficient at the end over its highest",
            "0.47 (23)",
            ONE_RUN,
            0,
            0.7,
            must=True,
        ),
        Check("llc_end", "the coefficient at the end", "23", ONE_RUN, 16, 30),
    ),
    minutes=1,
    remark="The sampler's settings behind 49 and 23 are not known here. In the seed that does not grok it falls by a third.",
)
