"""What each layer would already answer: the logit lens at the read-out and at every patch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from toyvit.analyses.analysis import (
    ANSWERS,
    CHOICES,
    CLASSES,
    Analysis,
    Measures,
    Need,
    Quantity,
)
from toyvit.data.task import Batch, accuracy
from toyvit.instruments.lenses import (
    RESIDUALS,
    apply_logit_lens,
    find_decision_layer,
    intersection_over_union,
    kl_to_final,
    list_residuals,
    stack_residuals,
)
from toyvit.model import ViT
from toyvit.model.options import READ_TOKENS
from toyvit.model.shapes import Residual
from toyvit.surroundings import pin_torch


def read_lens(model: ViT, stream: Residual) -> Float[Tensor, "image *patch label"]:
    """The lens on one layer's stream where the model reads out its answer."""
    config = model.config
    token = READ_TOKENS.get(config.readout)
    if token is not None:
        return model.unembed_tokens(stream[:, token]).detach()
    return model.unembed(stream).detach()


def compare_patches(model: ViT, streams: Sequence[Residual]) -> Float[Tensor, " layer"]:
    """KL(final, lens) of every patch's own final answer, nats, mean over patches of all images."""
    n = model.config.n_prefix
    with torch.no_grad():
        final = model.unembed_tokens(streams[-1][:, n:]).log_softmax(-1)
        p = final.exp()
        distances = []
        for stream in streams[:-1]:
            answers = model.unembed_tokens(stream[:, n:]).log_softmax(-1)
            distances.append((p * (final - answers)).sum(-1).mean())
    return torch.stack([*distances, torch.zeros(())])


def count_decisions(
    answers: Int[Tensor, "layer image"], classes: Int[Tensor, " image"], n_labels: int
) -> Float[Tensor, "label layer"]:
    """Share of each class's pictures decided at each layer, sum 1; NaN for a class of no picture.

    >>> answers = torch.tensor([[0, 1], [1, 1]])  # of two layers, to two pictures of class 1
    >>> count_decisions(answers, torch.tensor([1, 1]), 2)
    tensor([[   nan,    nan],
            [0.5000, 0.5000]])
    """
    counts = torch.zeros(n_labels, len(answers))
    decided = find_decision_layer(answers)
    counts.index_put_((classes, decided), torch.ones(len(classes)), accumulate=True)
    return counts / counts.sum(1, keepdim=True)


@pin_torch()
def measure_lens(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `lens`: the logit lens of every layer.

    Layer l is the stream entering block l, layer L what leaves the last one. Means over pictures,
    where the model reads out its answer:

    accuracy_of_layer     0 to 1
    accuracy_of_position  of the lens on the mean stream of all pictures, which knows positions
                          only: the null
    kl                    KL(final, lens), nats, 0 at the last layer
    kl_of_patches         the same of every patch's own final answer
    decided               (label layer) the share of each class's pictures whose answer is final
                          from that layer on, sums to 1 over layers
    """
    streams = list_residuals(model, trace)
    answers = torch.stack([read_lens(model, stream) for stream in streams])
    target = batch.target
    of_position = [
        read_lens(model, stream.mean(0, keepdim=True)).expand_as(answers[0]) for stream in streams
    ]

    measures: Measures = {
        "kl": kl_to_final(answers).flatten(1).mean(1),
        "kl_of_patches": compare_patches(model, streams),
    }
    if batch.is_answered:
        of_layer = [accuracy(layer, target) for layer in answers]
        measures["accuracy_of_layer"] = torch.stack(of_layer)
        measures["accuracy_of_position"] = torch.stack(
            [accuracy(layer, target) for layer in of_position]
        )
    if batch.classes is not None:
        n_labels = answers.shape[-1]
        measures["decided"] = count_decisions(answers.argmax(-1), batch.classes, n_labels)
    return measures


LENS = Analysis(
    name="lens",
    computes="what each layer would already answer (logit lens)",
    measure=measure_lens,
    quantities={
        "accuracy_of_layer": Quantity("layer", least=0, most=1, only_with=ANSWERS),
        "accuracy_of_position": Quantity("layer", least=0, most=1, only_with=ANSWERS),
        "kl": Quantity("layer", unit="nats", least=0),
        "kl_of_patches": Quantity("layer", unit="nats", least=0),
        "decided": Quantity("label layer", least=0, most=1, may_be_nan=True, only_with=CLASSES),
    },
    sites=RESIDUALS,
    needs=(CHOICES,),
    cost=10,
    source="nostalgebraist 2020",
    truth="the last layer is the model's answer",
    null="what the lens finds in the mean of all pictures, which knows positions only; and step "
    "0, before training",
)


@pin_torch()
def measure_segmentation(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `segmentation`: IoU of what the lens calls each patch with what it shows.

    `iou` by layer, 0 to 1, a mean over labels. `iou_of_position` is the IoU of who answers each
    place with its commonest label of this very batch.
    """
    n_labels = model.config.stated("n_classes")
    logits = apply_logit_lens(model, stack_residuals(model, trace))
    answers = logits[:, :, model.config.n_prefix :].argmax(-1)
    commonest = F.one_hot(batch.target, n_labels).sum(0).argmax(-1).expand_as(batch.target)
    scores = [intersection_over_union(layer, batch.target, n_labels) for layer in answers]
    return {
        "iou": torch.stack(scores),
        "iou_of_position": intersection_over_union(commonest, batch.target, n_labels),
    }


SEGMENTATION = Analysis(
    name="segmentation",
    computes="what the logit lens calls each patch, against what it shows",
    measure=measure_segmentation,
    quantities={
        "iou": Quantity("layer", least=0, most=1),
        "iou_of_position": Quantity(least=0, most=1),
    },
    sites=RESIDUALS,
    needs=(
        Need(
            "the class of every patch",
            lambda config, batch: batch.objects is not None and batch.target.ndim == 2,
        ),
    ),
    cost=11,
    source="the logit lens at every patch against the masks of a canvas",
    truth="a lens that says what each patch shows: 1",
    null="what it gets who calls each place by its commonest label, measured beside it",
)
