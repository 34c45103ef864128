"""Progress measures of modular addition: how much of the answer is a sum of waves in a + b, and over how few frequencies.

After Nanda 2023 (arXiv 2301.05217, sections 4 and 5), all in float64 and over all p^2 pairs. A network that adds on a circle
says cos(w_k (a + b - c)) for a few frequencies w_k = 2 pi k / p, k = 1 to p // 2: its logits, as functions of the pair, lie in
the directions cos(w_k (a + b)) and sin(w_k (a + b)) of these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from toyvit.data.task import Batch, OperandTable, loss
from toyvit.model import ViT
from toyvit.model.forward import trace as traced

KEY = 0.02  # a frequency is key where it has at least this share of the logits' variance

Logits = Float[Tensor, "pair label"]  # pair a p + b
Keys = Bool[Tensor, " frequency"]


@lru_cache(4)
def build_waves(p: int) -> Float[Tensor, "frequency 2 pair"]:
    """cos(w_k (a + b)) and sin(w_k (a + b)) over all pairs, each of length 1 (the sine of k = p / 2 is 0); k from 1."""
    a, b = torch.meshgrid(torch.arange(p), torch.arange(p), indexing="ij")
    angle = (
        2 * math.pi / p * (torch.arange(1, p // 2 + 1)[:, None] * (a + b).flatten() % p).double()
    )
    found = torch.stack([angle.cos(), angle.sin()], 1)
    return torch.where(found.abs() > 1e-9, found, 0) / found.norm(dim=-1, keepdim=True).clamp(
        min=1e-6
    )


def project_components(logits: Logits) -> Float[Tensor, "frequency 2 label"]:
    """The logits' projections on the waves."""
    return build_waves(math.isqrt(len(logits))) @ logits


def wave_power(logits: Logits) -> Float[Tensor, " frequency"]:
    """Share of the logits' variance over pairs in each frequency's two directions, 0 to 1, 0 where they do not vary.

    What all labels of a pair have in common says nothing and is taken off first. Hand-built trigonometric logits: 1 in all
    over their frequencies; a random table: 2 / (p^2 - 1) each.
    """
    logits = logits - logits.mean(1, keepdim=True)
    variance = (logits - logits.mean(0)).square().sum()
    return project_components(logits).square().sum((1, 2)) / variance.clamp(min=1e-12)


def find_key_frequencies(logits: Logits) -> Keys:
    """Those with at least KEY of the variance; the paper reads them off by eye, at the end of training."""
    return wave_power(logits) >= KEY


def keep_waves(logits: Logits, keys: Keys) -> Logits:
    """What the key frequencies' waves contribute to the logits."""
    directions = build_waves(math.isqrt(len(logits)))[keys].flatten(0, 1)
    return directions.T @ (directions @ logits)


def restrict_logits(logits: Logits, keys: Keys) -> Logits:
    """Only the key frequencies are kept, and each label's mean over all pairs. Trigonometric logits stay as they are."""
    return keep_waves(logits, keys) + logits.mean(0)


def score_restricted_alone(
    logits: Logits, keys: Keys, rows: Bool[Tensor, " pair"]
) -> Float[Tensor, "row label"]:
    """The same from some pairs alone: the least-squares fit of their own logits by the key frequencies' waves and a constant.

    `restrict_logits` projects all pairs at once. Where most are trained on, a table learned by heart then passes its right answers
    on to pairs it knows nothing of, and their restricted loss falls without any generalisation (this lab's finding and remedy).
    Where pairs are fewer than waves the fit is the logits themselves.
    """
    directions = build_waves(math.isqrt(len(logits)))[keys].flatten(0, 1).T[rows]
    directions = torch.cat([directions.new_ones(len(directions), 1), directions], 1)
    return directions @ torch.linalg.lstsq(directions, logits[rows], driver="gelsd").solution


def exclude_waves(logits: Logits, keys: Keys) -> Logits:
    """The key frequencies are taken out, all else is kept. Trigonometric logits become 0, whose loss is chance, ln p."""
    return logits - keep_waves(logits, keys)


def gini(sizes: Float[Tensor, " frequency"]) -> Float[Tensor, ""]:
    """Gini coefficient: 0 where all are equal, 1 - 1/n where one has everything; 0 where all are 0."""
    n, ordered = len(sizes), sizes.sort().values
    ranks = 2 * torch.arange(1, n + 1, dtype=sizes.dtype) - n - 1
    return (ranks * ordered).sum() / (n * ordered.sum()).clamp(min=1e-12)


def spectrum(function: Float[Tensor, "operand feature"]) -> Float[Tensor, " frequency"]:
    """Size of each frequency k = 1 to p // 2 of a function of one operand, over all its features."""
    return torch.fft.rfft(function, dim=0, norm="ortho")[1:].abs().square().sum(1).sqrt()


def average_embedding(embed: Float[Tensor, "pair token model"]) -> Float[Tensor, "operand feature"]:
    """How the pictures' embedding depends on the first operand: its mean over the second. With glyphs, the glyph's own."""
    p = math.isqrt(len(embed))
    return embed.double().unflatten(0, (p, p)).mean(1).flatten(1)


def score_losses(logits: Logits, operand_table: OperandTable, keys: Keys) -> dict[str, Tensor]:
    """Cross-entropy (nats) of the restricted and of the excluded logits, on the pairs trained on and on all others.

    `score_restricted_alone` is on the pairs not trained on, the waves fitted on these alone.
    """
    out = {
        "restricted_alone": loss(
            score_restricted_alone(logits, keys, ~operand_table.trained),
            operand_table.target[~operand_table.trained],
        )
    }
    for name, changed in (
        ("restricted", restrict_logits(logits, keys)),
        ("excluded", exclude_waves(logits, keys)),
    ):
        for side, rows in (("train", operand_table.trained), ("test", ~operand_table.trained)):
            out[f"{name}_loss[pairs={side}]"] = loss(changed[rows], operand_table.target[rows])
    return out


def measure_fourier(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `measure_fourier`, on all pairs whatever the batch, with the checkpoint's own key frequencies.

    restricted_loss, excluded_loss    nats, chance is ln p; tagged by the pairs they are taken on
    restricted_alone                  the same on the pairs not trained on, without what trained pairs lend them
    power         share of the logits' variance, by frequency (row 0 is k = 1)
    is_key        1 where the frequency is key
    key_share     the key frequencies' power, 0 to 1
    gini          of the frequencies' sizes in the logits (square root of power) and in the first operand's embedding
    """
    assert batch.operand_table is not None
    seen = traced(model, batch.operand_table.images, ["logits", "embed"])
    logits = seen["logits"].double()
    shares, keys = wave_power(logits), find_key_frequencies(logits)
    return score_losses(logits, batch.operand_table, keys) | {
        "power": shares,
        "is_key": keys.double(),
        "key_share": shares[keys].sum(),
        "gini[of=logits]": gini(shares.sqrt()),
        "gini[of=embedding]": gini(spectrum(average_embedding(seen["embed"]))),
    }
