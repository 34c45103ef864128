"""What the model gets right, beside predictors that know less, and what it gets right without some of its heads."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from toyvit.config import ModelConfig
from toyvit.data.task import Batch, accuracy, loss
from toyvit.model import ViT
from toyvit.model.forward import ablate_heads, run_model


def measure_performance(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `measure_performance`: cross-entropy (nats) and accuracy (0 to 1)."""
    logits = trace["logits"]
    return {"loss": loss(logits, batch.target), "accuracy": accuracy(logits, batch.target)}


def measure_by_factor(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `measure_by_factor`: loss (nats) and accuracy (0 to 1) of the pictures with each value of each factor.

    Which pictures are learned when (the quanta of Michaud 2023 are such groups). Factors of more than 16 values are left
    out; a value that no picture has is NaN. The mean over values, weighted by their pictures, is the score of all.
    """
    assert batch.classes is not None and batch.groups is not None
    logits, target = trace["logits"], batch.classes
    nats = F.cross_entropy(logits, target, reduction="none").double()
    right = (logits.argmax(-1) == target).double()
    out: dict[str, Tensor] = {}
    for factor, values in batch.groups.items():
        counts = torch.bincount(values)
        for quantity, scores in (("loss", nats), ("accuracy", right)):
            out[f"{quantity}_of_value[factor={factor}]"] = torch.bincount(values, scores) / counts
    return out


def measure_in_context(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `measure_in_context`: nats by which the context lowers the loss. Positive is good; without use of the context 0.

    score[by=context]    where pictures have item-label pairs: loss with all cells but the query taken from another picture,
                         minus the loss as it is (this lab's; it needs no order of cells)
    score[by=position]   where patches are answered under a causal mask: loss of the first quarter of the patches that are
                         asked, minus that of the last (Olsson 2022: 500th token minus 50th, so with the sign turned)
    """
    out: dict[str, Tensor] = {}
    if batch.retrieval is not None:
        others = run_model(
            model,
            swap_context(batch.images, batch.retrieval.query, model.config.stated("patch_size")),
        )
        out["score[by=context]"] = loss(others, batch.target) - loss(trace["logits"], batch.target)
    if asks_in_order(model.config, batch):
        nats = F.cross_entropy(
            trace["logits"].flatten(0, 1), batch.target.flatten(), ignore_index=-1, reduction="none"
        )
        asked = batch.target >= 0
        by_patch = (nats.view(asked.shape).double().sum(0) / asked.sum(0))[asked.any(0)]
        quarter = max(1, len(by_patch) // 4)
        out["score[by=position]"] = by_patch[:quarter].mean() - by_patch[-quarter:].mean()
    return out


def asks_in_order(config: ModelConfig, batch: Batch) -> bool:
    """Whether there is one class a patch, and patches see only what comes before them."""
    return (
        batch.target.ndim == 2 and not batch.target.is_floating_point() and config.mask == "causal"
    )


def swap_context(
    images: Float[Tensor, "image channel height width"], query: Int[Tensor, " image"], size: int
) -> Float[Tensor, "image channel height width"]:
    """Pictures whose query cell is their own and all other cells those of the picture before."""
    rows, columns = images.shape[2] // size, images.shape[3] // size
    own = F.one_hot(query, rows * columns).bool().view(-1, 1, rows, columns)
    return torch.where(
        own.repeat_interleave(size, 2).repeat_interleave(size, 3), images, images.roll(1, 0)
    )


def divergence(logits: Tensor, said: Tensor) -> Tensor:
    """KL(said, model) in nats, mean over the answers that a strategy gives (not NaN): 0 where the model says the same."""
    asked = ~said.isnan().any(-1)
    p = said[asked]
    return (torch.xlogy(p, p) - p * logits[asked].log_softmax(-1)).sum(-1).mean()


def measure_strategies(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `measure_strategies`: how far the model is from predictors that know the world (Edelman 2024, section 2)."""
    assert batch.strategies is not None
    return {
        f"kl[strategy={name}]": divergence(trace["logits"], said)
        for name, said in batch.strategies.items()
    }


def measure_head_ablation(
    model: ViT, batch: Batch, trace: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The analysis `measure_head_ablation`: loss and accuracy with heads silenced, by zero or by their mean over images.

    One head at a time, and cumulatively over the last layer, the head that matters most (by loss) first: several
    induction heads back each other up. A head with W_O = 0 changes nothing.
    """
    n_layers, n_heads = model.config.n_layers, model.config.n_heads
    out: dict[str, Tensor] = {}
    for ablation in ("zero", "mean"):
        single = [
            [ablate_heads(model, [(layer, head)], trace, ablation) for head in range(n_heads)]
            for layer in range(n_layers)
        ]
        losses = torch.tensor([[loss(logits, batch.target) for logits in row] for row in single])
        out[f"loss[ablation={ablation}]"] = losses
        out[f"accuracy[ablation={ablation}]"] = torch.tensor(
            [[accuracy(logits, batch.target) for logits in row] for row in single]
        )
        order = losses[-1].argsort(descending=True).tolist()
        removed = [
            ablate_heads(model, [(n_layers - 1, head) for head in order[:n]], trace, ablation)
            for n in range(1, n_heads + 1)
        ]
        answers = [trace["logits"], *removed]
        out[f"cumulative_loss[ablation={ablation}]"] = torch.stack(
            [loss(logits, batch.target) for logits in answers]
        )
        out[f"cumulative_accuracy[ablation={ablation}]"] = torch.stack(
            [accuracy(logits, batch.target) for logits in answers]
        )
    return out
