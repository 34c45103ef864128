"""How much narrower one change is in accuracy than in loss: `python -m toyvit.dynamics.latent`.

Behind both lies a margin, by which the label's logit is above the others: an S curve of the step,
the same for all pictures, and a normal number of each picture's own. Accuracy is the share of
pictures with a margin above 0, loss the mean of ln(1 + exp(-margin)). Accuracy moves only while the
margin crosses 0, so that a slow change of the margin may look abrupt in it.
"""

from __future__ import annotations

import sys
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.random import Generator, default_rng
from scipy.stats import norm

from toyvit.config import TrainConfig
from toyvit.dynamics.drawn_curves import CLOCKS, LAST, Array, draw_between, rise
from toyvit.dynamics.transitions import detect, detect_in_curve, relative_width

PICTURES = 512
QUANTILES = norm.ppf((np.arange(200) + 0.5) / 200)  # of the pictures' own numbers
WIDTHS = (1 / 4, 1 / 2, 1.0, 1.5, 2.0)
# Width of the loss over that of the accuracy, margins of width 1: 5 %, median, 95 % of 1,000.
SHARPER = (1.3, 1.9, 4.8)


class Latent(NamedTuple):
    """A margin: when it rises, from where to where, and how far pictures differ.

    onset, width   of the S of the common margin, steps and share of the onset
    low, high      its levels, nats
    spread         standard deviation over pictures, nats
    """

    onset: float
    width: float
    low: float
    high: float
    spread: float


def draw_latent(rng: Generator, width: float) -> Latent:
    """A margin from -3 to -1 up to 2 to 8, spread 0.5 to 2; onset from 0.1 to 0.4 of the run."""
    return Latent(
        onset=draw_between(rng, 0.1 * LAST, 0.4 * LAST),
        width=width,
        low=rng.uniform(-3, -1),
        high=rng.uniform(2, 8),
        spread=rng.uniform(0.5, 2),
    )


def read_scores(latent: Latent, t: Array, own: Array) -> tuple[Array, Array]:
    """Accuracy and loss (nats) at every step of pictures with these numbers of their own.

    `own` is a row for all steps, or one row a step.
    """
    common = latent.low + (latent.high - latent.low) * rise(t, latent.onset, latent.width)
    margins = common[:, None] + latent.spread * own
    return (margins > 0).mean(axis=1), np.logaddexp(0, -margins).mean(axis=1)


def measure_width(t: Array, values: Array) -> float:
    """(end - onset) / onset of a monotone curve, between 10 % and 90 % of its way."""
    way = (values - values[0]) / (values[-1] - values[0])
    onset, end = (float(np.interp(share, way, t)) for share in (0.1, 0.9))
    return relative_width((onset, end))


def measure_ratio(latent: Latent) -> float:
    """Width of the loss over that of the accuracy, without noise."""
    t = latent.onset * np.linspace(0, 1 + 2.5 * latent.width, 1200)
    accuracy, loss = read_scores(latent, t, QUANTILES)
    return measure_width(t, loss) / measure_width(t, accuracy)


def compare_scores(n: int, widths: tuple[float, ...] = WIDTHS) -> pd.DataFrame:
    """n margins of each width, a row each.

    width            of the margin
    ratio            width of the loss over that of the accuracy
    accuracy, loss   whether the detector calls either, on 512 new pictures at every checkpoint
    """
    rows = []
    for width, seed in product(widths, range(n)):
        rng = default_rng([seed, round(100 * width)])
        latent = draw_latent(rng, width)
        steps = CLOCKS[seed % len(CLOCKS)]
        own = rng.standard_normal((len(steps), PICTURES))
        accuracy, loss = (detect(steps, scores) for scores in read_scores(latent, steps, own))
        rows.append((width, measure_ratio(latent), accuracy is not None, loss is not None))
    return pd.DataFrame(rows, columns=["width", "ratio", "accuracy", "loss"])


def summarize_scores(frame: pd.DataFrame) -> pd.DataFrame:
    """By width of the margin: median of the ratio, 5 and 95 %, and the shares called."""
    groups = frame.groupby("width")
    quantiles = groups["ratio"].quantile(np.array([0.5, 0.05, 0.95])).unstack()
    table = quantiles.set_axis(["ratio", "low", "high"], axis=1)
    return table.join(groups[["accuracy", "loss"]].mean())


def explain_difference(
    accuracy: pd.Series, loss: pd.Series, train: TrainConfig | None = None
) -> str:
    """Which of accuracy and loss changes abruptly, how much longer the one takes, and why.

    Empty where neither changes.
    """
    in_accuracy = detect_in_curve(accuracy, train)
    in_loss = detect_in_curve(loss, train)
    if in_accuracy and in_loss:
        ratio = in_loss.width / in_accuracy.width
        apart = in_loss.onset - in_accuracy.onset
        return (
            f"both change abruptly, the loss {apart:+.0f} steps from accuracy and "
            f"in a window {ratio:.2g} times as wide"
        )
    if in_accuracy:
        low, median, high = SHARPER
        return (
            f"accuracy alone changes abruptly: it shows a slow change behind both in a window "
            f"{median:.2g} times narrower than the loss does ({low:.2g} to {high:.2g})"
        )
    return "the loss alone changes abruptly" if in_loss else ""


if __name__ == "__main__":
    table = summarize_scores(compare_scores(int(sys.argv[1]) if sys.argv[1:] else 200))
    print(table.round(2).to_string())
