"""How much of an answer a linear classifier reads off pixels: what a task that asks for relations must not give away."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import RidgeClassifier

from toyvit.data.task import Batch, Task

N = 2000


def fitted_and_scored(made: Task) -> tuple[Batch, Batch]:
    """Training pictures to fit on, test pictures to score on."""
    return made.frozen(0, "train", N), made.frozen(0, "test", N)


def linear(fit: np.ndarray, labels: np.ndarray, score: np.ndarray, answers: np.ndarray) -> float:
    """Accuracy of a ridge classifier."""
    found = RidgeClassifier(alpha=10.0).fit(fit.reshape(len(fit), -1), labels)
    return float((found.predict(score.reshape(len(score), -1)) == answers).mean())


def patches(made: Task, batch: Batch) -> np.ndarray:
    """The pixels of each patch (patch image pixel)."""
    side = made.world.patch_size
    cells = batch.images[:, 0].unflatten(1, (-1, side)).unflatten(3, (-1, side)).transpose(2, 3).flatten(1, 2).flatten(2)
    return cells.transpose(0, 1).numpy()


def leaks(made: Task) -> tuple[float, float]:
    """Accuracy of a linear classifier on all pixels, and of the best on a single patch."""
    train, test = fitted_and_scored(made)
    labels, answers = train.target.numpy(), test.target.numpy()
    every = linear(train.images.numpy(), labels, test.images.numpy(), answers)
    cells = zip(patches(made, train), patches(made, test), strict=True)
    return every, max(linear(fit, labels, score, answers) for fit, score in cells)
