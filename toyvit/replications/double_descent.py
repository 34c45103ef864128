"""Double descent of a toy of superposition: a direction a sample, then a direction a feature (Henighan 2023), reduced."""

from __future__ import annotations

from math import inf
from pathlib import Path

import torch
from torch import Tensor

from toyvit.model.toys import Superposition
from toyvit.replications.record import PLOT, Check, Outcome, Replication, build_lines
from toyvit.replications.superposition import draw_sparse
from toyvit.replications.training import descend
from toyvit.stats import feature_dimensionality

FEATURES, HIDDEN, DENSITY = 400, 2, 0.01
SIZES = (3, 5, 8, 15, 30, 60, 120, 250, 500, 1000, 2000)
STEPS, RATE, DECAY, WARMUP = 2000, 1e-2, 1e-2, 100
TESTED = 2000


def draw_samples(n: int, generator: torch.Generator) -> Tensor:
    """Sparse vectors of length 1 (image feature); one that is all zero stays so."""
    x = draw_sparse(n, torch.tensor([DENSITY]), FEATURES, generator)[:, 0]
    return x / x.norm(dim=1, keepdim=True).clamp(min=1e-9)


def train_toy(x: Tensor, seed: int, steps: int) -> Superposition:
    """A toy trained on all of a finite set at every step, with weight decay, the rate rising first and falling to 0."""
    model = Superposition(FEATURES, HIDDEN, 1, seed)
    with torch.no_grad():
        model.weight.mul_((HIDDEN / FEATURES) ** 0.5)  # so that what no sample shows starts near 0
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)

    def loss(step: int) -> Tensor:
        optimizer.param_groups[0]["lr"] = RATE * min((step + 1) / WARMUP, 1 - step / steps)
        return (model(x[:, None])[:, 0] - x).square().sum(1).mean()

    descend(model, optimizer, loss, steps)
    return model


def run_seed(
    seed: int, folder: Path, steps: int = STEPS, sizes: tuple[int, ...] = SIZES
) -> Outcome:
    generator = torch.Generator().manual_seed(2**20 + seed)
    unseen, rows = draw_samples(TESTED, generator), []
    for size in sizes:
        x = draw_samples(size, generator)
        model = train_toy(x, seed, steps)
        with torch.no_grad():
            hidden, weight = x @ model.weight[0], model.weight[0]
            errors = [
                (model(one[:, None])[:, 0] - one).square().sum(1).mean().item()
                for one in (x, unseen)
            ]
            rows.append(
                [*errors, *(feature_dimensionality(one).max().item() for one in (weight, hidden))]
            )
    training, test, of_features, of_samples = map(list, zip(*rows, strict=True))
    worst = max(range(len(sizes)), key=test.__getitem__)
    numbers = {
        "worst_size": float(sizes[worst]),
        "rise": test[worst] / test[0],
        "fall": test[worst] / test[-1],
        "features_gain": of_features[-1] / of_features[0],
        "samples_loss": of_samples[0] / of_samples[-1],
    }
    places, nothing = [float(size) for size in sizes], unseen.square().sum(1).mean().item()
    return Outcome(
        numbers,
        [
            build_lines(
                f"{FEATURES} features, {HIDDEN} dimensions",
                "samples in the training set",
                "squared error",
                {"training": (places, training), "test": (places, test)},
                levels={"answering 0": nothing},
                scale="log",
            ),
            build_lines(
                "who has the dimensions?",
                "samples in the training set",
                "dimensionality, largest",
                {"features": (places, of_features), "samples": (places, of_samples)},
                scale="log",
                height="log",
            ),
        ],
    )


ROW = Replication(
    name="double-descent",
    title="Superposition, memorization and double descent, reduced",
    source="Henighan 2023, Superposition, Memorization, and Double Descent",
    compared=(
        "Test error of the toy of superposition trained on all of a finite set, by the size of the set: 400 features in 2 "
        "dimensions, density 0.01, samples of length 1, weight decay 0.01, 2,000 steps. Theirs: 10,000 features, density "
        "0.001, 50,000 steps. Features and samples both tile the 2 dimensions, their "
        "dimensionalities always sum to 2: the largest tells whose they are."
    ),
    run=run_seed,
    checks=(
        Check(
            "rise",
            "test error at its worst over that of the smallest set",
            "above 1",
            PLOT,
            1.02,
            inf,
            must=True,
        ),
        Check(
            "fall",
            "test error at its worst over that of the largest set",
            "above 1",
            PLOT,
            1.02,
            inf,
            must=True,
        ),
        Check(
            "features_gain",
            "largest dimensionality of a feature, largest set over smallest",
            "rises",
            PLOT,
            1.5,
            inf,
        ),
        Check(
            "samples_loss",
            "largest dimensionality of a sample, smallest set over largest",
            "falls",
            PLOT,
            1.5,
            inf,
        ),
        Check("worst_size", "size of the worst set", "between the regimes", PLOT, 4, 3000),
    ),
    minutes=0.5,
    remark="In a small set a sample has features that no other has; the dimensionality of such a feature is the sample's.",
    version=2,
)
