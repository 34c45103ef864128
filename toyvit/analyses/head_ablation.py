"""What the model gets right without a head, and without several.

A head is silenced by taking off what it writes, so that zero and mean share one product; then only
what the answer reads is computed.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from toyvit.analyses.analysis import ANSWERS, Analysis, Axis, Measures, Quantity, Tagged
from toyvit.analyses.behaviour import NATS
from toyvit.data.task import Batch, accuracy, loss
from toyvit.model import ViT
from toyvit.model.forward import HEAD_ABLATIONS
from toyvit.model.options import READ_TOKENS
from toyvit.model.shapes import Logits
from toyvit.model.taps import untouched
from toyvit.surroundings import pin_torch

Written = Float[Tensor, "image *token model"]


class HeadAblator:
    """Logits without some heads of a layer, from a trace with `sites`.

    In the last layer what heads write is followed at the token that the head of the model reads.
    """

    sites = ("blocks.*.resid_pre", "blocks.*.attn.z", "blocks.*.attn_out")

    def __init__(self, model: ViT, trace: Mapping[str, Tensor], layer: int) -> None:
        self.model = model
        self.layer = layer
        self.block = model.layers[layer]
        token = READ_TOKENS.get(model.config.readout)
        self.reads_one = layer == model.config.n_layers - 1 and token is not None
        before, z, attended = (trace[site.replace("*", str(layer))] for site in self.sites)
        if self.reads_one:
            before, z, attended = (value[:, token] for value in (before, z, attended))
        self.z = z
        self.attended = attended
        self.stream = before + attended

    @torch.no_grad()
    def list_written(self) -> list[Written]:
        """What each head writes to the stream."""
        if self.model.config.n_heads == 1:
            bias = self.block.attn.out.bias
            return [self.attended if bias is None else self.attended - bias]
        weights = self.block.attn.head_weights().o
        return [z @ weight for z, weight in zip(self.z.unbind(-2), weights, strict=True)]

    @torch.no_grad()
    def run_without(self, written: Written, ablation: str) -> Logits:
        """Logits where this is not written, or only its mean over images, token by token."""
        stream = self.stream - written
        if ablation == "mean":
            stream = stream + written.mean(0)
        stream = self.block.continue_after_attention(stream, untouched)
        if self.reads_one:
            return self.model.unembed_tokens(stream)
        return self.model.answer_from(stream, self.layer + 1)


def score_answers(logits: Logits, batch: Batch) -> Float[Tensor, " score"]:
    """Loss and accuracy."""
    return torch.stack([loss(logits, batch.target), accuracy(logits, batch.target)])


@pin_torch()
def measure_head_ablation(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """The analysis `head_ablation`: loss (nats) and accuracy (0 to 1) with heads silenced.

    By zero, or by their mean over images. One head at a time (layer head), and cumulatively over
    the last layer (count), the head that matters most (by loss) first: several induction heads
    back each other up. A head with W_O = 0 changes nothing, to rounding.
    """
    of_ablation: dict[str, list[Tensor]] = {ablation: [] for ablation in HEAD_ABLATIONS}
    for layer in range(model.config.n_layers):
        ablator = HeadAblator(model, trace, layer)
        heads = ablator.list_written()
        for ablation, layers in of_ablation.items():
            scores = [score_answers(ablator.run_without(head, ablation), batch) for head in heads]
            layers.append(torch.stack(scores))

    measures: Measures = {}
    whole = score_answers(trace["logits"], batch)
    for ablation, layers in of_ablation.items():
        several = [whole]
        order = layers[-1][:, 0].argsort(descending=True).tolist()
        written = torch.zeros_like(heads[0])
        for n, head in enumerate(order):
            written = written + heads[head]
            logits = ablator.run_without(written, ablation) if n else None
            several.append(layers[-1][head] if logits is None else score_answers(logits, batch))

        single = torch.stack(layers)  # layer, head, score
        cumulative = torch.stack(several)  # count, score
        for place, name in enumerate(("loss", "accuracy")):
            measures[Tagged(name, ablation=ablation)] = single[..., place]
            measures[Tagged(f"cumulative_{name}", ablation=ablation)] = cumulative[:, place]
    return measures


HEAD_ABLATION = Analysis(
    name="head_ablation",
    computes="loss and accuracy without a head, and without several",
    measure=measure_head_ablation,
    quantities={
        "loss": Quantity("layer head", unit=NATS, least=0),
        "accuracy": Quantity("layer head", most=1),
        "cumulative_loss": Quantity("count", unit=NATS, least=0),
        "cumulative_accuracy": Quantity("count", most=1),
    },
    own_axes=(
        Axis(
            "count",
            "how many heads of the last layer are silenced",
            lambda config, batch: (config.n_heads + 1,),
            is_crowded=True,
        ),
    ),
    sites=("logits", *HeadAblator.sites),
    needs=(ANSWERS,),
    most_layers=4,
    cost=20,
    source="ablation by zero and by mean",
    truth="a head with W_O = 0: no change, to rounding",
    null="no more is lost than without another head of the same layer",
)
