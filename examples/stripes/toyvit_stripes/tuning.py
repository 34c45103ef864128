"""A measure: how sharply the answer's logit is tuned to the orientation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from toyvit.analyses.analysis import CLASSES, Analysis, Axis, Measures, Quantity
from toyvit.data.task import Batch
from toyvit.model import ViT
from toyvit.model.options import count_outputs


def measure_tuning(model: ViT, batch: Batch, trace: Mapping[str, Tensor]) -> Measures:
    """Mean logit of each class by its distance on the circle from the right one, in logits.

    `distance` counts orientations, 0 for the right answer to n // 2 for the most different one.
    NaN for a distance that no picture has. A model that answers at random: the same at all.
    """
    logits = trace["logits"]
    n_classes = logits.shape[1]
    apart = (torch.arange(n_classes) - batch.target[:, None]).abs()
    distance = torch.minimum(apart, n_classes - apart)
    means = [logits[distance == far].mean() for far in range(n_classes // 2 + 1)]
    return {"tuning": torch.stack(means)}


ORIENTATION_TUNING = Analysis(
    name="orientation_tuning",
    computes="the mean logit of each orientation by its distance from the right one",
    measure=measure_tuning,
    quantities={"tuning": Quantity("distance", unit="logits", may_be_nan=True)},
    own_axes=(
        Axis(
            "distance",
            "orientations between an answer and the right one, on the circle",
            lambda config, batch: (count_outputs(config) // 2 + 1,),
        ),
    ),
    sites=("logits",),
    needs=(CLASSES,),
    cost=1,
    source="tuning curves of orientation, after Hubel & Wiesel 1962",
    truth="logits that fall with the distance are given back as they are",
    null="logits that do not know the answer: the same at every distance",
)
