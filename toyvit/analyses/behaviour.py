"""What the model gets right, beside predictors that know less, and what it gets right without some of its heads."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from toyvit.circuits import knock_out
from toyvit.data.tasks import Batch, accuracy, loss
from toyvit.model import ViT


def performance(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `performance`: cross-entropy (nats) and accuracy (0 to 1)."""
    logits = trace["logits"]
    return {"loss": loss(logits, batch.target), "accuracy": accuracy(logits, batch.target)}


def by_factor(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `by_factor`: loss (nats) and accuracy (0 to 1) of the pictures with each value of each factor.

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


def divergence(logits: Tensor, said: Tensor) -> Tensor:
    """KL(said, model) in nats, mean over the answers that a strategy gives (not NaN): 0 where the model says the same."""
    asked = ~said.isnan().any(-1)
    p = said[asked]
    return (torch.xlogy(p, p) - p * logits[asked].log_softmax(-1)).sum(-1).mean()


def strategies(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `strategies`: how far the model is from predictors that know the world (Edelman 2024, section 2)."""
    assert batch.strategies is not None
    return {f"kl[strategy={name}]": divergence(trace["logits"], said) for name, said in batch.strategies.items()}


def knock_outs(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `knock_outs`: loss and accuracy with heads silenced, by zero or by their mean over images.

    One head at a time, and cumulatively over the last layer, the head that matters most (by loss) first: several
    induction heads back each other up. A head with W_O = 0 changes nothing.
    """
    n_layers, n_heads = model.config.n_layers, model.config.n_heads
    out: dict[str, Tensor] = {}
    for ablation in ("zero", "mean"):
        single = [[knock_out(model, [(layer, head)], trace, ablation) for head in range(n_heads)] for layer in range(n_layers)]
        losses = torch.tensor([[loss(logits, batch.target) for logits in row] for row in single])
        out[f"loss[ablation={ablation}]"] = losses
        out[f"accuracy[ablation={ablation}]"] = torch.tensor(
            [[accuracy(logits, batch.target) for logits in row] for row in single]
        )
        order = losses[-1].argsort(descending=True).tolist()
        removed = [
            knock_out(model, [(n_layers - 1, head) for head in order[:n]], trace, ablation) for n in range(1, n_heads + 1)
        ]
        answers = [trace["logits"], *removed]
        out[f"cumulative_loss[ablation={ablation}]"] = torch.stack([loss(logits, batch.target) for logits in answers])
        out[f"cumulative_accuracy[ablation={ablation}]"] = torch.stack([accuracy(logits, batch.target) for logits in answers])
    return out
