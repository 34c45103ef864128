"""Double descent of a toy of superposition, reduced (Henighan 2023).

A direction a sample, then a direction a feature.
"""

from __future__ import annotations

from math import inf
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from toyvit.model.toys import Superposition
from toyvit.replications.record import PLOT, Check, Outcome, Panel, Replication, build_lines
from toyvit.replications.superposition import draw_sparse
from toyvit.replications.training import descend
from toyvit.stats import feature_dimensionality

FEATURES = 400
HIDDEN = 2
DENSITY = 0.01
SIZES = (3, 5, 8, 15, 30, 60, 120, 250, 500, 1000, 2000)
STEPS = 2000
RATE = 1e-2
DECAY = 1e-2
WARMUP = 100
TESTED = 2000


class Fit(NamedTuple):
    """A trained toy: its squared errors, and the largest dimensionalities of its directions."""

    training: float
    test: float
    of_features: float
    of_samples: float


def draw_samples(n: int, generator: torch.Generator) -> Tensor:
    """Sparse vectors of length 1 (image feature); one that is all zero stays so."""
    x = draw_sparse(n, torch.tensor([DENSITY]), FEATURES, generator)[:, 0]
    return x / x.norm(dim=1, keepdim=True).clamp(min=1e-9)


def train_toy(x: Tensor, seed: int, steps: int) -> Superposition:
    """A toy trained on all of a finite set at every step, with weight decay.

    The rate rises first and falls to 0.
    """
    model = Superposition(FEATURES, HIDDEN, 1, seed)
    with torch.no_grad():
        model.weight.mul_((HIDDEN / FEATURES) ** 0.5)  # so that what no sample shows starts near 0
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)

    def loss(step: int) -> Tensor:
        optimizer.param_groups[0]["lr"] = RATE * min((step + 1) / WARMUP, 1 - step / steps)
        return measure_error(model, x)

    descend(model, optimizer, loss, steps)
    return model


def measure_error(model: Superposition, x: Tensor) -> Tensor:
    """Squared error of a sample, mean."""
    return (model(x[:, None])[:, 0] - x).square().sum(1).mean()


@torch.no_grad()
def measure_fit(model: Superposition, x: Tensor, unseen: Tensor) -> Fit:
    """What a toy trained on the samples x came to."""
    weight = model.weight[0]
    return Fit(
        training=measure_error(model, x).item(),
        test=measure_error(model, unseen).item(),
        of_features=feature_dimensionality(weight).max().item(),
        of_samples=feature_dimensionality(x @ weight).max().item(),
    )


def run_seed(
    seed: int, folder: Path, steps: int = STEPS, sizes: tuple[int, ...] = SIZES
) -> Outcome:
    generator = torch.Generator().manual_seed(2**20 + seed)
    unseen = draw_samples(TESTED, generator)
    fits = []
    for size in sizes:
        x = draw_samples(size, generator)
        fits.append(measure_fit(train_toy(x, seed, steps), x, unseen))

    worst = max(range(len(sizes)), key=lambda place: fits[place].test)
    first = fits[0]
    last = fits[-1]
    numbers = {
        "worst_size": float(sizes[worst]),
        "rise": fits[worst].test / first.test,
        "fall": fits[worst].test / last.test,
        "features_gain": last.of_features / first.of_features,
        "samples_loss": first.of_samples / last.of_samples,
    }
    nothing = unseen.square().sum(1).mean().item()
    return Outcome(numbers, _build_panels([float(size) for size in sizes], fits, nothing))


def _build_panels(sizes: list[float], fits: list[Fit], nothing: float) -> list[Panel]:
    """Errors and dimensionalities by size of the set; `nothing` is the error of answering 0."""
    errors = build_lines(
        f"{FEATURES} features, {HIDDEN} dimensions",
        "samples in the training set",
        "squared error",
        {
            "training": (sizes, [fit.training for fit in fits]),
            "test": (sizes, [fit.test for fit in fits]),
        },
        levels={"answering 0": nothing},
        scale="log",
    )

    shares = build_lines(
        "who has the dimensions?",
        "samples in the training set",
        "dimensionality, largest",
        {
            "features": (sizes, [fit.of_features for fit in fits]),
            "samples": (sizes, [fit.of_samples for fit in fits]),
        },
        scale="log",
        height="log",
    )
    return [errors, shares]


ROW = Replication(
    name="double-descent",
    title="Superposition, memorization and double descent, reduced",
    source="Henighan 2023, Superposition, Memorization, and Double Descent",
    compared=(
        "Test error of the toy of superposition trained on all of a finite set, by the size of the "
        "set: 400 features in 2 dimensions, density 0.01, samples of length 1, weight decay 0.01, "
        "2,000 steps. Theirs: 10,000 features, density 0.001, 50,000 steps. Features and samples "
        "both tile the 2 dimensions, their dimensionalities always sum to 2: the largest tells "
        "whose they are."
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
        ),
        Check(
            "fall",
            "test error at its worst over that of the largest set",
            "above 1",
            PLOT,
            1.02,
            inf,
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
    remark=(
        "In a small set a sample has features that no other has; the dimensionality of such a "
        "feature is the sample's."
    ),
    version=2,
)
