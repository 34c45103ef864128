"""The local learning coefficient of a model: how fast the loss rises around its weights.

From the chains of `toyvit.analyses.sampling`, with what there is to judge them by.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from math import isnan, log, nan

import pandas as pd
import torch
from torch import Tensor
from torch.func import functional_call

from toyvit.analyses.analysis import ANSWERS, Analysis, Measures, Quantity
from toyvit.analyses.curvature import sample_spectrum
from toyvit.analyses.sampling import LlcConfig, LlcEstimate, Loss, Weights, sample_chains
from toyvit.data.task import Batch, loss as task_loss
from toyvit.model import ViT
from toyvit.model.forward import run_model
from toyvit.surroundings import pin_torch

# Chosen by `python -m bench.llc_plateau` on all 1,095 training pictures of `addition` at the last
# checkpoint, see docs/llc.md: chains stay within 3 % of the weights' norm and 0.02 % of the way to
# chance, and weights that move on little count as the minimum that they are near. The value is that
# of the resolution gamma / n beta, 2 here: no spring was found at which it is independent of that,
# since the spectrum has no gap (it moves by 38 % here, by 21 % at best, when gamma is halved or
# doubled).
DEFAULT = LlcConfig(n_beta=1e5, localisation=2e5, draws=150, burn_in=150, chains=2)
LARGEST_STEP = 0.1  # over gamma: a flat direction then settles in 20 steps, widened by 2.5 %
MIXED = 1.2  # of split R-hat
STEADY = 0.1  # of the trend
NEAR = 0.05  # of the excess
SLOPE = 0.2  # of the downhill part beside the regular one
SAME = 0.2  # of the change when gamma is halved or doubled


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


def choose_step(settings: LlcConfig, n: int, top: float) -> LlcConfig:
    """The settings with a step size, where they have none, that the largest curvature allows.

    A step of size eps widens a direction of curvature h by 1 / (1 - eps a / 4), a = n beta h +
    gamma: here by a third at most. It settles in 2 / (eps a) steps.

    >>> choose_step(LlcConfig(n_beta=10.0, localisation=1.0), 5, top=0.9).step_size
    0.1
    """
    if settings.step_size is not None:
        return settings
    n_beta = settings.n_beta or n / log(n)
    gamma = settings.localisation
    stiffest = n_beta * max(top, 0.0) + gamma
    step = 1 / stiffest if stiffest else 1 / n_beta
    return replace(settings, step_size=min(step, LARGEST_STEP / gamma) if gamma else step)


def estimate_llc(
    model: ViT, batch: Batch, settings: LlcConfig | None = None, top: float | None = None
) -> LlcEstimate:
    """The local learning coefficient of a model on a batch, with the traces of its chains.

    `settings` are those of the sampler, by default `DEFAULT`. `top` is the largest eigenvalue of
    the Hessian, which is looked up where the settings have no step size and it is not given.
    """
    loss = build_loss(model, batch)
    weights = dict(model.named_parameters())
    settings = settings or DEFAULT
    n = len(batch.images)
    if settings.step_size is None:
        if top is None:
            top = sample_spectrum(loss, weights, probes=1).top
        settings = choose_step(settings, n, top)
    return sample_chains(loss, weights, n, settings, chance_loss(model, batch))


def compare_springs(model: ViT, batch: Batch, estimate: LlcEstimate) -> float:
    """Largest relative change of an estimate when gamma is halved or doubled, one chain each.

    NaN where one of these diverges, and where the estimate has no number or is 0.
    """
    if estimate.diverged or not estimate.mean:
        return nan

    changes = []
    for factor in (0.5, 2.0):
        gamma = factor * estimate.settings.localisation
        settings = replace(estimate.settings, localisation=gamma, chains=1)
        other = estimate_llc(model, batch, settings)
        changes.append(abs(other.mean / estimate.mean - 1))
    return nan if any(map(isnan, changes)) else max(changes)


@pin_torch()
def measure_llc(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `llc`, with the settings DEFAULT; meant for the training pictures.

    Where curvatures have a gap at gamma / n beta the value is that of the minimum and `local` is 1.
    Where they have none it is the value at that resolution, `local` is 0, and only values at one
    resolution can be compared: so it is along the recipe `addition`, where it moves by 38 to 52 %
    when gamma is halved or doubled (by 25 to 89 % at other springs, by 21 % at best).

    llc       mean over chains; NaN where they diverged; below 0 where the weights are no minimum
    llc_sd    standard deviation over chains
    regular   what it would be if the loss were its second-order part: half the number of directions
              stiffer than gamma / n beta, roughly. A reference, not a test: w1^2 w2^2 has 0 here
    downhill  what the gradient adds in second order, 0 or less: far below 0 where the weights are
              no minimum
    excess    the chains' mean loss above the start, as a share of the way to chance
    radius    how far the chains went, as a share of the norm of the weights
    r_hat     split R-hat of the losses, 1 where the halves of all chains agree
    trend     second half of the draws less the first, as a share of the estimate
    moves     largest relative change of the estimate when gamma is halved or doubled; NaN where the
              chains then diverge
    diverged  1 where a chain is not finite, impossibly high or still climbs, else 0
    settled   1 where it has not diverged, R-hat is below 1.2 and the trend within 0.1, else 0
    near      1 where it has not diverged and the excess is within 0.05, else 0
    minimum   1 where the downhill part is within 0.2 of the regular one, else 0
    local     1 where it is near, at a minimum and moves by less than 0.2, else 0: elsewhere it is
              the value at the resolution gamma / n beta (loss per squared weight) that was set
    """
    spectrum = sample_spectrum(build_loss(model, batch), dict(model.named_parameters()))
    estimate = estimate_llc(model, batch, top=spectrum.top)
    at = (estimate.n_beta, estimate.settings.localisation)
    moves = compare_springs(model, batch, estimate)
    valid = not estimate.diverged
    settled = valid and estimate.r_hat < MIXED and abs(estimate.trend) < STEADY
    near = valid and estimate.excess < NEAR

    regular = spectrum.regular(*at)
    downhill = spectrum.downhill(*at)
    is_minimum = abs(downhill) <= SLOPE * regular

    values = {
        "llc": estimate.mean,
        "llc_sd": estimate.sd,
        "regular": regular,
        "downhill": downhill,
        "excess": estimate.excess,
        "radius": estimate.radius,
        "r_hat": estimate.r_hat,
        "trend": estimate.trend,
        "moves": moves,
        "diverged": not valid,
        "settled": settled,
        "near": near,
        "minimum": is_minimum,
        "local": near and is_minimum and moves < SAME,
    }
    return {name: torch.tensor(float(value)) for name, value in values.items()}


