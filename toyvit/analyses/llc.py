"""The local learning coefficient: how fast the loss rises around the weights, from a sampler that starts at them.

lambda = n beta (E[L(w)] - L(w*)), w drawn from exp(-n beta L(w) - gamma/2 |w - w*|^2) by stochastic gradient Langevin dynamics
(Lau 2023, section 4). A regular minimum of d parameters has d/2; a degenerate one has less. The sampler takes any loss over a
dict of tensors, so that toy functions whose answer is known go through the same lines as a ViT.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, replace
from math import inf, log
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap

from toyvit.config.fields import Checked, number
from toyvit.data.task import Batch
from toyvit.data.task import loss as task_loss
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
    noise         scale of the noise; with 0 a chain is plain gradient descent, with a batch plain SGD
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
    def chains(self) -> Float[Tensor, " chain"]:
        """The estimate of each chain, whether or not it diverged."""
        return self.n_beta * (self.traces[:, self.settings.burn_in :].mean(1) - self.start)

    @property
    def diverged(self) -> bool:
        """Some chain is not finite or above chance, or all of them together are above d or still climb.

        Above chance the weights have been left behind, and the estimate is n beta (chance - L(w*)) whatever the step size: a
        plateau that means nothing. d is twice what a minimum can have. Climbing: the second half of the draws lies above the
        first by more than half of the first's estimate, and by more than 1.
        """
        kept = self.traces[:, self.settings.burn_in :]
        lost = (kept.mean(1) > self.chance).any() if self.start < self.chance else False
        first, second = (
            self.n_beta * (half.mean().item() - self.start) for half in kept.tensor_split(2, 1)
        )
        climbs = second - first > max(1, abs(first) / 2)
        return (
            not bool(self.traces.isfinite().all())
            or bool(lost)
            or climbs
            or self.chains.mean().item() > self.size
        )

    @property
    def mean(self) -> float:
        """The local learning coefficient: mean over chains; NaN where it diverged. Below 0 where w* is no minimum."""
        return float("nan") if self.diverged else self.chains.mean().item()

    @property
    def sd(self) -> float:
        """Standard deviation over chains; NaN where it diverged or there is one chain."""
        return float("nan") if self.diverged or len(self.traces) < 2 else self.chains.std().item()


def sample_chains(
    loss: Loss, weights: Mapping[str, Tensor], n: int, settings: LlcConfig, chance: float = inf
) -> LlcEstimate:
    """Langevin chains from `weights`, side by side, on a mean loss over n samples.

    `vmap` over chains: for toy functions hundreds cost as much as one; for a ViT on 1,095 pictures a chain costs 1.1 times
    what it would alone.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    start = {name: weight.detach() for name, weight in weights.items()}
    n_beta = settings.n_beta or n / log(n)
    at = {
        name: weight.expand(settings.chains, *weight.shape).clone()
        for name, weight in start.items()
    }
    slope = vmap(grad_and_value(loss), in_dims=(0, 0 if settings.batch else None))
    traces = []
    for _ in range(settings.burn_in + settings.draws):
        gradient, value = slope(at, _rows(n, settings, generator))
        traces.append(value)
        at = {
            name: _stepped(w, start[name], gradient[name], n_beta, settings, generator)
            for name, w in at.items()
        }
    size = sum(weight.numel() for weight in start.values())
    with torch.no_grad():
        origin = loss(start, None).item()
    return LlcEstimate(
        settings=settings,
        start=origin,
        traces=torch.stack(traces, 1),
        n_beta=n_beta,
        size=size,
        chance=chance,
    )


def _rows(
    n: int, settings: LlcConfig, generator: torch.Generator
) -> Int[Tensor, "chain sample"] | None:
    return (
        torch.randint(n, (settings.chains, settings.batch), generator=generator)
        if settings.batch
        else None
    )


def _stepped(
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


# Chosen once by `calibrate_llc`, on all 1,095 training pictures of the recipe `addition` at its last checkpoint: 49 and 51 with
# steps of 1e-6 and 3e-6 (41 with 3e-7, too short to settle). A weaker spring lets 56,192 weights wander off to chance.
DEFAULT = LlcConfig(step_size=1e-6, localisation=1e4, draws=150, burn_in=250, chains=2)


def build_loss(model: ViT, batch: Batch) -> Loss:
    """The task's loss on a batch as a function of the model's weights."""

    def of(weights: Weights, rows: Tensor | None) -> Tensor:
        images, target = (
            (batch.images, batch.target)
            if rows is None
            else (batch.images[rows], batch.target[rows])
        )
        return task_loss(functional_call(model, weights, (images,)), target)

    return of


def chance_loss(model: ViT, batch: Batch) -> float:
    """The loss of answers that are all 0: ln(classes), or the mean square of the numbers asked for."""
    return task_loss(torch.zeros_like(run_model(model, batch.images)), batch.target).item()


def estimate_llc(model: ViT, batch: Batch, settings: LlcConfig | None = None) -> LlcEstimate:
    """The local learning coefficient of a model on the pictures of a batch, with the traces of its chains."""
    loss, weights = build_loss(model, batch), dict(model.named_parameters())
    return sample_chains(
        loss, weights, len(batch.images), settings or DEFAULT, chance_loss(model, batch)
    )


def measure_llc(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `llc`, with the settings DEFAULT; meant for the training pictures (`--split train`).

    llc       mean over chains; missing where they diverged; below 0 where the weights are no minimum
    llc_sd    standard deviation over chains
    diverged  1 where a chain is not finite, impossibly high or still climbs, else 0
    """
    found = estimate_llc(model, batch)
    values = {"llc": found.mean, "llc_sd": found.sd, "diverged": float(found.diverged)}
    return {name: torch.tensor(value) for name, value in values.items()}


def calibrate_llc(
    loss: Loss,
    weights: Mapping[str, Tensor],
    n: int,
    settings: LlcConfig,
    step_sizes: Iterable[float],
    n_betas: Iterable[float | None],
) -> pd.DataFrame:
    """A row for every step size and n beta: llc, sd, diverged. A plateau over both is what to look for (Lau 2023, appendix).

    `flat` is the largest relative change of the llc from a row to its neighbours in step size; settings for a run are to be
    taken where it is small.
    """
    rows: list[dict[str, Any]] = []
    for n_beta in n_betas:
        for step_size in sorted(step_sizes):
            found = sample_chains(
                loss, weights, n, replace(settings, step_size=step_size, n_beta=n_beta)
            )
            cell = {"n_beta": found.n_beta, "step_size": step_size}
            rows.append({**cell, "llc": found.mean, "sd": found.sd, "diverged": found.diverged})
    frame = pd.DataFrame(rows)
    same = frame.groupby("n_beta")["llc"]
    changes = pd.concat([(same.shift(by) / frame["llc"] - 1).abs() for by in (-1, 1)], axis=1)
    return frame.assign(flat=changes.max(axis=1))


def reduced_rank_llc(inputs: int, outputs: int, hidden: int, rank: int) -> float:
    """The learning coefficient of y = B A x, A (hidden, inputs), B (outputs, hidden), where the truth has a rank <= hidden.

    Aoyagi & Watanabe 2005, main theorem. Unit Gaussian inputs and noise.
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
