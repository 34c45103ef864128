"""The loss around the weights: how noisy its gradient is, and how sharply it curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor
from torch.func import grad, vmap

from toyvit.analyses.analysis import Analysis, Measures, Quantity
from toyvit.analyses.llc import Loss, Weights, build_loss
from toyvit.data.task import Batch
from toyvit.model import ViT

SMALL = 8  # pictures in a small batch of the gradient noise scale
TOLERANCE = 1e-3  # of the largest eigenvalue
Vector = NDArray[np.float64]


def detach_parameters(model: ViT) -> Weights:
    """The model's parameters by name, as constants."""
    return {name: weight.detach() for name, weight in model.named_parameters()}


def estimate_noise_scale(gradients: Float[Tensor, "part weight"], size: int) -> Measures:
    """The simple noise scale tr(S) / |G|^2, from mean gradients of disjoint parts of the samples.

    A part is `size` samples. Unbiased estimates from two batch sizes, a part and all of them
    (McCandlish 2018, eq. 2.9 and appendix A.1). `noise` = tr(S), the variance of one sample's
    gradient; `signal` = |G|^2, the squared norm of the true gradient; `scale`, their ratio, in
    samples: the batch size beyond which larger batches help little, NaN where the signal is lost in
    the noise (not above 0).

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


def compute_gradients(
    loss: Loss, weights: Weights, n: int, size: int
) -> Float[Tensor, "part weight"]:
    """Mean gradients of consecutive parts of `size` of n samples, all weights in one row.

    What is left over is not used.
    """
    rows = torch.arange(n // size * size).unflatten(0, (-1, size))
    gradients = vmap(grad(loss), in_dims=(None, 0), chunk_size=8)(weights, rows)
    return torch.cat([gradient.flatten(1) for gradient in gradients.values()], 1)


def measure_gradient_noise(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `gradient_noise`: `estimate_noise_scale` of the batch's pictures, parts of 8.

    `scale` is in pictures.
    """
    n = len(batch.images)
    size = min(SMALL, n // 2)
    gradients = compute_gradients(build_loss(model, batch), detach_parameters(model), n, size)
    return estimate_noise_scale(gradients, size)


GRADIENT_NOISE = Analysis(
    name="gradient_noise",
    computes="batch size beyond which larger ones help little",
    measure=measure_gradient_noise,
    quantities={
        "noise": Quantity(),
        "signal": Quantity(),
        "scale": Quantity(unit="pictures", may_be_nan=True),
    },
    slow=True,
    cost=90,
    source="McCandlish 2018, simple noise scale (eq. 2.9, appendix A.1); meant for the "
    "training pictures",
    truth="a loss whose samples' gradients have a known mean and covariance",
    null="samples that agree: noise and scale 0",
)


def build_hessian_product(loss: Loss, weights: Weights) -> Callable[[Vector], Vector] | None:
    """The product of the loss's Hessian with a vector over all weights; None where it is flat.

    >>> weights = {"x": torch.ones(2)}
    >>> multiply = build_hessian_product(lambda w, rows: 3 * w["x"].square().sum(), weights)
    >>> multiply(np.array([1.0, 2.0]))
    array([ 6., 12.])
    """
    at = {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()}
    values = list(at.values())
    slopes = torch.autograd.grad(loss(at, None), values, create_graph=True, materialize_grads=True)
    slope = torch.cat([part.flatten() for part in slopes])
    if not slope.requires_grad:
        return None

    def multiply(vector: Vector) -> Vector:
        along = torch.as_tensor(vector, dtype=values[0].dtype).flatten()
        product = torch.autograd.grad(
            slope, values, along, retain_graph=True, materialize_grads=True
        )
        return torch.cat([part.flatten() for part in product]).double().numpy()

    return multiply


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

    # ARPACK fails where the eigenvalue sought is 0.
    shift = 2 * float(np.linalg.norm(product) / np.linalg.norm(start))
    shifted = LinearOperator(
        (size, size), matvec=lambda v: multiply(v) + shift * v.flatten(), dtype="float64"
    )
    top = eigsh(shifted, k=1, which="LA", v0=start, tol=TOLERANCE, return_eigenvectors=False)
    return float(top[0]) - shift


def measure_hessian(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `hessian`: the largest eigenvalue, loss per squared weight, on the batch."""
    top = find_top_eigenvalue(build_loss(model, batch), detach_parameters(model))
    return {"top": torch.tensor(top)}


HESSIAN = Analysis(
    name="hessian",
    computes="the largest curvature of the loss",
    measure=measure_hessian,
    quantities={"top": Quantity(unit="loss per squared weight")},
    slow=True,
    cost=4600,
    source="Lanczos on Hessian-vector products; meant for the training pictures",
    truth="a quadratic loss with known eigenvalues",
    null="a linear loss: 0",
)
