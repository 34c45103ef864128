"""Small mathematics that several measures share."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def entropy(p: Float[Tensor, "*batch key"]) -> Float[Tensor, "*batch"]:
    """-sum p ln p over the last axis, nats: 0 for one-hot, ln(keys) for uniform. 0 ln 0 is 0.

    >>> entropy(torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    tensor([-0.0000, 0.6931])
    """
    logs = p.clamp(min=torch.finfo(p.dtype).tiny).log()  # a third of the time of `xlogy`
    return -torch.linalg.vecdot(p, logs)


def kl_divergence(
    other: Float[Tensor, "*batch label"], final: Float[Tensor, "*final label"]
) -> Float[Tensor, "*batch"]:
    """KL(final, other) of log-probabilities, nats: 0 where they say the same.

    `final` is expanded to the shape of the other.

    >>> uniform = torch.zeros(1, 2).log_softmax(-1)
    >>> kl_divergence(torch.tensor([[0.0, 0.0], [9.0, 0.0]]).log_softmax(-1), uniform)
    tensor([0.0000, 3.8070])
    """
    target = final.expand_as(other)
    return F.kl_div(other, target, log_target=True, reduction="none").sum(-1)


def standardize(
    x: Float[Tensor, "*probe image feature"], fit: slice
) -> Float[Tensor, "*probe image feature"]:
    """Each feature with mean 0 and standard deviation 1 over the rows `fit`.

    A constant feature becomes 0.

    >>> standardize(torch.tensor([[1.0, 5.0], [3.0, 5.0]]), slice(None))
    tensor([[-1.,  0.],
            [ 1.,  0.]])
    """
    mean = x[..., fit, :].mean(-2, keepdim=True)
    centred = x - mean
    rows = centred[..., fit, :]
    sd = torch.linalg.vector_norm(rows, dim=-2, keepdim=True) / rows.shape[-2] ** 0.5
    varies = sd > 1e-6 * (1 + mean.abs())
    return centred * torch.where(varies, 1 / sd.clamp(min=1e-12), 0.0)


def predict_ridge(
    x: Float[Tensor, "*probe image feature"],
    y: Float[Tensor, "image target"],
    fit: slice,
    test: slice,
    penalty: float,
) -> Float[Tensor, "*probe test target"]:
    """Closed-form ridge: y on rows `test` from weights fitted on rows `fit`, all targets at once.

    Features are standardised on the fitting rows, targets centred. `penalty` is per fitting row:
    min |X W - Y|^2 / n + penalty |W|^2.

    >>> x = torch.tensor([[0.0], [2.0], [4.0], [6.0]])
    >>> predict_ridge(x, 10 * x, slice(0, 2), slice(2, 4), penalty=0.0)
    tensor([[40.],
            [60.]])
    """
    x = standardize(x, fit)
    centre = y[fit].mean(0)
    weights = fit_ridge(x[..., fit, :], y[fit] - centre, penalty)
    return x[..., test, :] @ weights + centre


def fit_ridge(
    x: Float[Tensor, "*probe image feature"], y: Float[Tensor, "image target"], penalty: float
) -> Float[Tensor, "*probe feature target"]:
    """W that minimises |X W - Y|^2 / n + penalty |W|^2.

    Through whichever Gram matrix, of features or of rows, is smaller.

    >>> fit_ridge(torch.eye(2), torch.eye(2), penalty=0.5)
    tensor([[0.5000, 0.0000],
            [0.0000, 0.5000]])
    """
    n, d = x.shape[-2:]
    ridge = n * penalty * torch.eye(min(n, d), dtype=x.dtype)
    if d <= n:
        return torch.linalg.solve(x.mT @ x + ridge, x.mT @ y)
    return x.mT @ torch.linalg.solve(x @ x.mT + ridge, y.expand(*x.shape[:-1], -1))


def feature_dimensionality(
    directions: Float[Tensor, "*copy direction model"],
) -> Float[Tensor, "*copy direction"]:
    """D_i = |w_i|^2 / sum_j (unit(w_i) . w_j)^2: the share of a dimension that a direction has.

    To itself, 0 to 1 (Elhage 2022). 1 for a direction orthogonal to all others, 1/2 in an antipodal
    pair or a square, 2/3 in a triangle, 2/5 in a pentagon; 0 for a direction of length 0.
    Directions that tile m dimensions evenly sum to m. k random ones of one length in d dimensions:
    about 1 / (1 + (k - 1) / d), see `random_dimensionality`.

    >>> feature_dimensionality(torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0]]))
    tensor([0.5000, 0.5000, 1.0000])
    """
    lengths = directions.norm(dim=-1)
    units = directions / lengths.clamp(min=1e-30)[..., None]
    overlaps = (units @ directions.transpose(-1, -2)).square().sum(-1)
    return torch.where(lengths > 0, lengths.square() / overlaps.clamp(min=1e-30), 0.0)


def random_dimensionality(n_directions: int, d_model: int) -> float:
    """What `feature_dimensionality` is for random directions of one length.

    The mean squared cosine of two is 1 / d.

    >>> random_dimensionality(65, 64)
    0.5
    """
    return 1 / (1 + (n_directions - 1) / d_model)


def encode_one_hot(labels: Int[Tensor, " image"], n: int) -> Float[Tensor, "image label"]:
    """One-hot rows in float64.

    >>> encode_one_hot(torch.tensor([1]), 3)
    tensor([[0., 1., 0.]], dtype=torch.float64)
    """
    return F.one_hot(labels, n).double()


def covariance_eigenvalues(x: Float[Tensor, "sample feature"]) -> Float[Tensor, " feature"]:
    """Variances along the principal directions, falling, in float64.

    Eigenvalues of the covariance of the samples.

    >>> covariance_eigenvalues(torch.tensor([[0.0, 0.0], [0.0, 2.0]]))
    tensor([2., 0.], dtype=torch.float64)
    """
    x = x.double() - x.double().mean(0)
    return torch.linalg.eigvalsh(x.T @ x / (len(x) - 1)).flip(0).clamp(min=0)


def participation_ratio(variances: Float[Tensor, "*batch feature"]) -> Float[Tensor, "*batch"]:
    """(sum v)^2 / sum v^2: n where n variances are equal and the others 0.

    Between 1 and their number; NaN where all are 0.

    >>> participation_ratio(torch.tensor([[3.0, 3.0, 0.0], [1.0, 0.0, 0.0]]))
    tensor([2., 1.])
    """
    return variances.sum(-1) ** 2 / variances.square().sum(-1)


def effective_rank(variances: Float[Tensor, " feature"]) -> Float[Tensor, ""]:
    """exp of the entropy of the singular values (roots of the variances), scaled to sum 1.

    Roy & Vetterli 2007, definition 1. n where n are equal and the others 0; NaN where all are 0.
    Other papers take the variances themselves: smaller.

    >>> effective_rank(torch.tensor([4.0, 4.0, 0.0]))
    tensor(2.)
    """
    sizes = variances.sqrt()
    return entropy(sizes / sizes.sum()).exp()


def power_law(
    values: Float[Tensor, " feature"],
    first: int,
    last: int,
    weights: Float[Tensor, " rank"] | None = None,
) -> Float[Tensor, ""]:
    """alpha where values fall as j^-alpha, j from `first` (1 or more) to `last`.

    Minus the least-squares slope of ln value on ln j, each j with its weight (default: all alike).
    NaN for fewer than two values.

    >>> power_law(torch.arange(1, 9) ** -0.5, 1, 8).round(decimals=6)
    tensor(0.5000, dtype=torch.float64)
    """
    ranks = torch.arange(first, last + 1, dtype=torch.double).log()
    sizes = values[first - 1 : last].double().log()
    if weights is None:
        centred = ranks - ranks.mean()
        return -(centred * sizes).sum() / centred.square().sum()

    centred = ranks - (weights * ranks).sum() / weights.sum()
    return -(weights * centred * sizes).sum() / (weights * centred.square()).sum()


def centre_gram(x: Float[Tensor, "sample feature"]) -> Float[Tensor, "sample sample"]:
    """Inner products of the samples, U-centred (Szekely & Rizzo 2014, eq. 2.11), in float64.

    The diagonal is 0, every row and column sums to 0. The inner product of two such matrices, over
    n (n - 3), is the unbiased HSIC_1 of Song 2012. n of 4 or more.

    >>> centre_gram(torch.randn(5, 3)).sum(0).abs().max() < 1e-6
    tensor(True)
    """
    x = x.double()
    n = len(x)
    gram = (x @ x.T).fill_diagonal_(0)
    rows = gram.sum(1) / (n - 2)
    total = gram.sum() / ((n - 1) * (n - 2))
    return (gram - rows[:, None] - rows[None] + total).fill_diagonal_(0)


def cka(
    grams: Float[Tensor, "representation sample sample"],
) -> Float[Tensor, "representation representation"]:
    """Centred kernel alignment of every two representations of the same samples, unbiased.

    The cosine of their `centre_gram`. 1 with itself, the same under rotation and scale; 0 in the
    mean for independent ones, whose biased form reads far above 0 where samples are few (0.5 for 64
    samples of 64 features). A little below 0 is noise. NaN where one does not vary.

    >>> x = torch.tensor([[0.0, 1.0], [2.0, 1.0], [1.0, 3.0], [5.0, 0.0]])
    >>> cka(torch.stack([centre_gram(x), centre_gram(3 * x.flip(1))]))[0, 1].round(decimals=6)
    tensor(1., dtype=torch.float64)
    """
    flat = grams.flatten(1)
    lengths = flat.norm(dim=1)
    return flat @ flat.T / torch.where(lengths > 0, lengths, torch.nan).outer(lengths)
