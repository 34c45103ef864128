"""What pixels alone give away: answers of linear probes and of the nearest neighbour, fitted on training pictures.

A task that claims to need relation or context must leave them near chance (`tests/laws/test_leaks.py`). Fitted by
scikit-learn on `N_FIT` pictures of the split `train`, scored on `N_SCORED` of `test`, both of seed 0.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from toyvit.config import TaskConfig
from toyvit.data.task import Task, accuracy, build_task

N_FIT, N_SCORED = 2000, 1000
Pictures = tuple[
    NDArray[np.float32], NDArray[Any]
]  # pixels (picture pixel) and classes, or numbers (picture number)
PENALTY = 100.0  # of the ridge, on pixels of about -1 to 1


@lru_cache
def fit_baselines(config: TaskConfig) -> dict[str, float]:
    """`accuracy.pixel_probe` and `accuracy.nearest_neighbour` of a task that asks each picture for a class or for numbers.

    Of numbers it is R^2 (`task.accuracy`), the probe a ridge. A task that asks each patch has neither.
    """
    made = build_task(config)
    if made.output_kind != "image":
        return {}
    fit, scored = _pictures(made, "train", N_FIT), _pictures(made, "test", N_SCORED)
    if fit[1].dtype.kind == "f":
        probe, nearest = Ridge(alpha=PENALTY), KNeighborsRegressor(1)
        return {
            "accuracy.pixel_probe": _numbers(probe, fit, scored),
            "accuracy.nearest_neighbour": _numbers(nearest, fit, scored),
        }
    found = float(KNeighborsClassifier(1).fit(*fit).score(*scored))
    return {
        "accuracy.pixel_probe": score_linear_probe(fit, scored),
        "accuracy.nearest_neighbour": found,
    }


def _numbers(known: Ridge | KNeighborsRegressor, fit: Pictures, scored: Pictures) -> float:
    said = known.fit(*fit).predict(scored[0]).reshape(scored[1].shape)
    return accuracy(torch.from_numpy(said), torch.from_numpy(scored[1])).item()


def score_linear_probe(fit: Pictures, scored: Pictures) -> float:
    """Accuracy on the second of (features, classes) of a linear probe, a ridge classifier, fitted on the first."""
    return float(RidgeClassifier(alpha=PENALTY).fit(*fit).score(*scored))


@lru_cache
def score_patch_probes(config: TaskConfig, patch_size: int) -> NDArray[np.float64]:
    """Accuracy of a linear probe on each patch by itself (row, column)."""
    made = build_task(config)
    fit, scored = _pictures(made, "train", N_FIT), _pictures(made, "test", N_SCORED)
    height, width = made.world.image_size
    places = np.arange(made.world.n_channels * height * width).reshape(-1, height, width)

    def score(row: int, column: int) -> float:
        patch = places[:, row : row + patch_size, column : column + patch_size].ravel()
        return score_linear_probe((fit[0][:, patch], fit[1]), (scored[0][:, patch], scored[1]))

    return np.array(
        [
            [score(row, column) for column in range(0, width, patch_size)]
            for row in range(0, height, patch_size)
        ]
    )


def _pictures(made: Task, split: str, n: int) -> Pictures:
    batch = made.eval_batch(split, n, 0)
    return batch.images.flatten(1).numpy(), batch.target.numpy()
