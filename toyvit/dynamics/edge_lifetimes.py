"""Edges over training: when each is born and dies, and how alike two circuits are.

Circuits of two checkpoints or of two seeds.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from toyvit.errors import BadInput

ALIVE = 0.1  # of the run's largest absolute score: this lab's rule, no test against chance


def pivot_edge_scores(frame: pd.DataFrame, change: str) -> pd.DataFrame:
    """Scores (step by edge) of one counterfactual from a run's table.

    BadInput where `edges` was not measured.
    """
    rows = frame[(frame["analysis"] == "edges") & (frame["quantity"] == "edge_score")]
    if not len(rows) or change not in set(rows["change"]):
        measured = "none: toyvit measure RUN --analyses edges"
        if len(rows):
            measured = str(sorted(rows["change"].unique()))
        raise BadInput(f"no scores of edges for the change {change!r}: measured are {measured}")

    of_change = rows[rows["change"] == change]
    scores = of_change.pivot_table("value", "step", "edge", sort=False, observed=True)
    scores.columns = pd.Index(scores.columns.tolist(), name="edge")
    return scores.sort_index()


def mark_alive(scores: pd.DataFrame, share: float = ALIVE) -> pd.DataFrame:
    """Which edges have, at each step, at least a share of the run's largest score (step by edge).

    Of the largest absolute score of the whole run: 10 % by default. It depends on what comes later,
    and is no test against chance.
    """
    size = scores.abs()
    return size >= share * size.to_numpy().max()


def date_edges(scores: pd.DataFrame, share: float = ALIVE) -> pd.DataFrame:
    """When each edge lives that is ever alive twice in a row: `birth` and `death`, by birth.

    Alive is what has `share` of the run's largest score, see `mark_alive`. Born at the first of two
    steps alive in a row, dead at the first step after its last two; NaN while it lives on.
    """
    living = mark_alive(scores, share).to_numpy()
    steady = living[:-1] & living[1:]
    steps = scores.index.to_numpy()
    rows = {}
    for place, edge in enumerate(scores.columns):
        if steady[:, place].any():
            first, last = np.flatnonzero(steady[:, place])[[0, -1]]
            gone = last + 2
            rows[edge] = (steps[first], steps[gone] if gone < len(steps) else np.nan)

    dates = pd.DataFrame.from_dict(rows, orient="index", columns=["birth", "death"])
    return dates.rename_axis("edge").sort_values("birth", kind="stable")


def jaccard(first: pd.Series, second: pd.Series, n_edges: int) -> float:
    """Shared / all of the n strongest edges of two sets of scores.

    1 for the same, about n / (2N - n) at random.

    >>> jaccard(pd.Series({"a": 3, "b": -2, "c": 1}), pd.Series({"a": 1, "b": 0, "c": 2}), 2)
    0.3333333333333333
    """
    strongest = set(first.abs().nlargest(n_edges).index)
    others = set(second.abs().nlargest(n_edges).index)
    return len(strongest & others) / len(strongest | others)


def _compare_scores(first: pd.Series, second: pd.Series, n_edges: int) -> tuple[float, float]:
    """`jaccard` of the strongest edges, and Spearman's rank correlation of all sizes."""
    rank = first.abs().corr(second.abs(), method="spearman")
    return jaccard(first, second, n_edges), rank


def compare_steps(scores: pd.DataFrame, n_edges: int) -> pd.DataFrame:
    """Between each checkpoint and the one before: `jaccard` of the n strongest edges, and `rank`.

    `rank` is Spearman's, of all sizes.
    """
    rows = [scores.iloc[place] for place in range(len(scores))]
    neighbours = zip(scores.index[1:], rows, rows[1:], strict=False)
    likeness = {step: _compare_scores(before, now, n_edges) for step, before, now in neighbours}
    frame = pd.DataFrame.from_dict(likeness, orient="index", columns=["jaccard", "rank"])
    return frame.rename_axis("step")


def compare_runs(scores: list[pd.DataFrame], n_edges: int) -> pd.DataFrame:
    """Between runs, at their last checkpoints: mean, least and most over pairs of runs.

    Of `jaccard` and `rank`, see `compare_steps`.
    """
    if len(scores) < 2:
        raise BadInput("two runs or more are needed to compare circuits between seeds")
    ends = [run.iloc[-1] for run in scores]
    likeness = []
    for place, end in enumerate(ends):
        likeness += [_compare_scores(end, other, n_edges) for other in ends[:place]]
    frame = pd.DataFrame(likeness, columns=["jaccard", "rank"])
    return frame.agg(["mean", "min", "max"])