LLC = Analysis(
    name="llc",
    computes="the local learning coefficient, from Langevin chains",
    measure=measure_llc,
    quantities={
        "llc": Quantity(may_be_nan=True),
        "llc_sd": Quantity(least=0, may_be_nan=True),
        "regular": Quantity(least=0),
        "downhill": Quantity(most=0),
        "excess": Quantity(may_be_nan=True),
        "radius": Quantity(least=0, may_be_nan=True),
        "r_hat": Quantity(least=0, may_be_nan=True),
        "trend": Quantity(may_be_nan=True),
        "moves": Quantity(least=0, may_be_nan=True),
        "diverged": Quantity(least=0, most=1),
        "settled": Quantity(least=0, most=1),
        "near": Quantity(least=0, most=1),
        "minimum": Quantity(least=0, most=1),
        "local": Quantity(least=0, most=1),
    },
    needs=(ANSWERS,),
    slow=True,
    cost=75_000,
    source="Lau 2023; meant for the training pictures (--split train), with this lab's settings "
    "(llc.DEFAULT)",
    truth="closed forms: quadratic loss, normal crossings, reduced-rank regression",
    null="0, as of a loss that does not depend on the weights",
    version=2,
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
    where it is small. For gamma and n beta, which have to be chosen together, see
    `python -m bench.llc_plateau`.
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
