"""The Hessian of a loss without its matrix: products with vectors, and its spectrum by Lanczos."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toyvit.analyses.sampling import Loss

Vector = NDArray[np.float64]
Product = Callable[[Vector], Vector]
BREAKDOWN = 1e-10  # a residual of this share of the largest eigenvalue ends the iteration


def build_hessian_product(loss: Loss, weights: Mapping[str, Tensor]) -> Product | None:
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


def compute_slope(loss: Loss, weights: Mapping[str, Tensor]) -> Vector:
    """The gradient of the loss, all weights in one row."""
    at = [weight.detach().clone().requires_grad_() for weight in weights.values()]
    named = dict(zip(weights, at, strict=True))
    slopes = torch.autograd.grad(loss(named, None), at, materialize_grads=True)
    return torch.cat([part.flatten() for part in slopes]).double().numpy()


def run_lanczos(multiply: Product, start: Vector, iterations: int) -> tuple[Vector, Vector]:
    """Nodes h and weights u with sum u f(h) about start' f(H) start / |start|^2 (Golub & Meurant).

    Exact after as many iterations as H has separate eigenvalues along `start`. Each new vector is
    made orthogonal to all before it, twice.

    >>> matrix = np.diag([1.0, 2.0, 2.0])
    >>> nodes, weights = run_lanczos(lambda v: matrix @ v, np.ones(3), 5)
    >>> nodes.round(6), weights.round(6)
    (array([1., 2.]), array([0.333333, 0.666667]))
    """
    basis = np.empty((0, len(start)))
    new = start / np.linalg.norm(start)
    diagonal: list[float] = []
    beside: list[float] = []
    for _ in range(min(iterations, len(start))):
        basis = np.vstack([basis, new])
        product = multiply(new)
        diagonal.append(float(product @ new))
        for _ in range(2):
            product = product - basis.T @ (basis @ product)

        size = float(np.linalg.norm(product))
        if size <= BREAKDOWN * max(1e-300, np.abs(diagonal).max()):
            break
        beside.append(size)
        new = product / size

    inner = beside[: len(diagonal) - 1]
    small = np.diag(diagonal) + np.diag(inner, 1) + np.diag(inner, -1)
    nodes, vectors = np.linalg.eigh(small)
    return nodes, vectors[0] ** 2


@dataclass(frozen=True)
class Spectrum:
    """What Lanczos says of a loss around its weights.

    size    number of weights, d
    random  (nodes, weights) from random signs: means over them, times d, are traces
    along   the same from the gradient; None where that is 0
    slope   squared norm of the gradient

    >>> loss = lambda w, rows: (w["x"] ** 2 * torch.tensor([1.0, 3.0])).sum() / 2
    >>> spectrum = sample_spectrum(loss, {"x": torch.zeros(2)})
    >>> round(spectrum.top, 4), round(spectrum.regular(1.0, 1.0), 4)
    (3.0, 0.625)
    """

    size: int
    random: tuple[tuple[Vector, Vector], ...]
    along: tuple[Vector, Vector] | None
    slope: float

    @property
    def top(self) -> float:
        """The largest eigenvalue, from below; 0 for a flat loss."""
        return max((float(nodes.max()) for nodes, _ in self.random), default=0.0)

    def regular(self, n_beta: int | float, gamma: int | float) -> float:
        """(1/2) sum of n beta h / (n beta h + gamma) over eigenvalues h above 0.

        What the local learning coefficient would be if the loss were its second-order part: half
        the number of directions stiffer than gamma / n beta, roughly. d/2 for gamma 0.
        """
        values = []
        for nodes, weights in self.random:
            stiff = n_beta * nodes.clip(0)
            values.append(self.size * (weights * stiff / (stiff + gamma).clip(1e-300)).sum() / 2)
        return float(np.mean(values)) if values else 0.0

    def downhill(self, n_beta: int | float, gamma: int | float) -> float:
        """What the gradient adds to it, 0 or less: n beta times the loss lost on sliding down.

        In second order, to the minimum of loss and spring together; -(n beta)^2 sum of
        g^2 (gamma + n beta h / 2) / (n beta h + gamma)^2. Far from 0 beside `regular`: the weights
        are no minimum of this loss.
        """
        if self.along is None:
            return 0.0
        nodes, weights = self.along
        stiff = n_beta * nodes.clip(0)
        shares = weights * (gamma + stiff / 2) / ((stiff + gamma) ** 2).clip(1e-300)
        return float(-(n_beta**2) * self.slope * shares.sum())


def sample_spectrum(
    loss: Loss, weights: Mapping[str, Tensor], probes: int = 2, iterations: int = 30, seed: int = 0
) -> Spectrum:
    """The spectrum from a few random probes; a trace of k stiff directions to about 1 / sqrt(k).

    Stochastic Lanczos quadrature (Ubaru 2017): `iterations` products for each probe, and for the
    gradient.
    """
    size = sum(weight.numel() for weight in weights.values())
    multiply = build_hessian_product(loss, weights)
    gradient = compute_slope(loss, weights)
    slope = float(gradient @ gradient)
    random = []
    along = None
    if multiply is not None:
        generator = np.random.default_rng(seed)
        for _ in range(probes):
            signs = generator.choice([-1.0, 1.0], size)
            random.append(run_lanczos(multiply, signs, iterations))
        along = run_lanczos(multiply, gradient, iterations) if slope else None
    elif slope:
        along = (np.zeros(1), np.ones(1))
    return Spectrum(size=size, random=tuple(random), along=along, slope=slope)
