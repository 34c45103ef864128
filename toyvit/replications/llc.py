"""The local learning coefficient of losses whose answer is known (Lau 2023), through the lab's sampler."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from toyvit.analyses.llc import LlcConfig, LlcEstimate, Loss, reduced_rank_llc, sample_chains
from toyvit.replications.record import TEXT, Check, Outcome, Replication, build_lines

N_BETA = 1000.0
CURVATURES = torch.tensor([0.01, 0.1, 1.0, 10.0], dtype=torch.double)
QUADRATIC = LlcConfig(
    step_size=1e-4, n_beta=N_BETA, localisation=50.0, draws=800, burn_in=400, chains=100
)
CROSSING = LlcConfig(
    step_size=3e-4, n_beta=N_BETA, localisation=10.0, draws=1500, burn_in=1500, chains=1000
)
REGRESSION = LlcConfig(step_size=3e-4, localisation=1.0, draws=2000, burn_in=1000, chains=10)
INPUTS, OUTPUTS, HIDDEN, RANK, SAMPLES = 5, 4, 3, 1, 1000


def estimate_quadratic(weights: dict[str, Tensor], rows: Tensor | None) -> Tensor:
    return (CURVATURES * weights["w"].square()).sum() / 2


def estimate_crossing(a: int, b: int) -> Loss:
    """Squared loss of the model y = w1^a w2^b x, truth 0, for x of mean square 1."""
    return lambda weights, rows: (weights["w"][0] ** a * weights["w"][1] ** b).square()


def integrate_crossing(a: int, b: int) -> float:
    """n beta E[L] of that loss under exp(-n beta L - localisation / 2 |w|^2), summed over a grid that holds all of it."""
    line = torch.linspace(-4, 4, 4001, dtype=torch.double)
    x, y = line[:, None], line[None]
    loss = (x**a * y**b).square()
    density = (-N_BETA * loss - CROSSING.localisation / 2 * (x**2 + y**2)).exp()
    return N_BETA * ((loss * density).sum() / density.sum()).item()


def estimate_regression(seed: int, settings: LlcConfig) -> LlcEstimate:
    """y = B A x from a truth of lower rank, unit noise, sampled from the minimum near the truth."""
    generator = torch.Generator().manual_seed(2**20 + seed)
    sizes = (SAMPLES, INPUTS), (HIDDEN, INPUTS), (OUTPUTS, HIDDEN), (SAMPLES, OUTPUTS)
    x, a, b, noise = (torch.randn(size, generator=generator, dtype=torch.double) for size in sizes)
    a[RANK:], b[:, RANK:] = 0, 0
    y = x @ a.T @ b.T + noise
    xx, xy, yy = x.T @ x / SAMPLES, x.T @ y / SAMPLES, y.square().sum() / SAMPLES

    def loss(
        weights: dict[str, Tensor], rows: Tensor | None
    ) -> Tensor:  # half the mean of |y - B A x|^2
        product = weights["b"] @ weights["a"]
        return ((product @ xx * product).sum() - 2 * (product * xy.T).sum() + yy) / 2

    weights = {"a": a, "b": b}
    for _ in range(200):
        slopes = torch.func.grad(loss)(weights, None)
        weights = {name: weight - 0.05 * slopes[name] for name, weight in weights.items()}
    return sample_chains(loss, weights, SAMPLES, settings)


def run_seed(seed: int, folder: Path, shorter: int = 1) -> Outcome:
    """`shorter` divides the length of the chains."""

    def seeded(settings: LlcConfig) -> LlcConfig:
        return replace(
            settings,
            seed=seed,
            draws=settings.draws // shorter,
            burn_in=settings.burn_in // shorter,
        )

    zeros = {size: {"w": torch.zeros(size, dtype=torch.double)} for size in (2, 4)}
    stiff = N_BETA * CURVATURES
    estimates = {
        "quadratic": sample_chains(estimate_quadratic, zeros[4], 1, seeded(QUADRATIC)),
        "w1 w2": sample_chains(estimate_crossing(1, 1), zeros[2], 1, seeded(CROSSING)),
        "w1^2 w2": sample_chains(estimate_crossing(2, 1), zeros[2], 1, seeded(CROSSING)),
        "reduced rank": estimate_regression(seed, seeded(REGRESSION)),
    }
    exact = {
        "quadratic": (stiff / (stiff + QUADRATIC.localisation)).sum().item() / 2,
        "w1 w2": integrate_crossing(1, 1),
        "w1^2 w2": integrate_crossing(2, 1),
        "reduced rank": reduced_rank_llc(INPUTS, OUTPUTS, HIDDEN, RANK),
    }
    found = {name: None if one.diverged else one.mean for name, one in estimates.items()}
    over = {
        f"{name}, over exact": None if value is None else value / exact[name]
        for name, value in found.items()
    }
    traces = {
        name: (
            range(one.traces.shape[1]),
            (one.n_beta * (one.traces.mean(0) - one.start) / exact[name]).tolist(),
        )
        for name, one in estimates.items()
    }
    title = "chains of the sampler, mean"
    return Outcome(
        found | over,
        [
            build_lines(
                title,
                "step",
                "n beta (L - L0), over exact",
                traces,
                levels={"exact": 1},
                scale="symlog",
            )
        ],
    )


ROW = Replication(
    name="llc",
    title="Local learning coefficient against closed forms",
    source="Lau 2023, The Local Learning Coefficient; Aoyagi & Watanabe 2005 for reduced rank",
    compared=(
        "The sampler's estimate at the minimum: a quadratic loss with curvatures 0.01, 0.1, 1, 10 (half the sum of n beta h / "
        "(n beta h + gamma)); normal crossings, the squared w1^a w2^b, against quadrature of the same tempered and localised "
        "posterior (n beta 1,000, gamma 10; far from their limit 1 / (2 max(a, b))); regression through 3 hidden "
        "units, 5 inputs and 4 outputs, of a truth of rank 1."
    ),
    run=run_seed,
    checks=(
        Check(
            "quadratic, over exact", "quadratic loss, over the closed form", "1", TEXT, 0.85, 1.2
        ),
        Check("w1 w2", "w1 w2", "0.290 (quadrature)", TEXT, 0.261, 0.319),
        Check("w1^2 w2", "w1^2 w2", "0.124 (quadrature)", TEXT, 0.112, 0.136),
        Check(
            "reduced rank, over exact", "reduced rank, over the closed form", "1", TEXT, 0.6, 1.4
        ),
    ),
    minutes=0.15,
    remark="Steps of finite length widen each direction: the stiffest of the quadratic loss by a third, in all by 1.13.",
)
