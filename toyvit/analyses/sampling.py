"""Langevin chains around the weights, and what they say of the local learning coefficient.

lambda = n beta (E[L(w)] - L(w*)), w drawn from exp(-n beta L(w) - gamma/2 |w - w*|^2) by stochastic
gradient Langevin dynamics from w* on (Lau 2023, section 4). A regular minimum of d parameters has
d/2; a degenerate one has less. The sampler takes any loss over a dict of tensors, so that toy
functions whose answer is known go through the same lines as a ViT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, log, nan

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import grad_and_value, vmap

from toyvit.config.fields import Checked, number
from toyvit.errors import BadInput

Weights = dict[str, Tensor]
# (weights, samples) -> mean loss; samples are rows of the data, or None for all of them.
Loss = Callable[[Weights, Int[Tensor, " sample"] | None], Tensor]


@dataclass(frozen=True, kw_only=True)
class LlcConfig(Checked):
    """Settings of the sampler.

    step_size     eps. One step: w += eps/2 (-n beta grad L + gamma (w* - w)) + noise N(0, eps).
                  None: from the curvature, which `estimate_llc` looks up
    n_beta        samples times inverse temperature; None: n / ln n (Watanabe 2013)
    localisation  gamma: the strength of the spring to w*; 0 has none
    draws         steps that count, after `burn_in` that do not, in each of `chains`
    batch         samples a step, drawn afresh with replacement; 0: all
    noise         scale of the noise; with 0 a chain is gradient descent, with a batch plain SGD

    >>> LlcConfig(step_size=1e-6).draws
    200
    """

    step_size: float | None = number(None, above=0)
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
    radius   distance of the chains' last weights from w*, root mean square over chains, as a share
             of the norm of w*; infinite where that is 0
    """

    settings: LlcConfig
    start: float
    traces: Float[Tensor, "chain step"]
    n_beta: float
    size: int
    chance: float
    radius: float = nan

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

    @property
    def excess(self) -> float:
        """By how much the chains' mean loss is above L(w*), as a share of the way to chance.

        NaN where chance is no further up, or unknown.
        """
        way = self.chance - self.start
        if not 0 < way < inf:
            return nan
        return (self.draws.mean().item() - self.start) / way

    @property
    def r_hat(self) -> float:
        """Split R-hat of the losses that count: 1 where the halves of all chains agree.

        Spread between the halves of the chains against that within them (Gelman 2013, 11.4). All
        chains start at w*, so it says whether they have mixed and not whether they have been
        everywhere. NaN where nothing varies, or for fewer than four draws.
        """
        n = self.draws.shape[1] // 2
        if n < 2:
            return nan
        halves = torch.cat([self.draws[:, :n], self.draws[:, -n:]]).double()
        within = halves.var(1).mean()
        between = halves.mean(1).var()
        if not within > 0:
            return nan
        return (((n - 1) / n * within + between) / within).sqrt().item()

    @property
    def trend(self) -> float:
        """Second half of the draws less the first, as a share of the estimate: 0 once settled.

        NaN where the estimate is 0.
        """
        first, second = (
            self.n_beta * (half.mean().item() - self.start)
            for half in self.draws.tensor_split(2, 1)
        )
        both = abs(first + second) / 2
        return (second - first) / both if both > 0 else nan


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
    traces, ends = _walk(loss, start, n, n_beta, settings)
    with torch.no_grad():
        origin = loss(start, None).item()
    return LlcEstimate(
        settings=settings,
        start=origin,
        traces=traces,
        n_beta=n_beta,
        size=sum(weight.numel() for weight in start.values()),
        chance=chance,
        radius=_measure_radius(start, ends),
    )


def _measure_radius(start: Weights, ends: Weights) -> float:
    """Distance of the chains' ends from the start, as a share of the start's norm."""
    squares = [
        (ends[name] - weight).square().reshape(len(ends[name]), -1).sum(1)
        for name, weight in start.items()
    ]
    distance = torch.stack(squares).sum(0).mean().sqrt().item()
    norm = torch.stack([weight.square().sum() for weight in start.values()]).sum().sqrt().item()
    return distance / norm if norm else inf


def _walk(
    loss: Loss, start: Weights, n: int, n_beta: float, settings: LlcConfig
) -> tuple[Float[Tensor, "chain step"], Weights]:
    """The loss of each chain before each of its steps, and where the chains end."""
    if settings.step_size is None:
        raise BadInput("the sampler needs a step size: LlcConfig(step_size=...)")
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
    return torch.stack(traces, 1), at


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
    assert settings.step_size is not None
    drift = settings.localisation * (start - w) - n_beta * gradient
    noise = torch.randn(w.shape, generator=generator, dtype=w.dtype)
    return w + settings.step_size / 2 * drift + settings.noise * settings.step_size**0.5 * noise
