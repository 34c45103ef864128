"""Pairs of pictures with different answers, and how much of the one answer a model gives: the ground of every patching."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from toyvit.data.task import Batch
from toyvit.errors import BadInput, choose

Logits = Float[Tensor, "image label"]


@dataclass(frozen=True)
class PatchingPairs:
    """Clean and corrupt pictures, image by image, and their answers: `answer` to the clean one, `foil` to the corrupt one."""

    clean: Float[Tensor, "image channel height width"]
    corrupt: Float[Tensor, "image channel height width"]
    answer: Int[Tensor, " image"]
    foil: Int[Tensor, " image"]

    def swap(self) -> PatchingPairs:
        """Corrupt pictures as the clean ones and the other way round."""
        return PatchingPairs(self.corrupt, self.clean, self.foil, self.answer)


def counterfactual_pairs(
    batch: Batch, change: str | None = None, n: int | None = None
) -> PatchingPairs:
    """The counterfactual pairs of a batch whose answers differ, the first n of them; BadInput where there are none.

    `change` names what differs, one of `batch.counterfactuals`; by default the first.
    """
    if n is not None and n < 1:
        raise BadInput(f"the number of pairs must be at least 1, got {n}")
    if not batch.counterfactuals:
        raise BadInput(
            "these pictures have no counterfactual pairs: their world cannot draw one again with another answer"
        )
    other = batch.counterfactuals[
        choose(change or next(iter(batch.counterfactuals)), batch.counterfactuals, "change")
    ]
    rows = (batch.target != other.target).nonzero().flatten()[:n]
    if not len(rows):
        raise BadInput(
            f"none of {len(batch.target)} counterfactual pairs has two answers: give more images"
        )
    return PatchingPairs(
        batch.images[rows], other.images[rows], batch.target[rows], other.target[rows]
    )


def class_pairs(batch: Batch, answer: int, foil: int) -> PatchingPairs:
    """Pictures of one class, each with a picture of another: everything about them may differ, not one factor alone."""
    if batch.classes is None:
        raise BadInput("these pictures do not have one class each")
    rows = [(batch.classes == one).nonzero().flatten() for one in (answer, foil)]
    n = min(map(len, rows))
    if answer == foil:
        raise BadInput(f"a pair is of two classes, got {answer} and {foil}")
    if not n:
        raise BadInput(
            f"no pairs of classes {answer} and {foil}: the batch has {sorted(set(batch.classes.tolist()))}"
        )
    clean, corrupt = rows[0][:n], rows[1][:n]
    return PatchingPairs(
        batch.images[clean], batch.images[corrupt], batch.classes[clean], batch.classes[corrupt]
    )


def _logit_difference(
    logits: Logits, pairs: PatchingPairs, reference: Logits
) -> Float[Tensor, " image"]:
    return (logits.gather(1, pairs.answer[:, None]) - logits.gather(1, pairs.foil[:, None]))[:, 0]


def _probability(
    logits: Logits, pairs: PatchingPairs, reference: Logits
) -> Float[Tensor, " image"]:
    return logits.softmax(1).gather(1, pairs.answer[:, None])[:, 0]


def _kl(logits: Logits, pairs: PatchingPairs, reference: Logits) -> Float[Tensor, " image"]:
    return F.kl_div(
        logits.log_softmax(1), reference.log_softmax(1), log_target=True, reduction="none"
    ).sum(1)


# Of logits, given the pairs and the model's own logits on the clean pictures: logit of the answer less that of the foil;
# probability of the answer; KL(clean, this) in nats.
METRICS: dict[str, Callable[[Logits, PatchingPairs, Logits], Float[Tensor, " image"]]] = {
    "logit_difference": _logit_difference,
    "probability": _probability,
    "kl": _kl,
}
