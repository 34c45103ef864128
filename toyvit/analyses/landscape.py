"""The loss around the weights: how noisy its gradient is, and how sharply it curves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor
from torch.func import grad, vmap

from toyvit.analyses.llc import Loss, Weights, build_loss
from toyvit.data.task import Batch
from toyvit.model import ViT

SMALL = 8  # pictures in a small batch of the gradient noise scale
TOLERANCE = 1e-3  # of the largest eigenvalue


def estimate_noise_scale(
    gradients: Float[Tensor, "part weight"], size: int
) -> dict[str, Float[Tensor, ""]]:
    """The simple noise scale tr(S) / |G|^2 (McCandlish 2018, eq. 2.9) from mean gradients of disjoint parts of `size` samples.

    Unbiased estimates from two batch sizes, a part and all of them (appendix A.1): noise = tr(S), the variance of one sample's
    gradient; signal = |G|^2, the squared norm of the true gradient. Their ratio, in samples, is the batch size beyond which
    larger batches help little; NaN where the signal is lost in the noise (not above 0).
    """
    parts, large = len(gradients), len(gradients) * size
    of_parts, of_all = gradients.square().sum(1).mean(), gradients.mean(0).square().sum()
    noise = (of_parts - of_all) / (1 / size - 1 / large)
    signal = (large * of_all - size * of_parts) / (large - size) if parts > 1 else of_all
    return {
        "noise": noise,
        "signal": signal,
        "scale": torch.where(signal > 0, noise / signal, torch.nan),
    }


def compute_gradients(
    loss: Loss, weights: Weights, n: int, size: int
) -> Float[Tensor, "part weight"]:
    """Mean gradients of consecutive parts of `size` samples, all weights in one row; what is left over is not used."""
    rows = torch.arange(n // size * size).unflatten(0, (-1, size))
    found = vmap(grad(loss), in_dims=(None, 0), chunk_size=8)(weights, rows)
    return torch.cat([gradient.flatten(1) for gradient in found.values()], 1)


def measure_gradient_noise(
    model: ViT, batch: Batch, trace: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The analysis `measure_gradient_noise`: `estimate_noise_scale` of the batch's pictures, in parts of 8; the scale is in pictures."""
    size = min(SMALL, len(batch.images) // 2)
    return estimate_noise_scale(
        compute_gradients(
            build_loss(model, batch), detach_parameters(model), len(batch.images), size
        ),
        size,
    )


def find_top_eigenvalue(loss: Loss, weights: Weights, seed: int = 0) -> float:
    """The largest eigenvalue of the Hessian, by Lanczos (ARPACK) on exact products of it with vectors, to 0.1 %.

    At a minimum all eigenvalues are at least 0; gradient descent with a rate above 2 / eigenvalue leaves it (Cohen 2021).
    Flat losses give 0.
    """
    at = {name: weight.detach().clone().requires_grad_() for name, weight in weights.items()}
    values = list(at.values())
    kind, sizes = values[0].dtype, [weight.numel() for weight in values]
    slopes = torch.autograd.grad(loss(at, None), values, create_graph=True, materialize_grads=True)
    slope = torch.cat([part.flatten() for part in slopes])

    def times(vector: NDArray[np.float64]) -> NDArray[np.float64]:
        along = torch.as_tensor(vector, dtype=kind).flatten()
        product = torch.autograd.grad(
            slope, values, along, retain_graph=True, materialize_grads=True
        )
        return torch.cat([part.flatten() for part in product]).double().numpy()

    start = torch.randn(
        sum(sizes), generator=torch.Generator().manual_seed(seed), dtype=torch.double
    ).numpy()
    if not slope.requires_grad or not times(start).any():
        return 0.0
    shift = 2 * float(
        np.linalg.norm(times(start)) / np.linalg.norm(start)
    )  # ARPACK fails where the eigenvalue sought is 0
    shifted = LinearOperator(
        (sum(sizes), sum(sizes)), matvec=lambda v: times(v) + shift * v.flatten(), dtype="float64"
    )
    return (
        float(
            eigsh(shifted, k=1, which="LA", v0=start, tol=TOLERANCE, return_eigenvectors=False)[0]
        )
        - shift
    )


def measure_hessian(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `measure_hessian`: the largest eigenvalue, loss per squared weight, on the batch's pictures."""
    return {
        "top": torch.tensor(find_top_eigenvalue(build_loss(model, batch), detach_parameters(model)))
    }


def detach_parameters(model: ViT) -> Weights:
    return {name: weight.detach() for name, weight in model.named_parameters()}
