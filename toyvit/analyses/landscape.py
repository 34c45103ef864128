"""The loss around the weights: how noisy its gradient is, and how sharply it curves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad, vmap

from toyvit.analyses.analysis import ANSWERS, Analysis, Measures, Quantity
from toyvit.analyses.curvature import build_hessian_product
from toyvit.analyses.llc import build_loss
from toyvit.analyses.sampling import Loss, Weights
from toyvit.data.task import Batch
from toyvit.model import ViT
from toyvit.surroundings import leave_inference, pin_torch

SMALL = 8  # pictures in a small batch of the gradient noise scale
TOLERANCE = 1e-3  # of the largest eigenvalue


def detach_parameters(model: ViT) -> Weights:
    """The model's parameters by name, as constants."""
    return {name: weight.detach() for name, weight in model.named_parameters()}


def estimate_noise_scale(gradients: Float[Tensor, "part weight"], size: int) -> Measures:
    """The simple noise scale tr(S) / |G|^2, from mean gradients of disjoint parts of the samples.

    A part is `size` samples. Unbiased estimates from two batch sizes, a part and all of them
    (McCandlish 2018, eq. 2.9 and appendix A.1). `noise` = tr(S), the variance of one sample's
    gradient; `signal` = |G|^2, the squared norm of the true gradient; `scale`, their ratio, in
    samples: the batch size beyond which larger batches help little, NaN where the signal is lost in
    the noise (not above 0). See `estimate_noise_errors` for how far to trust them.

    >>> estimate_noise_scale(torch.tensor([[1.0], [3.0]]), 2)
    {'noise': tensor(4.), 'signal': tensor(3.), 'scale': tensor(1.3333)}
    """
    parts = len(gradients)
    large = parts * size
    of_parts = gradients.square().sum(1).mean()
    of_all = gradients.mean(0).square().sum()
    noise = (of_parts - of_all) / (1 / size - 1 / large)
    signal = (large * of_all - size * of_parts) / (large - size) if parts > 1 else of_all
    scale = torch.where(signal > 0, noise / signal, torch.nan)
    return {"noise": noise, "signal": signal, "scale": scale}


def estimate_noise_errors(gradients: Float[Tensor, "part weight"], size: int) -> Measures:
    """Standard errors of noise, signal and scale, and whether the scale is to be trusted.

    By the jackknife over parts: what each part left out changes. NaN for fewer than three parts;
    that of the scale is NaN where some signal is not above 0. `valid` is 1 where the signal is more
    than two standard errors above 0 and the error of the scale at most half of it, else 0. A few
    rare samples with large gradients make the error large, and are missed where none was drawn.

    >>> alike = estimate_noise_errors(torch.tensor([[1.0], [1.0], [1.0]]), 2)
    >>> alike["signal_se"], alike["valid"]
    (tensor(0.), tensor(1.))
    """
    parts = len(gradients)
    names = ("noise", "signal", "scale")
    if parts < 3:
        nothing: Measures = {f"{name}_se": torch.tensor(torch.nan) for name in names}
        return nothing | {"valid": torch.tensor(0.0)}

    total = gradients.sum(0)
    squares = gradients.square().sum(1)
    n = parts - 1
    of_parts = (squares.sum() - squares) / n
    of_all = (total.square().sum() - 2 * gradients @ total + squares) / n**2
    noise = size * (of_parts - of_all) * n / (n - 1)
    signal = (n * of_all - of_parts) / (n - 1)
    scale = torch.where(signal > 0, noise / signal, torch.nan)

    spread = (n / parts) ** 0.5
    errors: Measures = {
        f"{name}_se": spread * (values - values.mean()).norm()
        for name, values in zip(names, (noise, signal, scale), strict=True)
    }
    whole = estimate_noise_scale(gradients, size)
    is_seen = whole["signal"] > 2 * errors["signal_se"]
    is_exact = errors["scale_se"] <= whole["scale"] / 2
    return errors | {"valid": (is_seen & is_exact).to(gradients.dtype)}


