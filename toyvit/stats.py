"""Small mathematics that several measures share."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def entropy(p: Float[Tensor, "*batch key"]) -> Float[Tensor, "*batch"]:
    """-sum p ln p over the last axis, nats: 0 for one-hot, ln(keys) for uniform. 0 ln 0 counts as 0."""
    return -torch.xlogy(p, p).sum(-1)


def standardize(x: Float[Tensor, "image feature"], fit: slice) -> Float[Tensor, "image feature"]:
    """Each feature with mean 0 and standard deviation 1 over the rows `fit`; a constant feature becomes 0."""
    mean, sd = x[fit].mean(0), x[fit].std(0, correction=0)
    return torch.where(sd > 1e-6 * (1 + mean.abs()), (x - mean) / sd.clamp(min=1e-12), 0.0)


def ridge_predictions(
    x: Float[Tensor, "image feature"], y: Float[Tensor, "image target"], fit: slice, test: slice, penalty: float
) -> Float[Tensor, "test target"]:
    """Closed-form ridge: predictions of y on rows `test` from weights fitted on rows `fit`, all targets at once.

    Features are standardised on the fitting rows, targets centred. `penalty` is per fitting row:
    min |X W - Y|^2 / n + penalty |W|^2. Solved through whichever Gram matrix, of features or of rows, is smaller.
    """
    x = standardize(x, fit)
    centre = y[fit].mean(0)
    a, b = x[fit], y[fit] - centre
    n, d = a.shape
    if d <= n:
        weights = torch.linalg.solve(a.T @ a + n * penalty * torch.eye(d, dtype=x.dtype), a.T @ b)
    else:
        weights = a.T @ torch.linalg.solve(a @ a.T + n * penalty * torch.eye(n, dtype=x.dtype), b)
    return x[test] @ weights + centre


def one_hot(labels: Int[Tensor, " image"], n: int) -> Float[Tensor, "image label"]:
    return torch.nn.functional.one_hot(labels, n).double()
