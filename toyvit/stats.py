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
    min |X W - Y|^2 / n + penalty |W|^2.
    """
    x = standardize(x, fit)
    centre = y[fit].mean(0)
    return x[test] @ ridge_weights(x[fit], y[fit] - centre, penalty) + centre


def ridge_weights(
    x: Float[Tensor, "image feature"], y: Float[Tensor, "image target"], penalty: float
) -> Float[Tensor, "feature target"]:
    """W that minimises |X W - Y|^2 / n + penalty |W|^2, through whichever Gram matrix, of features or of rows, is smaller."""
    n, d = x.shape
    if d <= n:
        return torch.linalg.solve(x.T @ x + n * penalty * torch.eye(d, dtype=x.dtype), x.T @ y)
    return x.T @ torch.linalg.solve(x @ x.T + n * penalty * torch.eye(n, dtype=x.dtype), y)


def feature_dimensionality(directions: Float[Tensor, "*copy direction model"]) -> Float[Tensor, "*copy direction"]:
    """D_i = |w_i|^2 / sum_j (unit(w_i) . w_j)^2: the share of a dimension that direction i has to itself (Elhage 2022).

    1 for a direction orthogonal to all others, 1/2 in an antipodal pair or a square, 2/3 in a triangle, 2/5 in a pentagon; 0
    for a direction of length 0. Directions that tile m dimensions evenly sum to m. k random ones of one length in d dimensions:
    about 1 / (1 + (k - 1) / d), see `random_dimensionality`.
    """
    lengths = directions.norm(dim=-1)
    units = directions / lengths.clamp(min=1e-30)[..., None]
    overlaps = (units @ directions.transpose(-1, -2)).square().sum(-1)
    return torch.where(lengths > 0, lengths.square() / overlaps.clamp(min=1e-30), 0.0)


def random_dimensionality(n_directions: int, d_model: int) -> float:
    """What `feature_dimensionality` is for random directions of one length: the mean squared cosine of two is 1 / d."""
    return 1 / (1 + (n_directions - 1) / d_model)


def one_hot(labels: Int[Tensor, " image"], n: int) -> Float[Tensor, "image label"]:
    return torch.nn.functional.one_hot(labels, n).double()
