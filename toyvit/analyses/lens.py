"""What each layer would already answer: the logit lens at the read-out and at every patch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from toyvit.data.task import Batch, accuracy
from toyvit.instruments import lenses
from toyvit.instruments.lenses import (
    apply_logit_lens,
    find_decision_layer,
    intersection_over_union,
    kl_to_final,
    stack_residuals,
)
from toyvit.model import ViT
from toyvit.model.options import READOUTS


def measure_lens(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The analysis `measure_lens`. Layer l is the stream entering block l, layer L what leaves the last one.

    `accuracy_of_layer` (0 to 1) and `kl` (KL(final, lens), nats, 0 at the last layer) where the model reads out its answer,
    means over pictures; `accuracy_of_position` of the lens on the mean stream of all pictures, which knows positions only, the
    null; `kl_of_patches` of every patch's own final answer; `find_decision_layer` the share of each class's pictures whose answer is final
    from that layer on, sums to 1 over layers.
    """
    n, stream = model.config.n_prefix, stack_residuals(model, trace)
    logits = apply_logit_lens(model, stream)
    distances = kl_to_final(logits)
    read, of_mean = (
        torch.stack([READOUTS[model.config.readout](layer, n) for layer in one])
        for one in (logits, apply_logit_lens(model, stream.mean(1, keepdim=True)))
    )
    final = read[-1:].log_softmax(-1).expand_as(read)
    found = {
        "accuracy_of_position": torch.stack(
            [accuracy(layer.expand_as(read[0]), batch.target) for layer in of_mean]
        ),
        "accuracy_of_layer": torch.stack([accuracy(layer, batch.target) for layer in read]),
        "kl": F.kl_div(read.log_softmax(-1), final, log_target=True, reduction="none")
        .sum(-1)
        .flatten(1)
        .mean(1),
        "kl_of_patches": distances[:, :, n:].mean((1, 2)),
    }
    if batch.classes is not None:
        found["decided"] = count_decisions(read.argmax(-1), batch.classes, read.shape[-1])
    return found


def count_decisions(
    answers: Int[Tensor, "layer image"], classes: Int[Tensor, " image"], n_labels: int
) -> Float[Tensor, "label layer"]:
    """Share of each class's pictures decided at each layer; NaN for a class that no picture has."""
    counts = torch.zeros(n_labels, len(answers))
    counts.index_put_(
        (classes, find_decision_layer(answers)), torch.ones(len(classes)), accumulate=True
    )
    return counts / counts.sum(1, keepdim=True)


def measure_segmentation(
    model: ViT, batch: Batch, trace: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The analysis `measure_segmentation`: mean IoU (0 to 1) of what the lens calls each patch with what the patch shows, by layer.

    `iou_of_position` is the IoU of who answers each place with its commonest label of this very batch.
    """
    n_labels = model.config.stated("n_classes")
    logits = apply_logit_lens(model, stack_residuals(model, trace))[:, :, model.config.n_prefix :]
    commonest = F.one_hot(batch.target, n_labels).sum(0).argmax(-1).expand_as(batch.target)
    said = logits.argmax(-1)
    return {
        "iou": torch.stack(
            [intersection_over_union(layer, batch.target, n_labels) for layer in said]
        ),
        "iou_of_position": intersection_over_union(commonest, batch.target, n_labels),
    }


SITES = lenses.RESIDUALS
