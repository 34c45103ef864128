"""The local learning coefficient: how fast the loss rises around the weights, from a sampler.

lambda = n beta (E[L(w)] - L(w*)), w drawn from exp(-n beta L(w) - gamma/2 |w - w*|^2) by stochastic
gradient Langevin dynamics from w* on (Lau 2023, section 4). A regular minimum of d parameters has
d/2; a degenerate one has less. The sampler takes any loss over a dict of tensors, so that toy
functions whose answer is known go through the same lines as a ViT.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, replace
from itertools import product
from math import inf, log

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap

from toyvit.analyses.analysis import Analysis, Measures, Quantity
from toyvit.config.fields import Checked, number
from toyvit.data.task import Batch, loss as task_loss
from toyvit.model import ViT
from toyvit.model.forward import run_model

Weights = dict[str, Tensor]
# (weights, samples) -> mean loss; samples are rows of the data, or None for all of them.
Loss = Callable[[Weights, Int[Tensor, " sample"] | None], Tensor]


@dataclass(frozen=True, kw_only=True)
class LlcConfig(Checked):
    """Settings of the sampler.

    step_size     eps. One step: w += eps/2 (-n beta grad L + gamma (w* - w)) + noise N(0, eps)
    n_beta        samples times inverse temperature; None: n / ln n (Watanabe 2013)
    localisation  gamma: the strength of the spring to w*; 0 has none
    draws         steps that count, after `burn_in` that do not, in each of `chains`
    batch         samples a step, drawn afresh with replacement; 0: all
    noise         scale of the noise; with 0 a chain is gradient descent, with a batch plain SGD

    >>> LlcConfig(step_size=1e-6).draws
    200
    """

    step_size: float = number(MISSING, above=0)
    n_beta: float | None = number(None, above=0)
    localisation: float = number(100.0, least=0)
    draws: int = number(200, least=2)  # whether a chain still climbs is seen in two halves
    burn_in: int = number(100, least=0)
    chains: int = number(4, least=1)
    batch: int = number(0, least=0)
    seed: int = number(0, least=0, most=2**32 - 1)
    noise: float = number(1.0, least=0)


@dataclass(frozen=True, kw_only=True)
class LlcEstimate:
    """What the sampler saw.

    start    L(w*) on all samples
    traces   loss of each chain before each of its steps; its first value is that of w*
    n_beta   the one that was used
    size     number of weights, d
    chance   the loss of answers that know nothing; infinite where there is none
    """

    settings: LlcConfig
    start: float
    traces: Float[Tensor, "chain step"]
    n_beta: float
    size: int
    chance: float

    @property
    def draws(self) -> Float[Tensor, "chain draw"]:
        """The losses that count: those after the burn-in."""
        return self.traces[:, self.settings.burn_in :]

    @property
    def chains(self) -> Float[Tensor, " chain"]:
        """The estimate of each chain, whether or not it diverged."""
        return self.n_beta * (self.draws.mean(1) - self.start)

    @property
    def climbs(self) -> bool:
        """Whether the second half of the draws lies above the first.

        By more than half of the first's estimate, and by more than 1.
        """
        first, second = (
            self.n_beta * (half.mean().item() - self.start)
            for half in self.draws.tensor_split(2, 1)
        )
        return second - first > max(1, abs(first) / 2)

    @property
    def diverged(self) -> bool:
        """Some chain is not finite or above chance, or all of them together are above d or climb.

        Above chance the weights have been left behind, and the estimate is n beta (chance - L(w*))
        whatever the step size: a plateau that means nothing. d is twice what a minimum can have.
        """
        lost = self.start < self.chance and bool((self.draws.mean(1) > self.chance).any())
        finite = bool(self.traces.isfinite().all())
        return not finite or lost or self.climbs or self.chains.mean().item() > self.size

    @property
    def mean(self) -> float:
        """The local learning coefficient: mean over chains. Below 0 where w* is no minimum.

        NaN where it diverged.
        """
        return float("nan") if self.diverged else self.chains.mean().item()

    @property
    def sd(self) -> float:
        """Standard deviation over chains; NaN where it diverged or there is one chain."""
        return float("nan") if self.diverged or len(self.traces) < 2 else self.chains.std().item()


def sample_chains(
    loss: Loss, weights: Mapping[str, Tensor], n: int, settings: LlcConfig, chance: float = inf
) -> LlcEstimate:
    """Langevin chains from `weights`, side by side, on a mean loss over n samples.

    `vmap` over chains: for toy functions hundreds cost as much as one; for a ViT on 1,095 pictures
    a chain costs 1.1 times what it would alone.

    >>> settings = LlcConfig(step_size=1e-4, n_beta=1e3, draws=40, burn_in=40, chains=200)
    >>> weights = {"x": torch.zeros(2)}  # a regular minimum of two weights: 1
    >>> estimate = sample_chains(lambda w, rows: w["x"].square().sum(), weights, 1, settings)
    >>> 0.8 < estimate.mean < 1.2
    True
    """
    start = {name: weight.detach() for name, weight in weights.items()}
    n_beta = settings.n_beta or n / log(n)
    traces = _walk(loss, start, n, n_beta, settings)
    with torch.no_grad():
        origin = loss(start, None).item()
    size = sum(weight.numel() for weight in start.values())
    return LlcEstimate(
        settings=settings, start=origin, traces=traces, n_beta=n_beta, size=size, chance=chance
    )


def _walk(
    loss: Loss, start: Weights, n: int, n_beta: float, settings: LlcConfig
) -> Float[Tensor, "chain step"]:
    """The loss of each chain before each of its steps."""
    generator = torch.Generator().manual_seed(settings.seed)
    at = {
        name: weight.expand(settings.chains, *weight.shape).clone()
        for name, weight in start.items()
    }
    slope = vmap(grad_and_value(loss), in_dims=(0, 0 if settings.batch else None))
    traces = []
    for _ in range(settings.burn_in + settings.draws):
        gradient, value = slope(at, _draw_rows(n, settings, generator))
        traces.append(value)
        at = {
            name: _take_step(w, start[name], gradient[name], n_beta, settings, generator)
            for name, w in at.items()
        }
    return torch.stack(traces, 1)


def _draw_rows(
    n: int, settings: LlcConfig, generator: torch.Generator
) -> Int[Tensor, "chain sample"] | None:
    if not settings.batch:
        return None
    return torch.randint(n, (settings.chains, settings.batch), generator=generator)


def _take_step(
    w: Tensor,
    start: Tensor,
    gradient: Tensor,
    n_beta: float,
    settings: LlcConfig,
    generator: torch.Generator,
) -> Tensor:
    drift = settings.localisation * (start - w) - n_beta * gradient
    noise = torch.randn(w.shape, generator=generator, dtype=w.dtype)
    return w + settings.step_size / 2 * drift + settings.noise * settings.step_size**0.5 * noise


# Chosen once by `calibrate_llc`, on all 1,095 training pictures of `addition` at the last
# checkpoint: 49 and 51 with steps of 1e-6 and 3e-6 (41 with 3e-7, too short to settle). A weaker
# spring lets 56,192 weights wander off to chance.
DEFAULT = LlcConfig(step_size=1e-6, localisation=1e4, draws=150, burn_in=250, chains=2)


def build_loss(model: ViT, batch: Batch) -> Loss:
    """The task's loss on a batch as a function of the model's weights."""

    def compute_loss(weights: Weights, rows: Tensor | None) -> Tensor:
        images = batch.images if rows is None else batch.images[rows]
        target = batch.target if rows is None else batch.target[rows]
        return task_loss(functional_call(model, weights, (images,)), target)

    return compute_loss


def chance_loss(model: ViT, batch: Batch) -> float:
    """The loss of answers that are all 0: ln(classes), or the mean square of the numbers asked."""
    return task_loss(torch.zeros_like(run_model(model, batch.images)), batch.target).item()


def estimate_llc(model: ViT, batch: Batch, settings: LlcConfig | None = None) -> LlcEstimate:
    """The local learning coefficient of a model on a batch, with the traces of its chains.

    `settings` are those of the sampler, by default `DEFAULT`.
    """
    loss = build_loss(model, batch)
    weights = dict(model.named_parameters())
    chance = chance_loss(model, batch)
    return sample_chains(loss, weights, len(batch.images), settings or DEFAULT, chance)


def measure_llc(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `llc`, with the settings DEFAULT; meant for the training pictures.

    llc       mean over chains; NaN where they diverged; below 0 where the weights are no minimum
    llc_sd    standard deviation over chains
    diverged  1 where a chain is not finite, impossibly high or still climbs, else 0
    """
    estimate = estimate_llc(model, batch)
    return {
        "llc": torch.tensor(estimate.mean),
        "llc_sd": torch.tensor(estimate.sd),
        "diverged": torch.tensor(float(estimate.diverged)),
    }


