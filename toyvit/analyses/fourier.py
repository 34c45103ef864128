"""Progress measures of modular addition: how much of the answer is a sum of few waves in a + b.

After Nanda 2023 (arXiv 2301.05217, sections 4 and 5), all in float64 and over all p^2 pairs. A
network that adds on a circle says cos(w_k (a + b - c)) for a few frequencies w_k = 2 pi k / p, k
from 1 to p // 2: its logits, as functions of the pair, lie in the directions cos(w_k (a + b)) and
sin(w_k (a + b)) of these.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from toyvit.analyses.analysis import Analysis, Axis, Measures, Need, Quantity, Tagged
from toyvit.config import ModelConfig
from toyvit.data.task import Batch, OperandTable, loss
from toyvit.model import ViT
from toyvit.model.forward import trace as record_sites
from toyvit.surroundings import pin_torch

KEY = 0.02  # of the logits' variance: what a key frequency has at least, for whatever p
FALSE_KEYS = 0.05  # chance that random logits have a key frequency, at most

Logits = Float[Tensor, "pair label"]  # pair a p + b
Keys = Bool[Tensor, " frequency"]


@lru_cache(4)
def build_waves(p: int) -> Float[Tensor, "frequency 2 pair"]:
    """cos(w_k (a + b)) and sin(w_k (a + b)) over all pairs, each of length 1, from k = 1 on.

    The sine of k = p / 2 is 0.

    >>> waves = build_waves(5).flatten(0, 1)
    >>> torch.allclose(waves @ waves.T, torch.eye(4).double(), atol=1e-6)
    True
    """
    a, b = torch.meshgrid(torch.arange(p), torch.arange(p), indexing="ij")
    k = torch.arange(1, p // 2 + 1)[:, None]
    angle = 2 * math.pi / p * (k * (a + b).flatten() % p).double()
    waves = torch.stack([angle.cos(), angle.sin()], 1)
    lengths = waves.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    return torch.where(waves.abs() > 1e-9, waves, 0) / lengths


def project_components(logits: Logits) -> Float[Tensor, "frequency 2 label"]:
    """The logits' projections on the waves."""
    return build_waves(math.isqrt(len(logits))) @ logits


def wave_power(logits: Logits) -> Float[Tensor, " frequency"]:
    """Share of the logits' variance over pairs in each frequency's two directions, 0 to 1.

    0 where they do not vary. What all labels of a pair have in common says nothing and is taken off
    first. Hand-built trigonometric logits: 1 in all over their frequencies; a random table:
    2 / (p^2 - 1) each.

    >>> wave = build_waves(5)[1, 0]
    >>> wave_power(torch.stack([wave, -wave], 1)).round(decimals=4)
    tensor([0., 1.], dtype=torch.float64)
    """
    logits = logits - logits.mean(1, keepdim=True)
    variance = (logits - logits.mean(0)).square().sum()
    return project_components(logits).square().sum((1, 2)) / variance.clamp(min=1e-12)


@lru_cache(4)
def null_shares(p: int) -> Float[Tensor, " frequency"]:
    """The share that some frequency of random logits exceeds with a chance of 5 %, by frequency.

    Random logits are independent and normal. A frequency then has 2 (p - 1) of their (p^2 - 1)
    (p - 1) degrees of freedom (half as many where it is p / 2), so its share follows a beta
    distribution; the quantile is that of the largest of p // 2 independent ones. 0.084 for p = 7,
    0.0022 for p = 37.

    >>> null_shares(7).round(decimals=3)
    tensor([0.0840, 0.0840, 0.0840], dtype=torch.float64)
    """
    from scipy.stats import beta  # slow to import, and few runs are of sums

    n = p // 2
    own = torch.full((n,), float(p - 1))
    if p % 2 == 0:
        own[-1] /= 2
    rest = (p * p - 1) * (p - 1) / 2 - own
    quantile = (1 - FALSE_KEYS) ** (1 / n)
    return torch.as_tensor(beta.ppf(quantile, own.double().numpy(), rest.double().numpy()))


def find_key_frequencies(logits: Logits) -> Keys:
    """Those with at least 2 % of the variance, and more than random logits have by chance.

    Random logits have one with a chance of 5 % at most, see `null_shares`: that decides for p up to
    13; above, 2 % is more than chance gives. The paper reads them off by eye, after training.
    """
    chance = null_shares(math.isqrt(len(logits)))
    return wave_power(logits) >= chance.clamp(min=KEY)


def keep_waves(logits: Logits, keys: Keys) -> Logits:
    """What the key frequencies' waves contribute to the logits."""
    directions = build_waves(math.isqrt(len(logits)))[keys].flatten(0, 1)
    return directions.T @ (directions @ logits)


def restrict_logits(logits: Logits, keys: Keys) -> Logits:
    """Only the key frequencies are kept, and each label's mean over all pairs.

    Trigonometric logits stay as they are.
    """
    return keep_waves(logits, keys) + logits.mean(0)


def score_restricted_alone(
    logits: Logits, keys: Keys, rows: Bool[Tensor, " pair"]
) -> Float[Tensor, "row label"]:
    """Restricted logits of some pairs from these alone.

    The least-squares fit of their own logits by the key frequencies' waves and a constant.
    `restrict_logits` projects all pairs at once. Where most are trained on, a table learned by
    heart then passes its right answers on to pairs it knows nothing of, and their restricted loss
    falls without any generalisation (this lab's finding and remedy). Where pairs are fewer than
    waves the fit is the logits themselves.
    """
    directions = build_waves(math.isqrt(len(logits)))[keys].flatten(0, 1).T[rows]
    directions = torch.cat([directions.new_ones(len(directions), 1), directions], 1)
    return directions @ torch.linalg.lstsq(directions, logits[rows], driver="gelsd").solution


