"""Modular addition, p = 53, by a small MLP on embeddings: grokking.

And its local learning coefficient on the way.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from toyvit.analyses.llc import LlcConfig, sample_chains
from toyvit.dynamics.transitions import find_first_step
from toyvit.model.toys import Sums
from toyvit.replications.record import ONE_RUN, Check, Outcome, Panel, Replication, build_lines
from toyvit.replications.training import descend, space_evenly

P = 53
SHARE = 0.4
STEPS = 40_000
BATCH = 128
RATE = 5e-3
DECAY = 2e-4
LOOKS = 80
N_LLC = 20  # checkpoints, about, whose coefficient is estimated
# n beta as devinterp has it, batch over ln batch. On a grokked seed 3e-4 and 1e-3 differ by 5 % or
# less, 1e-4 by 30 %.
SAMPLER = LlcConfig(
    step_size=1e-3, n_beta=BATCH / math.log(BATCH), draws=200, burn_in=100, chains=4, batch=256
)


def list_sums(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pairs and their sums: 40 % of all ordered pairs to train on, and the others."""
    pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(2**20 + seed))
    n_trained = round(SHARE * len(order))
    trained, others = order.split([n_trained, len(order) - n_trained])
    sums = pairs.sum(1) % P
    return pairs[trained], sums[trained], pairs[others], sums[others]


def estimate_coefficient(model: Sums, pairs: Tensor, sums: Tensor) -> float | None:
    """The local learning coefficient of the training loss at a model's weights.

    None where the chains diverged.
    """

    def loss(weights: dict[str, Tensor], rows: Tensor | None) -> Tensor:
        x, y = (pairs, sums) if rows is None else (pairs[rows], sums[rows])
        return F.cross_entropy(functional_call(model, weights, (x,)), y)

    weights = dict(model.named_parameters())
    estimate = sample_chains(loss, weights, len(pairs), SAMPLER, math.log(P))
    return None if estimate.diverged else estimate.mean


def run_seed(seed: int, folder: Path, steps: int = STEPS, looks: int = LOOKS) -> Outcome:
    pairs, sums, others, answers = list_sums(seed)
    generator = torch.Generator().manual_seed(2**21 + seed)
    model = Sums(P, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
    when = space_evenly(steps, looks)
    accuracy: dict[str, list[float]] = {"training": [], "test": []}
    models: list[Sums] = []

    def loss(step: int) -> Tensor:
        rows = torch.randint(len(pairs), (BATCH,), generator=generator)
        return F.cross_entropy(model(pairs[rows]), sums[rows])

    def look(step: int) -> None:
        for name, x, y in (("training", pairs, sums), ("test", others, answers)):
            accuracy[name].append((model(x).argmax(1) == y).float().mean().item())
        models.append(copy.deepcopy(model))

    descend(model, optimizer, loss, steps, look, when)
    places = range(0, len(when), max(1, (len(when) - 1) // N_LLC))
    llcs = [estimate_coefficient(models[place], pairs, sums) for place in places]
    curves = {name: pd.Series(values, when) for name, values in accuracy.items()}
    panels = _build_panels(curves, [when[place] for place in places], llcs)
    return Outcome(summarize_curves(curves, llcs), panels)


def summarize_curves(
    accuracy: dict[str, pd.Series], llcs: list[float | None]
) -> dict[str, float | None]:
    """The numbers of the checks, from accuracies over steps and coefficients in order."""
    estimated = [value for value in llcs if value is not None]
    peak = max(estimated) if estimated else None
    end = llcs[-1]

    return {
        "training_99": find_first_step(accuracy["training"] > 0.99),
        "test_10": find_first_step(accuracy["test"] > 0.1),
        "test_95": find_first_step(accuracy["test"] > 0.95),
        "test_at_end": float(accuracy["test"].iloc[-1]),
        "llc_peak": peak,
        "llc_end": end,
        "llc_fall": end / peak if peak and end is not None else None,
    }


def _build_panels(
    accuracy: dict[str, pd.Series], steps: list[int], llcs: list[float | None]
) -> list[Panel]:
    title = "modular addition, p = 53"
    points = {name: (list(curve.index), curve.tolist()) for name, curve in accuracy.items()}
    accuracies = build_lines(title, "step", "accuracy", points, levels={"chance": 1 / P})
    values = [math.nan if value is None else value for value in llcs]
    title = "local learning coefficient"
    return [accuracies, build_lines(title, "step", "LLC", {"LLC": (steps, values)})]


ROW = Replication(
    name="modular-addition",
    title="Modular addition, p = 53: grokking",
    source="devinterp, example notebook on grokking",
    compared=(
        "Training and test accuracy of an MLP on embeddings (12 numbers each, 48 hidden units, "
        "GELU), 40 % of the ordered pairs to train on, Adam with weight decay 2e-4 at a rate of "
        "5e-3, batches of 128, 40,000 steps; and the local learning coefficient of the training "
        "loss, at 20 checkpoints (n beta 26.4, spring 100)."
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
        ),
        Check(
            "test_95",
            "step of test accuracy 0.95",
            "1 by 19,000; not all seeds",
            ONE_RUN,
            9500,
            38000,
        ),
        Check("llc_peak", "local learning coefficient at its highest", "49", ONE_RUN, 35, 65),
        Check(
            "llc_fall",
            "the coefficient at the end over its highest",
            "0.47 (23)",
            ONE_RUN,
            0,
            0.7,
        ),
        Check("llc_end", "the coefficient at the end", "23", ONE_RUN, 16, 30),
    ),
    minutes=1,
    remark=(
        "The sampler's settings behind 49 and 23 are not known here. In the seed that does not "
        "grok it falls by a third."
    ),
)