LLC = Analysis(
    name="llc",
    computes="the local learning coefficient, from Langevin chains",
    measure=measure_llc,
    quantities={
        "llc": Quantity(may_be_nan=True),
        "llc_sd": Quantity(least=0, may_be_nan=True),
        "diverged": Quantity(least=0, most=1),
    },
    slow=True,
    cost=65_000,
    source="Lau 2023; meant for the training pictures (--split train), with this lab's settings "
    "(llc.DEFAULT)",
    truth="closed forms: quadratic loss, normal crossings, reduced-rank regression",
    null="a loss that does not depend on the weights: 0",
)


def calibrate_llc(
    loss: Loss,
    weights: Mapping[str, Tensor],
    n: int,
    settings: LlcConfig,
    step_sizes: Iterable[float],
    n_betas: Iterable[float | None],
) -> pd.DataFrame:
    """A row for every step size and n beta: llc, sd, diverged.

    A plateau over both is what to look for (Lau 2023, appendix). `flat` is the largest relative
    change of the llc from a row to its neighbours in step size; settings for a run are to be taken
    where it is small.
    """
    rows = []
    for n_beta, step_size in product(n_betas, sorted(step_sizes)):
        changed = replace(settings, step_size=step_size, n_beta=n_beta)
        estimate = sample_chains(loss, weights, n, changed)
        row = (estimate.n_beta, step_size, estimate.mean, estimate.sd, estimate.diverged)
        rows.append(row)

    frame = pd.DataFrame(rows, columns=["n_beta", "step_size", "llc", "sd", "diverged"])
    same = frame.groupby("n_beta")["llc"]
    changes = pd.concat([(same.shift(by) / frame["llc"] - 1).abs() for by in (-1, 1)], axis=1)
    return frame.assign(flat=changes.max(axis=1))


def reduced_rank_llc(inputs: int, outputs: int, hidden: int, rank: int) -> float:
    """The learning coefficient of y = B A x where the truth has a rank of at most `hidden`.

    A is (hidden, inputs), B (outputs, hidden). Aoyagi & Watanabe 2005, main theorem. Unit Gaussian
    inputs and noise.

    >>> reduced_rank_llc(3, 3, 3, 3)  # a regular minimum: half of the nine entries of B A
    4.5
    """
    if outputs + hidden < inputs + rank:
        return (hidden * outputs - hidden * rank + inputs * rank) / 2
    if inputs + hidden < outputs + rank:
        return (hidden * inputs - hidden * rank + outputs * rank) / 2
    if inputs + outputs < hidden + rank:
        return inputs * outputs / 2
    odd = (inputs + outputs + hidden + rank) % 2
    both = hidden + rank
    return (2 * both * (inputs + outputs) - (inputs - outputs) ** 2 - both**2 + odd) / 8
