"""What Sort-of-CLEVR asks, and what one would answer who knows less than the picture."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toyvit.data.task import Batch

QUESTIONS = (
    "shape",
    "left",
    "top",
    "shape of the closest",
    "shape of the farthest",
    "number of its shape",
)
N_PLAIN = 3  # questions about the object alone come first, then the relational ones
ABOUT_SHAPE = [0, 3, 4]  # of the questions: those whose answer is square or circle
ANSWERS = ("square", "circle", "yes", "no", "1", "2", "3", "4", "5", "6")


def tabulate_question(n_objects: int) -> NDArray[np.float64]:
    """The probability of each answer (question answer) to one who sees only the question.

    Shapes are fair coins, left and top halves mirror images, and of the n - 1 other objects
    Binomial(n - 1, 1/2) share the shape.
    """
    table = np.zeros((len(QUESTIONS), len(ANSWERS)))
    table[ABOUT_SHAPE, :2] = 1 / 2
    table[1:3, 2:4] = 1 / 2
    ways = [math.comb(n_objects - 1, others) for others in range(n_objects)]
    table[5, 4 : 4 + n_objects] = np.array(ways) / 2 ** (n_objects - 1)
    return table


def tabulate_bag(n_objects: int) -> NDArray[np.float64]:
    """The same (question number answer) to one who also knows a number of the objects.

    How many of them are squares (or on the left, or at the top), but not which: any of them may be
    the one that is asked about, or its closest, or its farthest.
    """
    table = np.zeros((len(QUESTIONS), n_objects + 1, len(ANSWERS)))
    for number in range(n_objects + 1):
        shares = (number / n_objects, 1 - number / n_objects)
        table[ABOUT_SHAPE, number, :2] = shares
        table[1:3, number, 2:4] = shares
        table[5, number, 3 + number] += shares[0]
        table[5, number, 3 + n_objects - number] += shares[1]
    return table


def predict_from_bag(batch: Batch, n_objects: int) -> Tensor:
    """The prediction (image answer) of one who sees the question and all objects.

    It does not know which of them is asked about: see `tabulate_bag`.
    """
    names = ("squares", "on_left", "on_top", "squares", "squares", "squares")  # by question
    counts = torch.stack([batch.factors[name] for name in names], 1)
    question = batch.factors["question"]
    table = torch.from_numpy(tabulate_bag(n_objects))
    return table[question, counts[torch.arange(len(question)), question]]


def score_expected(name: str, shares: Tensor) -> dict[str, float]:
    """Accuracy and loss of a prediction (image answer), where answers come as often as it says."""
    entropy = -torch.xlogy(shares, shares).sum(1)
    return {
        f"accuracy.{name}": shares.amax(1).mean().item(),
        f"loss.{name}": entropy.mean().item(),
    }
