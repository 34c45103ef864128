"""The local learning coefficient of losses with a known answer, by the lab's sampler (Lau 2023)."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
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
INPUTS = 5
OUTPUTS = 4
HIDDEN = 3
RANK = 1
SAMPLES = 1000


def estimate_quadratic(weights: dict[str, Tensor], rows: Tensor | None) -> Tensor:
    return (CURVATURES * weights["w"].square()).sum() / 2


def estimate_crossing(a: int, b: int) -> Loss:
    """Squared loss of the model y = w1^a w2^b x, truth 0, for x of mean square 1."""
    return lambda weights, rows: (weights["w"][0] ** a * weights["w"][1] ** b).square()


@cache
def integrate_crossing(a: int, b: int) -> float:
    """n beta E[L] of that loss under exp(-n beta L - localisation / 2 |w|^2).

    Summed over a grid that holds all of it.
    """
    line = torch.linspace(-4, 4, 4001, dtype=torch.double)
    x = line[:, None]
    y = line[None]
    loss = (x**a * y**b).square()
    density = (-N_BETA * loss - CROSSING.localisation / 2 * (x**2 + y**2)).exp()
    return N_BETA * ((loss * density).sum() / density.sum()).item()


def estimate_regression(seed: int, settings: LlcConfig) -> LlcEstimate:
    """y = B A x from a truth of lower rank, unit noise, sampled from the minimum near the truth."""
    generator = torch.Generator().manual_seed(2**20 + seed)
    sizes = (SAMPLES, INPUTS), (HIDDEN, INPUTS), (OUTPUTS, HIDDEN), (SAMPLES, OUTPUTS)
    x, a, b, noise = (torch.randn(size, generator=generator, dtype=torch.double) for size in sizes)
    a[RANK:] = 0
    b[:, RANK:] = 0
    y = x @ a.T @ b.T + noise
    xx = x.T @ x / SAMPLES
    xy = x.T @ y / SAMPLES
    yy = y.square().sum() / SAMPLES

    def loss(weights: dict[str, Tensor], rows: Tensor | None) -> Tensor:
        """Half the mean of |y - B A x|^2."""
        product = weights["b"] @ weights["a"]
        return ((product @ xx * product).sum() - 2 * (product * xy.T).sum() + yy) / 2

    weights = {"a": a, "b": b}
    for _ in range(200):
        slopes = torch.func.grad(loss)(weights, None)
        weights = {name: weight - 0.05 * slopes[name] for name, weight in weights.items()}
    return sample_chains(loss, weights, SAMPLES, settings)


def estimate_all(seed: int, shorter: int) -> dict[str, LlcEstimate]:
    """The sampler's estimate of each loss, by name."""

    def shorten(settings: LlcConfig) -> LlcConfig:
        draws = settings.draws // shorter
        return replace(settings, seed=seed, draws=draws, burn_in=settings.burn_in // shorter)

    two = {"w": torch.zeros(2, dtype=torch.double)}
    four = {"w": torch.zeros(4, dtype=torch.double)}
    return {
        "quadratic": sample_chains(estimate_quadratic, four, 1, shorten(QUADRATIC)),
        "w1 w2": sample_chains(estimate_crossing(1, 1), two, 1, shorten(CROSSING)),
        "w1^2 w2": sample_chains(estimate_crossing(2, 1), two, 1, shorten(CROSSING)),
        "reduced rank": estimate_regression(seed, shorten(REGRESSION)),
    }


def compute_exact() -> dict[str, float]:
    """What the estimates should be, by name."""
    stiff = N_BETA * CURVATURES
    return {
        "quadratic": (stiff / (stiff + QUADRATIC.localisation)).sum().item() / 2,
        "w1 w2": integrate_crossing(1, 1),
        "w1^2 w2": integrate_crossing(2, 1),
        "reduced rank": reduced_rank_llc(INPUTS, OUTPUTS, HIDDEN, RANK),
    }


def run_seed(seed: int, folder: Path, shorter: int = 1) -> Outcome:
    """`shorter` divides the length of the chains."""
    estimates = estimate_all(seed, shorter)
    exact = compute_exact()
    numbers: dict[str, float | None] = {
        name: None if estimate.diverged else estimate.mean for name, estimate in estimates.items()
    }
    over = {
        f"{name}, over exact": None if value is None else value / exact[name]
        for name, value in numbers.items()
    }

    traces = {}
    for name, estimate in estimates.items():
        heights = estimate.n_beta * (estimate.traces.mean(0) - estimate.start) / exact[name]
        traces[name] = (range(estimate.traces.shape[1]), heights.tolist())
    panel = build_lines(
        "chains of the sampler, mean",
        "step",
        "n beta (L - L0), over exact",
        traces,
        levels={"exact": 1},
        scale="symlog",
    )
    return Outcome(numbers | over, [panel])


ROW = Replication(
    name="llc",
    title="Local learning coefficient against closed forms",
    source="Lau 2023, The Local Learning Coefficient; Aoyagi & Watanabe 2005 for reduced rank",
    compared=(
        "The sampler's estimate at the minimum: a quadratic loss with curvatures 0.01, 0.1, 1, 10 "
        "(half the sum of n beta h / (n beta h + gamma)); normal crossings, the squared w1^a w2^b, "
        "against quadrature of the same tempered and localised posterior (n beta 1,000, gamma 10; "
        "far from their limit 1 / (2 max(a, b))); regression through 3 hidden units, 5 inputs and "
        "4 outputs, of a truth of rank 1."
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
    remark=(
        "Steps of finite length widen each direction: the stiffest of the quadratic loss by a "
        "third, in all by 1.13."
    ),
)