def exclude_waves(logits: Logits, keys: Keys) -> Logits:
    """The key frequencies are taken out, all else is kept.

    Trigonometric logits become 0, whose loss is chance, ln p.
    """
    return logits - keep_waves(logits, keys)


def gini(sizes: Float[Tensor, " frequency"]) -> Float[Tensor, ""]:
    """Gini coefficient: 0 where all are equal, 1 - 1/n where one has everything; 0 where all are 0.

    >>> gini(torch.ones(4)), gini(torch.tensor([0.0, 0.0, 0.0, 2.0]))
    (tensor(0.), tensor(0.7500))
    """
    n = len(sizes)
    ordered = sizes.sort().values
    ranks = 2 * torch.arange(1, n + 1, dtype=sizes.dtype) - n - 1
    return (ranks * ordered).sum() / (n * ordered.sum()).clamp(min=1e-12)


def spectrum(function: Float[Tensor, "operand feature"]) -> Float[Tensor, " frequency"]:
    """Size of each frequency k = 1 to p // 2 of a function of one operand, over all its features.

    >>> wave = (2 * math.pi * torch.arange(5) / 5).cos()
    >>> spectrum(wave[:, None]).round(decimals=3)
    tensor([1.1180, 0.0000])
    """
    return torch.fft.rfft(function, dim=0, norm="ortho")[1:].abs().square().sum(1).sqrt()


def average_embedding(embed: Float[Tensor, "pair token model"]) -> Float[Tensor, "operand feature"]:
    """How the pictures' embedding depends on the first operand: its mean over the second.

    With glyphs, the glyph's own.
    """
    p = math.isqrt(len(embed))
    return embed.double().unflatten(0, (p, p)).mean(1).flatten(1)


def score_losses(logits: Logits, operand_table: OperandTable, keys: Keys) -> Measures:
    """Cross-entropy (nats) of restricted and of excluded logits, on trained pairs and on others.

    `restricted_alone` is on the pairs not trained on, the waves fitted on these alone.
    """
    trained = operand_table.trained
    target = operand_table.target
    alone = score_restricted_alone(logits, keys, ~trained)
    measures: Measures = {"restricted_alone": loss(alone, target[~trained])}

    changes = {
        "restricted_loss": restrict_logits(logits, keys),
        "excluded_loss": exclude_waves(logits, keys),
    }
    for name, changed in changes.items():
        for side, rows in (("train", trained), ("test", ~trained)):
            measures[Tagged(name, pairs=side)] = loss(changed[rows], target[rows])
    return measures


@pin_torch()
def measure_fourier(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `fourier`, on all pairs whatever the batch, with the checkpoint's own keys.

    restricted_loss, excluded_loss    nats, chance is ln p; tagged by the pairs they are taken on
    restricted_alone   the same on the pairs not trained on, without what trained pairs lend them
    power              share of the logits' variance, by frequency (row 0 is k = 1)
    is_key             1 where the frequency is key
    key_share          the key frequencies' power, 0 to 1
    gini               of the frequencies' sizes in the logits (square root of power) and in the
                       first operand's embedding
    """
    assert batch.operand_table is not None
    values = record_sites(model, batch.operand_table.images, ["logits", "embed"])
    logits = values["logits"].double()
    shares = wave_power(logits)
    keys = find_key_frequencies(logits)
    embedding = average_embedding(values["embed"])

    return score_losses(logits, batch.operand_table, keys) | {
        "power": shares,
        "is_key": keys.double(),
        "key_share": shares[keys].sum(),
        Tagged("gini", of="logits"): gini(shares.sqrt()),
        Tagged("gini", of="embedding"): gini(spectrum(embedding)),
    }


def _count_frequencies(config: ModelConfig, batch: Batch) -> Collection[int]:
    table = batch.operand_table
    return () if table is None else (math.isqrt(len(table.target)) // 2,)


FOURIER = Analysis(
    name="fourier",
    computes="how much of a modular sum is waves, and of how few frequencies",
    measure=measure_fourier,
    quantities={
        "restricted_loss": Quantity(unit="nats", least=0),
        "restricted_alone": Quantity(unit="nats", least=0),
        "excluded_loss": Quantity(unit="nats", least=0),
        "key_share": Quantity(least=0, most=1),
        "gini": Quantity(least=0, most=1),
        "power": Quantity("frequency", least=0, most=1),
        "is_key": Quantity("frequency", least=0, most=1),
    },
    own_axes=(Axis("frequency", "k = 1 to p // 2, from 0 on", _count_frequencies),),
    needs=(
        Need("all pairs of an addition", lambda config, batch: batch.operand_table is not None),
    ),
    cost=14,
    source="Nanda 2023, sections 4 and 5; which frequencies are key (2 % and above chance) is this "
    "lab's rule",
    truth="hand-built trigonometric logits: restricted loss unchanged, excluded ln p, share 1",
    null="random logits and embeddings: in 95 % of them no key frequency for p from 5 to 113, "
    "then share 0 and excluded loss unchanged; Gini near 0",
    version=2,
)
