"""What can be measured of a start before the first step, and what it tells of the rise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from studies.when_not_whether.crosses import Table
from studies.when_not_whether.half_way import Subject
from toyvit.analyses import ANALYSES
from toyvit.data.task import build_task
from toyvit.measuring import run_analyses
from toyvit.model import ViT

# Those that say something of an untrained model at little cost.
ASKED = (
    "performance",
    "attention",
    "induction",
    "composition",
    "norms",
    "weights",
    "scores",
    "score_parts",
    "label_copying",
    "attribution",
)
N_IMAGES = 256
PENALTIES = (1, 10, 100, 1_000, 10_000)
N_SHUFFLES = 1_000


@dataclass(frozen=True)
class Prediction:
    """How well the measures of step 0 tell the half-way step of starts that were not fitted.

    r2         share of the variance of fresh starts that is told; 0: no better than their mean
    chance     95 % point of the same with half-way steps dealt out at random
    n_features measures that were used
    best       the single measure that goes with the half-way step most closely where it was fitted,
               its rank correlation there, and on the fresh starts
    """

    recipe: str
    r2: float
    chance: float
    n_features: int
    best: str
    best_fitted: float
    best_fresh: float


def measure_starts(subject: Subject, inits: list[int]) -> pd.DataFrame:
    """Every measure of the first weights: a row a start, a column a measure with its place."""
    config = subject.build_config(0, 0)
    batch = build_task(config.task).eval_batch("validation", N_IMAGES, config.seeds.measure)
    rows = []
    for init in inits:
        model = ViT(config.model, seed=init).eval()
        asked = [ANALYSES[name] for name in ASKED if not ANALYSES[name].list_missing(model, batch)]
        values = {}
        for name, measured in run_analyses(model, batch, asked).items():
            for quantity, tags, value in measured:
                place = " ".join(f"{axis} {tag}" for axis, tag in tags.items())
                values[f"{name}.{quantity} {place}".strip()] = value
        rows.append(values)
    frame = pd.DataFrame(rows, index=inits).dropna(axis=1)
    return frame.loc[:, frame.std() > 0]


def predict(subject: Subject, explored: Table, confirmed: Table) -> Prediction:
    """Fit a ridge on the explored starts, and try it on those of the confirmation."""
    last = subject.build_config(0, 0).train.steps
    fitted = measure_starts(subject, explored.inits)
    fresh = measure_starts(subject, confirmed.inits)
    names = [name for name in fitted if name in fresh]
    scale = fitted[names].std()
    x = ((fitted[names] - fitted[names].mean()) / scale).to_numpy()
    x_fresh = ((fresh[names] - fitted[names].mean()) / scale).to_numpy()
    y = explored.take_logs(last).mean(1)
    y_fresh = confirmed.take_logs(last).mean(1)

    random = np.random.default_rng(0)
    by_chance = [_score(x, random.permutation(y), x_fresh, y_fresh) for _ in range(N_SHUFFLES)]
    ranks = pd.DataFrame(x).corrwith(pd.Series(y), method="spearman").to_numpy()
    best = int(np.abs(ranks).argmax())
    rank_fresh = pd.Series(x_fresh[:, best]).corr(pd.Series(y_fresh), method="spearman")
    return Prediction(
        recipe=subject.recipe,
        r2=_score(x, y, x_fresh, y_fresh),
        chance=float(np.quantile(by_chance, 0.95)),
        n_features=len(names),
        best=names[best],
        best_fitted=float(ranks[best]),
        best_fresh=float(rank_fresh),
    )


def _score(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    x_fresh: NDArray[np.float64],
    y_fresh: NDArray[np.float64],
) -> float:
    """R^2 on fresh starts of the ridge whose penalty is chosen by leaving one out."""
    mean = y.mean()
    gram = x @ x.T
    n = len(y)
    errors = []
    for penalty in PENALTIES:
        smoother = gram @ np.linalg.inv(gram + penalty * np.eye(n))
        left_out = (y - mean - smoother @ (y - mean)) / (1 - smoother.diagonal())
        errors.append(np.square(left_out).mean())
    penalty = PENALTIES[int(np.argmin(errors))]
    weights = np.linalg.solve(gram + penalty * np.eye(n), y - mean)
    told = mean + x_fresh @ x.T @ weights
    return float(1 - np.square(y_fresh - told).sum() / np.square(y_fresh - y_fresh.mean()).sum())