def compute_gradients(
    loss: Loss, weights: Weights, n: int, size: int
) -> Float[Tensor, "part weight"]:
    """Mean gradients of consecutive parts of `size` of n samples, all weights in one row.

    What is left over is not used.
    """
    rows = torch.arange(n // size * size).unflatten(0, (-1, size))
    gradients = vmap(grad(loss), in_dims=(None, 0), chunk_size=8)(weights, rows)
    return torch.cat([gradient.flatten(1) for gradient in gradients.values()], 1)


@pin_torch()
def measure_gradient_noise(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `gradient_noise`: `estimate_noise_scale` of the batch's pictures, parts of 8.

    noise, signal, scale              the estimates; `scale` is in pictures
    noise_se, signal_se, scale_se     their standard errors, by the jackknife over parts
    valid                             1 where the scale is to be trusted: the signal is more than
                                      two errors above 0, the scale's error at most half of it
    """
    n = len(batch.images)
    size = min(SMALL, n // 2)
    gradients = compute_gradients(build_loss(model, batch), detach_parameters(model), n, size)
    return estimate_noise_scale(gradients, size) | estimate_noise_errors(gradients, size)


GRADIENT_NOISE = Analysis(
    name="gradient_noise",
    computes="batch size beyond which larger ones help little",
    measure=measure_gradient_noise,
    quantities={
        "noise": Quantity(),
        "signal": Quantity(),
        "scale": Quantity(unit="pictures", may_be_nan=True),
        "noise_se": Quantity(least=0, may_be_nan=True),
        "signal_se": Quantity(least=0, may_be_nan=True),
        "scale_se": Quantity(unit="pictures", least=0, may_be_nan=True),
        "valid": Quantity(least=0, most=1),
    },
    needs=(ANSWERS,),
    slow=True,
    cost=90,
    source="McCandlish 2018, simple noise scale (eq. 2.9, appendix A.1); meant for the "
    "training pictures",
    truth="a loss whose samples' gradients have a known mean and covariance",
    null="where all samples want the same step: noise and scale 0; where their gradients are "
    "noise around 0: not valid",
    version=2,
)


def find_top_eigenvalue(loss: Loss, weights: Weights, seed: int = 0) -> float:
    """The largest eigenvalue of the Hessian, by Lanczos on exact products with vectors, to 0.1 %.

    At a minimum all eigenvalues are at least 0; gradient descent with a rate above 2 / eigenvalue
    leaves it (Cohen 2021). Flat losses give 0.

    >>> round(find_top_eigenvalue(lambda w, rows: 3 * w["x"].square().sum(), {"x": torch.ones(3)}))
    6
    """
    size = sum(weight.numel() for weight in weights.values())
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(size, generator=generator, dtype=torch.double).numpy()
    multiply = build_hessian_product(loss, weights)
    if multiply is None or not (product := multiply(start)).any():
        return 0.0

    from scipy.sparse.linalg import LinearOperator, eigsh

    # ARPACK fails where the eigenvalue sought is 0.
    shift = 2 * float(np.linalg.norm(product) / np.linalg.norm(start))
    shifted = LinearOperator(
        (size, size), matvec=lambda v: multiply(v) + shift * v.flatten(), dtype="float64"
    )
    top = eigsh(shifted, k=1, which="LA", v0=start, tol=TOLERANCE, return_eigenvectors=False)
    return float(top[0]) - shift


@pin_torch()
def measure_hessian(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `hessian`: the largest eigenvalue, loss per squared weight, on the batch."""
    top = find_top_eigenvalue(build_loss(model, leave_inference(batch)), detach_parameters(model))
    return {"top": torch.tensor(top)}


HESSIAN = Analysis(
    name="hessian",
    computes="the largest curvature of the loss",
    measure=measure_hessian,
    quantities={"top": Quantity(unit="loss per squared weight")},
    needs=(ANSWERS,),
    slow=True,
    cost=4600,
    source="Lanczos on Hessian-vector products; meant for the training pictures",
    truth="a quadratic loss with known eigenvalues",
    null="0, as of a loss that is linear in the weights",
)
