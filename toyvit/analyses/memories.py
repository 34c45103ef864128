"""Neurons as memories: does what fires a neuron agree with the class that it promotes?"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from toyvit.analyses.analysis import (
    CLASSES,
    MLP,
    Analysis,
    Axis,
    Measures,
    Quantity,
    stack_layers,
)
from toyvit.data.task import Batch
from toyvit.instruments.key_value import average_by_class, read_values, select_readout
from toyvit.model import ViT
from toyvit.surroundings import pin_torch

TOP = 16  # pictures that fire a neuron most


def correlate_classes(
    fires: Float[Tensor, "label neuron"], promoted: Float[Tensor, "neuron label"]
) -> Float[Tensor, " neuron"]:
    """Correlation over classes of a neuron's mean activation and its value's logits, -1 to 1.

    NaN for a neuron that never changes; classes that no picture has (NaN) are left out.

    >>> fires = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    >>> correlate_classes(fires, torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]))
    tensor([1., nan])
    """
    there = ~fires.isnan().any(1)
    activation = fires[there].T.double()
    activation = activation - activation.mean(1, keepdim=True)
    logits = promoted[:, there].double()
    logits = logits - logits.mean(1, keepdim=True)

    size = activation.norm(dim=1) * logits.norm(dim=1)
    cosine = (activation * logits).sum(1) / size.clamp(min=1e-12)
    return torch.where(size > 1e-12, cosine, torch.nan).float()


def score_agreement(
    activations: Float[Tensor, "image neuron"],
    target: Int[Tensor, " image"],
    promoted: Int[Tensor, " neuron"],
) -> Float[Tensor, " neuron"]:
    """Share of the 16 pictures that fire a neuron most whose class it promotes most, 0 to 1.

    Of all, where there are fewer than 16. Chance is the share of that class among the pictures.

    >>> score_agreement(torch.rand(4, 1), torch.tensor([0, 1, 1, 1]), torch.tensor([1]))
    tensor([0.7500])
    """
    top = activations.topk(min(TOP, len(activations)), 0).indices
    return (target[top] == promoted).float().mean(0)


def describe_neurons(
    activations: Float[Tensor, "image neuron"],
    logits: Float[Tensor, "neuron label"],
    classes: Int[Tensor, " image"],
) -> Measures:
    """What one layer's neurons promote and what fires them; see `measure_memories`."""
    n_labels = logits.shape[1]
    promoted = logits.argmax(-1)
    share = torch.bincount(classes, minlength=n_labels) / len(classes)
    agreement = score_agreement(activations, classes, promoted)
    fires = average_by_class(activations, classes, n_labels)
    correlation = correlate_classes(fires, logits)

    return {
        "promoted": promoted,
        "agreement": agreement,
        "agreement_mean": agreement.mean(),
        "agreement_chance": share[promoted].mean(),
        "correlation": correlation,
        "correlation_mean": correlation.nanmean(),
    }


@pin_torch()
def measure_memories(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `memories`, for models with an MLP, at the tokens that the head reads.

    promoted     (layer neuron) the class whose logit a neuron's value raises most
    agreement    share of the pictures that fire it most that are of this class, 0 to 1; beside its
                 layer's mean stands `agreement_chance`, the share of all pictures that are
    correlation  of mean activation and promoted logit over classes, -1 to 1
    """
    assert batch.classes is not None
    layers = []
    for layer in range(model.config.n_layers):
        activations = select_readout(trace[f"blocks.{layer}.mlp.post"], model)
        layers.append(describe_neurons(activations, read_values(model, layer), batch.classes))
    return stack_layers(layers)


MEMORIES = Analysis(
    name="memories",
    computes="what fires each neuron, against the class it promotes",
    measure=measure_memories,
    quantities={
        "promoted": Quantity("layer neuron", least=0),
        "agreement": Quantity("layer neuron", least=0, most=1),
        "correlation": Quantity("layer neuron", least=-1, most=1, may_be_nan=True),
        "agreement_mean": Quantity("layer", least=0, most=1),
        "agreement_chance": Quantity("layer", least=0, most=1),
        "correlation_mean": Quantity("layer", least=-1, most=1, may_be_nan=True),
    },
    own_axes=(
        Axis(
            "neuron",
            "a neuron of a layer's MLP",
            lambda config, batch: (config.d_mlp,),
            is_crowded=True,
        ),
    ),
    sites=("blocks.*.mlp.post",),
    needs=(MLP, CLASSES),
    slow=True,  # quick, but a row of the table for every neuron
    cost=5,
    source="Geva 2021",
    truth="a planted key-value pair: its class, agreement and correlation 1",
    null="shuffled classes: agreement as in agreement_chance, correlation 0; and step 0, before "
    "training",
)
