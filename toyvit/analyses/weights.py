"""What the weights say of each head, and what its scores, before the softmax, are made of."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from toyvit.analyses.attention import list_families
from toyvit.analyses.induction import score_copying
from toyvit.data.task import Batch
from toyvit.instruments.weight_circuits import (
    centre_scores,
    find_singular_directions,
    fold_head_weights,
    fold_unembedding,
    product_eigenvalues,
    split_scores,
)
from toyvit.model import ViT

FEW = 128  # images that are enough for shares of a variance over images, queries and keys


@lru_cache
def simulate_copying(d_model: int, d_head: int, n: int = 400) -> tuple[float, float]:
    """Mean and standard deviation of the copying score of n random Gaussian heads: about 0, and 0.10 at d = 64, h = 16."""
    generator = torch.Generator().manual_seed(0)
    w_v, w_o = (
        torch.randn(n, d_model, d_head, generator=generator),
        torch.randn(n, d_head, d_model, generator=generator),
    )
    scores = score_copying(w_v, w_o)
    return scores.mean().item(), scores.std().item()


def count_directions(size: Float[Tensor, "*heads feature"]) -> Float[Tensor, "*heads"]:
    """(sum s^2)^2 / sum s^4 of singular values: 1 where one direction does it all, h where h do equally much."""
    squares = size.double().square()
    return (squares.sum(-1).square() / squares.square().sum(-1).clamp(min=1e-300)).float()


def find_vocabulary(batch: Batch) -> tuple[Int[Tensor, " label"], Int[Tensor, " label"]] | None:
    """Content ids that name a class, and the class: what the matching cell shows and what the answer then is.

    None where the batch has no such cells, or where one content goes with several answers.
    """
    if batch.retrieval is None or batch.content is None or batch.classes is None:
        return None
    shown = batch.content.gather(1, batch.retrieval.target[:, None])[:, 0]
    both = torch.stack([shown, batch.classes], 1).unique(dim=0)
    one_to_one = len(both[:, 0].unique()) == len(both) == len(both[:, 1].unique())
    return (both[:, 0], both[:, 1]) if one_to_one and len(both) > 1 else None


def average_pictures(
    patches: Float[Tensor, "image patch pixel"], content: Int[Tensor, "image patch"], ids: Tensor
) -> Tensor:
    """Mean picture (id pixel) of the patches that show each content id."""
    return torch.stack([patches[content == one].mean(0) for one in ids])


def score_copied(
    pictures: Float[Tensor, "label pixel"],
    classes: Int[Tensor, " label"],
    model: ViT,
    w_ov: Float[Tensor, "head model to_model"],
) -> Float[Tensor, " head"]:
    """Share of label pictures whose own logit is the largest of the labels' after W_E W_OV W_U, 0 to 1; chance 1 / labels."""
    logits = (pictures @ model.patch.weight.detach().T) @ w_ov @ fold_unembedding(model)[:, classes]
    return (logits.argmax(-1) == torch.arange(len(classes))).float().mean(-1)


