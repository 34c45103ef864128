"""Pairs of pictures with different answers, and metrics: how much of an answer a model gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from toyvit.data.task import Batch
from toyvit.errors import BadInput, choose
from toyvit.model.shapes import Images
from toyvit.stats import kl_divergence
from toyvit.surroundings import pin_torch

Logits = Float[Tensor, "image label"]
Metric = Float[Tensor, " image"]


@dataclass(frozen=True)
class PatchingPairs:
    """Clean and corrupt pictures, image by image, and their answers.

    `answer` is the class of the clean picture, `foil` that of the corrupt one.

    >>> import torch
    >>> images = torch.zeros(2, 6, 1, 8, 8)
    >>> pairs = PatchingPairs(images[0], images[1], torch.zeros(6).long(), torch.ones(6).long())
    >>> pairs.swap().answer
    tensor([1, 1, 1, 1, 1, 1])
    """

    clean: Images
    corrupt: Images
    answer: Int[Tensor, " image"]
    foil: Int[Tensor, " image"]

    def swap(self) -> PatchingPairs:
        """Corrupt pictures as the clean ones and the other way round."""
        return PatchingPairs(self.corrupt, self.clean, self.foil, self.answer)

    def split(self, n: int) -> tuple[PatchingPairs, PatchingPairs]:
        """The first n pairs to search a circuit on, and as many others to test it on.

        Half and half where there are fewer than 2 n; BadInput for less than two pairs.

        >>> import torch
        >>> images = torch.zeros(2, 6, 1, 8, 8)
        >>> pairs = PatchingPairs(images[0], images[1], torch.zeros(6).long(), torch.ones(6).long())
        >>> [len(part.clean) for n in (2, 9) for part in pairs.split(n)]
        [2, 2, 3, 3]
        """
        n = min(n, len(self.clean) // 2)
        if n < 1:
            raise BadInput(
                "a circuit is tested on other pairs than it is searched on: two or more are needed,"
                f" got {len(self.clean)}"
            )
        return self._select(slice(n)), self._select(slice(n, 2 * n))

    def _select(self, rows: slice) -> PatchingPairs:
        return PatchingPairs(
            self.clean[rows], self.corrupt[rows], self.answer[rows], self.foil[rows]
        )


@pin_torch()
def counterfactual_pairs(
    batch: Batch, change: str | None = None, n: int | None = None
) -> PatchingPairs:
    """The counterfactual pairs of a batch whose answers differ, the first n of them.

    `change` names what differs, one of `batch.counterfactuals`; by default the first. BadInput for
    a batch without such pairs.

    >>> from toyvit.data.task import build_task
    >>> from toyvit.recipes import RECIPES
    >>> batch = build_task(RECIPES["induction-smoke"]().task).eval_batch("test", 40, 0)
    >>> pairs = counterfactual_pairs(batch, "item", n=10)
    >>> len(pairs.clean), bool((pairs.answer == pairs.foil).any())
    (10, False)
    """
    if n is not None and n < 1:
        raise BadInput(f"the number of pairs must be at least 1, got {n}")
    if not batch.counterfactuals:
        raise BadInput(
            "these pictures have no counterfactual pairs: their world cannot draw one again with"
            " another answer"
        )

    changes = batch.counterfactuals
    other = changes[choose(change or next(iter(changes)), changes, "change")]
    rows = (batch.target != other.target).nonzero().flatten()[:n]
    if not len(rows):
        raise BadInput(
            f"none of {len(batch.target)} counterfactual pairs has two answers: give more images"
        )
    return PatchingPairs(
        batch.images[rows], other.images[rows], batch.target[rows], other.target[rows]
    )


@pin_torch()
def class_pairs(batch: Batch, answer: int, foil: int) -> PatchingPairs:
    """Pictures of one class, each with a picture of another: all about them may differ.

    As many as the rarer class has. BadInput for classes that are the same or that the batch lacks.

    >>> from toyvit.data.task import build_task
    >>> from toyvit.recipes import RECIPES
    >>> batch = build_task(RECIPES["digits"]().task).eval_batch("test", 100, 0)
    >>> class_pairs(batch, answer=4, foil=9).foil.unique()
    tensor([9])
    """
    if batch.classes is None:
        raise BadInput("these pictures do not have one class each")
    if answer == foil:
        raise BadInput(f"a pair is of two classes, got {answer} and {foil}")

    clean = (batch.classes == answer).nonzero().flatten()
    corrupt = (batch.classes == foil).nonzero().flatten()
    n = min(len(clean), len(corrupt))
    if not n:
        raise BadInput(
            f"no pairs of classes {answer} and {foil}:"
            f" the batch has {sorted(set(batch.classes.tolist()))}"
        )
    clean = clean[:n]
    corrupt = corrupt[:n]
    return PatchingPairs(
        batch.images[clean], batch.images[corrupt], batch.classes[clean], batch.classes[corrupt]
    )


def _compute_logit_difference(logits: Logits, pairs: PatchingPairs, reference: Logits) -> Metric:
    """Logit of the answer less that of the foil."""
    return (logits.gather(1, pairs.answer[:, None]) - logits.gather(1, pairs.foil[:, None]))[:, 0]


def _compute_probability(logits: Logits, pairs: PatchingPairs, reference: Logits) -> Metric:
    """Probability of the answer, 0 to 1."""
    return logits.softmax(1).gather(1, pairs.answer[:, None])[:, 0]


def _compute_kl(logits: Logits, pairs: PatchingPairs, reference: Logits) -> Metric:
    """KL(clean, this) in nats: 0 for the clean model's own answer."""
    return kl_divergence(logits.log_softmax(1), reference.log_softmax(1))


# Of logits, the pairs, and the model's own logits on the clean pictures.
METRICS: dict[str, Callable[[Logits, PatchingPairs, Logits], Metric]] = {
    "logit_difference": _compute_logit_difference,
    "probability": _compute_probability,
    "kl": _compute_kl,
}
