"""Geometry of superposition: which features get dimensions to themselves, and which share one.

By sparsity (Elhage 2022).
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from toyvit.model.toys import Superposition
from toyvit.replications.record import (
    PLOT,
    TEXT,
    Check,
    Outcome,
    Panel,
    Replication,
    build_grid,
    build_lines,
)
from toyvit.replications.training import descend
from toyvit.stats import feature_dimensionality

STEPS = 3000
BATCH = 1024
RATE = 1e-2
COPIES = 4
# One minus sparsity.
DENSITIES = (1.0, 0.7, 0.5, 0.3, 0.2, 0.14, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01)
IMPORTANCES = torch.logspace(-1, 1, 11)
MAP_DENSITIES = torch.logspace(-2, 0, 11)


def draw_sparse(
    n: int, density: Float[Tensor, " copy"], n_features: int, generator: torch.Generator
) -> Float[Tensor, "image copy feature"]:
    """Features uniform in 0 .. 1, each there with the probability of its copy."""
    shape = (n, len(density), n_features)
    sizes = torch.rand(shape, generator=generator)
    is_there = torch.rand(shape, generator=generator) < density[:, None]
    return sizes * is_there


def train_copies(
    n_features: int,
    n_hidden: int,
    importance: Float[Tensor, "copy feature"],
    density: Float[Tensor, " copy"],
    seed: int,
    *,
    steps: int = STEPS,
    batch: int = BATCH,
) -> tuple[Float[Tensor, "copy feature hidden"], Float[Tensor, " copy"]]:
    """Directions of a toy for each copy, and their losses, by AdamW with a rate that falls to 0.

    Loss: importance times squared error, over density, so that sparse copies count as much as dense
    ones.
    """
    generator = torch.Generator().manual_seed(2**20 + seed)
    model = Superposition(n_features, n_hidden, len(density), seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)

    def errors(n: int) -> Tensor:
        x = draw_sparse(n, density, n_features, generator)
        return (importance * (model(x) - x).square()).mean((0, 2)) / density

    def loss(step: int) -> Tensor:
        optimizer.param_groups[0]["lr"] = RATE * (1 - step / steps)
        return errors(batch).sum()

    descend(model, optimizer, loss, steps)
    with torch.no_grad():
        return model.weight.detach(), errors(16 * batch)


def select_best(weight: Tensor, losses: Tensor, copies: int = COPIES) -> Tensor:
    """Of every group of so many copies, one after the other, the one of lowest loss."""
    picks = losses.view(-1, copies).argmin(1)
    return weight.unflatten(0, (-1, copies))[torch.arange(len(picks)), picks]


def repeat_training(values: Tensor, copies: int = COPIES) -> Tensor:
    return values.repeat_interleave(copies, 0)


def measure_share_near(values: Tensor, value: float, within: float = 0.03) -> float:
    return ((values - value).abs() < within).float().mean().item()


def count_pentagons(seed: int, steps: int) -> tuple[Tensor, Tensor]:
    """Five features of importance 0.9^i in two dimensions, of every density.

    Dimensionality and length, (density feature).
    """
    density = repeat_training(torch.tensor(DENSITIES))
    importance = (0.9 ** torch.arange(5.0)).expand(len(density), -1)
    weight = select_best(*train_copies(5, 2, importance, density, seed, steps=steps))
    return feature_dimensionality(weight), weight.norm(dim=2)


def count_triangles(seed: int, steps: int) -> Tensor:
    """Twelve equal features in eight dimensions, half of them there at a time, six copies.

    All dimensionalities.
    """
    weight, _ = train_copies(
        12, 8, torch.ones(6, 12), torch.full((6,), 0.5), seed, steps=steps, batch=BATCH // 2
    )
    return feature_dimensionality(weight).flatten()


def draw_phases(seed: int, steps: int) -> Tensor:
    """Two features in one dimension: dimensionality of the second.

    (importance of the second, density). 0: not represented; 1: alone, the first is left out; 1/2:
    both, an antipodal pair.
    """
    axes = torch.meshgrid(IMPORTANCES, MAP_DENSITIES, indexing="ij")
    second, density = (axis.flatten() for axis in axes)
    importance = repeat_training(torch.stack([torch.ones_like(second), second], 1))
    copies = repeat_training(density)
    weight = select_best(*train_copies(2, 1, importance, copies, seed, steps=steps, batch=256))
    return feature_dimensionality(weight)[:, 1].view(len(IMPORTANCES), len(MAP_DENSITIES))


def run_seed(seed: int, folder: Path, steps: int = STEPS) -> Outcome:
    pentagons, length = count_pentagons(seed, steps)
    triangles = count_triangles(seed, steps)
    phases = draw_phases(seed, steps // 2)
    used = torch.where(length > 0.5, pentagons, torch.nan)
    medians = {density: used[place].nanmedian().item() for place, density in enumerate(DENSITIES)}
    generator = torch.Generator().manual_seed(0)
    null = feature_dimensionality(torch.randn(100, 12, 8, generator=generator)).flatten()

    numbers: dict[str, float | None] = {
        "dense": medians[1.0],
        "middle": medians[0.3],
        "sparse": medians[0.02],
        "triangles": measure_share_near(triangles, 2 / 3),
        "triangles_random": measure_share_near(null, 2 / 3),
        "left_out": phases[0, -1].item(),
        "alone": phases[-1, -1].item(),
        "both": phases[len(IMPORTANCES) // 2, 0].item(),
    }
    return Outcome(numbers, _build_panels(pentagons, triangles, null, phases))


def _build_panels(
    pentagons: Tensor, triangles: Tensor, null: Tensor, phases: Tensor
) -> list[Panel]:
    sparsity = [1 / density for density in DENSITIES]
    by_density = build_lines(
        "5 features in 2 dimensions",
        "1 / density",
        "dimensionality",
        {f"feature {k}": (sparsity, pentagons[:, k].tolist()) for k in range(5)},
        levels={"alone": 1.0, "triangle": 2 / 3, "pair": 0.5, "pentagon": 0.4},
        scale="log",
    )

    histogram = build_lines(
        "12 features in 8 dimensions, density 1/2",
        "dimensionality (triangle: 2/3)",
        "share of features",
        {"trained": _count_bins(triangles), "random directions": _count_bins(null)},
    )

    diagram = build_grid(
        "2 features in 1 dimension",
        "density",
        "importance of the second",
        "dimensionality of the second",
        (MAP_DENSITIES.tolist(), IMPORTANCES.tolist()),
        phases.tolist(),
    )
    return [by_density, histogram, diagram]


def _count_bins(values: Tensor) -> tuple[list[float], list[float]]:
    """Middles of 25 bins from 0 to 1, and the share of the values in each."""
    bins = torch.linspace(0, 1, 26)
    shares = torch.histc(values, 25, 0, 1) / len(values)
    return ((bins[1:] + bins[:-1]) / 2).tolist(), shares.tolist()


ROW = Replication(
    name="superposition",
    title="Geometry of superposition",
    source="Elhage 2022, Toy Models of Superposition",
    compared=(
        "Feature dimensionality of trained toys, ReLU(W^T W x + b): 5 features of importance 0.9^i "
        "in 2 dimensions by density (one minus sparsity; of 4 copies the one of lowest loss); 12 "
        "equal features in 8 dimensions at density 1/2, where triangles show; and the phase "
        "diagram of 2 features in 1 dimension."
    ),
    run=run_seed,
    checks=(
        Check(
            "dense",
            "dimensionality of the features in use at density 1, median",
            "1",
            TEXT,
            0.95,
            1.001,
        ),
        Check("middle", "the same at density 0.3: antipodal pairs", "1/2", TEXT, 0.47, 0.53),
        Check("sparse", "the same at density 0.02: a pentagon", "2/5", TEXT, 0.38, 0.42),
        Check(
            "triangles",
            "share of the 72 features within 0.03 of 2/3 (random directions: 0.05)",
            "triangles exist",
            TEXT,
            0.1,
            1,
        ),
        Check(
            "left_out",
            "the second of two features, importance 0.1, dense: its dimensionality",
            "0, not represented",
            PLOT,
            0,
            0.1,
        ),
        Check("alone", "importance 10, dense", "1, alone", PLOT, 0.9, 1.001),
        Check("both", "importance 1, density 0.01", "1/2, both", PLOT, 0.45, 0.55),
    ),
    minutes=0.6,
)
