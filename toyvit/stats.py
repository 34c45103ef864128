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


def predict_ridge(
    x: Float[Tensor, "image feature"],
    y: Float[Tensor, "image target"],
    fit: slice,
    test: slice,
    penalty: float,
) -> Float[Tensor, "test target"]:
    """Closed-form ridge: predictions of y on rows `test` from weights fitted on rows `fit`, all targets at once.

    Features are standardised on the fitting rows, targets centred. `penalty` is per fitting row:
    min |X W - Y|^2 / n + penalty |W|^2.
    """
    x = standardize(x, fit)
    centre = y[fit].mean(0)
    return x[test] @ fit_ridge(x[fit], y[fit] - centre, penalty) + centre


def fit_ridge(
    x: Float[Tensor, "image feature"], y: Float[Tensor, "image target"], penalty: float
) -> Float[Tensor, "feature target"]:
    """W that minimises |X W - Y|^2 / n + penalty |W|^2, through whichever Gram matrix, of features or of rows, is smaller."""
    n, d = x.shape
    if d <= n:
        return torch.linalg.solve(x.T @ x + n * penalty * torch.eye(d, dtype=x.dtype), x.T @ y)
    return x.T @ torch.linalg.solve(x @ x.T + n * penalty * torch.eye(n, dtype=x.dtype), y)


def feature_dimensionality(
    directions: Float[Tensor, "*copy direction model"],
) -> Float[Tensor, "*copy direction"]:
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


def encode_one_hot(labels: Int[Tensor, " image"], n: int) -> Float[Tensor, "image label"]:
    return torch.nn.functional.one_hot(labels, n).double()


def covariance_eigenvalues(x: Float[Tensor, "sample feature"]) -> Float[Tensor, " feature"]:
    """Variances along the principal directions, falling, in float64: eigenvalues of the covariance of the samples."""
    x = x.double() - x.double().mean(0)
    return torch.linalg.eigvalsh(x.T @ x / (len(x) - 1)).flip(0).clamp(min=0)


def participation_ratio(variances: Float[Tensor, " feature"]) -> Float[Tensor, ""]:
    """(sum v)^2 / sum v^2: n where n variances are equal and the others 0; between 1 and their number; NaN where all are 0."""
    return variances.sum() ** 2 / variances.square().sum()


def effective_rank(variances: Float[Tensor, " feature"]) -> Float[Tensor, ""]:
    """exp of the entropy of the singular values (roots of the variances) scaled to sum 1 (Roy & Vetterli 2007, definition 1).

    n where n are equal and the others 0; NaN where all are 0. Other papers take the variances themselves: smaller.
    """
    sizes = variances.sqrt()
    return entropy(sizes / sizes.sum()).exp()


def power_law(values: Float[Tensor, " feature"], first: int, last: int) -> Float[Tensor, ""]:
    """alpha where values fall as j^-alpha: minus the least-squares slope of ln value on ln j, j from first (1 or more) to last.

    NaN for fewer than two values.
    """
    ranks = torch.arange(first, last + 1, dtype=torch.double).log()
    centred = ranks - ranks.mean()
    return -(centred * values[first - 1 : last].double().log()).sum() / centred.square().sum()


def centre_gram(x: Float[Tensor, "sample feature"]) -> Float[Tensor, "sample sample"]:
    """Inner products of the samples, U-centred (Szekely & Rizzo 2014, eq. 2.11): diagonal 0, every row and column sums to 0.

    The inner product of two such matrices, over n (n - 3), is the unbiased HSIC_1 of Song 2012. float64; n of 4 or more.
    """
    x = x.double()
    n, gram = len(x), (x @ x.T).fill_diagonal_(0)
    rows = gram.sum(1) / (n - 2)
    return (gram - rows[:, None] - rows[None] + gram.sum() / ((n - 1) * (n - 2))).fill_diagonal_(0)


def cka(
    grams: Float[Tensor, "representation sample sample"],
) -> Float[Tensor, "representation representation"]:
    """Centred kernel alignment of every two representations of the same samples, unbiased: the cosine of their `centre_gram`.

    1 with itself, the same under rotation and scale; 0 in the mean for independent ones, whose biased form reads far above 0
    where samples are few (0.5 for 64 samples of 64 features). A little below 0 is noise. NaN where one does not vary.
    """
    flat = grams.flatten(1)
    lengths = flat.norm(dim=1)
    return flat @ flat.T / torch.where(lengths > 0, lengths, torch.nan).outer(lengths)
