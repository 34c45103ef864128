"""What pixels alone give away: linear probes and the nearest neighbour, on training pictures.

A task that claims to need relation or context must leave them near chance
(`tests/laws/test_leaks.py`). Fitted by scikit-learn, imported only then, on `N_FIT` pictures of the
split `train`, scored on `N_SCORED` of `test`, both of seed 0.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from toyvit.config import TaskConfig
from toyvit.data.task import Task, accuracy, build_task

if TYPE_CHECKING:
    from sklearn.linear_model import Ridge
    from sklearn.neighbors import KNeighborsRegressor

N_FIT = 2000
N_SCORED = 1000
# Pixels (picture pixel) and classes, or numbers (picture number).
Pictures = tuple[NDArray[np.float32], NDArray[Any]]
MOST_PIXELS = 12_288  # of a picture, 64 x 64 in colour: probes of more take minutes
PENALTY = 100.0  # of the ridge, on pixels of about -1 to 1


@lru_cache
def fit_baselines(config: TaskConfig) -> dict[str, float]:
    """`accuracy.pixel_probe` and `accuracy.nearest_neighbour` of a task.

    For a task that asks each picture for a class or for numbers; one that asks each patch has
    neither, nor has one whose answers are not known of all pictures, or whose pictures have over
    12,288 pixels. Of numbers it is R^2 (`task.accuracy`), the probe a ridge.
    """
    task = build_task(config)
    height, width = task.world.image_size
    if task.output_kind != "image" or height * width * task.world.n_channels > MOST_PIXELS:
        return {}
    if bool((task.eval_batch("test", N_SCORED, 0).target == -1).any()):
        return {}

    from sklearn.linear_model import Ridge
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    fit = _draw_pictures(task, "train", N_FIT)
    scored = _draw_pictures(task, "test", N_SCORED)

    if fit[1].dtype.kind == "f":
        return {
            "accuracy.pixel_probe": _score_numbers(Ridge(alpha=PENALTY), fit, scored),
            "accuracy.nearest_neighbour": _score_numbers(KNeighborsRegressor(1), fit, scored),
        }
    return {
        "accuracy.pixel_probe": score_linear_probe(fit, scored),
        "accuracy.nearest_neighbour": float(KNeighborsClassifier(1).fit(*fit).score(*scored)),
    }


def _score_numbers(probe: Ridge | KNeighborsRegressor, fit: Pictures, scored: Pictures) -> float:
    """R^2 on the second pictures of a probe fitted on the first."""
    answers = probe.fit(*fit).predict(scored[0]).reshape(scored[1].shape)
    return accuracy(torch.from_numpy(answers), torch.from_numpy(scored[1])).item()


def score_linear_probe(fit: Pictures, scored: Pictures) -> float:
    """Accuracy on the second of (features, classes) of a linear probe fitted on the first.

    It is a ridge classifier.
    """
    from sklearn.linear_model import RidgeClassifier

    return float(RidgeClassifier(alpha=PENALTY).fit(*fit).score(*scored))


@lru_cache
def score_patch_probes(config: TaskConfig, patch_size: int) -> NDArray[np.float64]:
    """Accuracy of a linear probe on each patch by itself (row, column)."""
    task = build_task(config)
    fit = _draw_pictures(task, "train", N_FIT)
    scored = _draw_pictures(task, "test", N_SCORED)
    height, width = task.world.image_size
    pixels = np.arange(task.world.n_channels * height * width).reshape(-1, height, width)
    scores = np.empty((-(-height // patch_size), -(-width // patch_size)))

    for row, column in np.ndindex(scores.shape):
        rows = slice(row * patch_size, (row + 1) * patch_size)
        columns = slice(column * patch_size, (column + 1) * patch_size)
        patch = pixels[:, rows, columns].ravel()
        scores[row, column] = score_linear_probe(
            (fit[0][:, patch], fit[1]), (scored[0][:, patch], scored[1])
        )
    return scores


def _draw_pictures(task: Task, split: str, n: int) -> Pictures:
    batch = task.eval_batch(split, n, 0)
    return batch.images.flatten(1).numpy(), batch.target.numpy()