def measure_weights(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `weights`: size and number of directions of QK and OV, copying as z-scores, virtual heads."""
    config = model.config
    heads = [fold_head_weights(model, layer) for layer in range(config.n_layers)]
    mean, sd = simulate_copying(config.d_model, config.d_head)
    unfolded = [block.attn.head_weights() for block in model.blocks]  # type: ignore[union-attr, operator]
    out = {
        "copying_z": (torch.stack([score_copying(w_v, w_o) for _, _, w_v, w_o in unfolded]) - mean)
        / sd
    }
    for name, pairs in (
        ("qk", [(q, k.mT) for q, k, _, _ in heads]),
        ("ov", [(v, o) for _, _, v, o in heads]),
    ):
        sizes = torch.stack([find_singular_directions(*pair).size for pair in pairs])
        out[f"{name}_norm"], out[f"{name}_directions"] = sizes.norm(dim=-1), count_directions(sizes)
    if config.n_layers > 1:
        scores = torch.full(
            (config.n_layers, config.n_heads, config.n_layers, config.n_heads), torch.nan
        )
        for late in range(config.n_layers):
            for early in range(late):
                scores[early, :, late] = score_virtual_copying(heads[early], heads[late])
        out["virtual_copying"] = scores
    return {name: value.detach() for name, value in out.items()}


def score_virtual_copying(
    early: tuple[Tensor, Tensor, Tensor, Tensor], late: tuple[Tensor, Tensor, Tensor, Tensor]
) -> Float[Tensor, "head to_head"]:
    """The copying score of W_OV^a W_OV^b for every pair of heads, -1 to 1: do two heads together pass a token on as it is?"""
    through = early[2][:, None] @ (early[3][:, None] @ late[2])  # head to_head model feature
    values = product_eigenvalues(through, late[3].expand(len(through), -1, -1, -1))
    return (values.real.sum(-1) / values.abs().sum(-1).clamp(min=1e-300)).float()


def measure_label_copying(
    model: ViT, batch: Batch, trace: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The analysis `measure_label_copying` (Olsson 2022): do labels that are attended to raise their own logits? Beside its chance."""
    known = find_vocabulary(batch)
    assert known is not None and batch.content is not None
    pictures = average_pictures(trace["patches"], batch.content, known[0])
    layers = [fold_head_weights(model, layer) for layer in range(model.config.n_layers)]
    shares = [score_copied(pictures, known[1], model, w_v @ w_o) for _, _, w_v, w_o in layers]
    return {"copied": torch.stack(shares), "copied_chance": torch.tensor(1 / len(known[1]))}


def measure_score_parts(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `split_scores`: shares of the variance of the first layer's scores by what query and key are read for.

    Cov(part, score) / Var(score) over the first 128 images, queries and allowed keys, rows centred; the four sum to 1, and
    one may be negative. A purely positional head: `position_position` is 1. NaN for a head whose scores do not vary.
    """
    allowed = model.mask == 0 if model.mask.numel() > 1 else None
    parts = {
        name: centre_scores(part, allowed).double()
        for name, part in split_scores(model, batch.images[:FEW]).items()
    }
    total = torch.stack(list(parts.values())).sum(0)
    varies = total.square().sum((0, 2, 3))
    return {
        f"{asks}_{answers}": ((part * total).sum((0, 2, 3)) / varies).float()
        for (asks, answers), part in parts.items()
    }


def average_advantages(
    scores: Float[Tensor, "image head query key"],
    pairs: dict[str, Bool[Tensor, "patch to_patch"]],
    n_prefix: int,
) -> dict[str, Float[Tensor, " head"]]:
    """Mean centred score of the (query, key) patches of each family that the mask allows, in nats; NaN where it allows none."""
    among, there = (
        centre_scores(scores)[:, :, n_prefix:, n_prefix:],
        scores[0, 0, n_prefix:, n_prefix:].isfinite(),
    )
    return {name: among[:, :, pair & there].mean((0, 2)) for name, pair in pairs.items()}


def measure_scores(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `measure_scores`: the families of `attention` again on scores before the softmax, each row centred over its keys.

    `advantage` is the mean score of a family's pairs (NaN where the grid or the mask has none), in nats. `spread` is the
    standard deviation of a row's scores over the keys that the mask allows, mean over images and queries. Uniform: 0.
    """
    config = model.config
    one = torch.eye(config.n_patches, dtype=torch.bool)
    pairs = {**list_families(config.grid), "itself": one, "previous": one.roll(-1, 1).tril(-1)}
    out: dict[str, list[Tensor]] = {}
    for layer in range(config.n_layers):
        values = trace[f"blocks.{layer}.attn.attn_scores"]
        n_allowed = values.isfinite().sum(-1)
        spread = (centre_scores(values).square().sum(-1) / n_allowed).sqrt().mean((0, 2))
        above = average_advantages(values, pairs, config.n_prefix)
        for name, value in {
            "spread": spread,
            **{f"advantage[family={family}]": above[family] for family in above},
        }.items():
            out.setdefault(name, []).append(value)
    return {name: torch.stack(values) for name, values in out.items()}
