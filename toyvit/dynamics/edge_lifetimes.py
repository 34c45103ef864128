"""Edges over training: when each is born and dies, and how alike the circuits of two checkpoints or two seeds are."""

from __future__ import annotations

import numpy as np
import pandas as pd

from toyvit.errors import BadInput


def pivot_edge_scores(frame: pd.DataFrame, change: str) -> pd.DataFrame:
    """Scores (step by edge) of one counterfactual from a run's table; BadInput where `edges` was not measured."""
    rows = frame[(frame["analysis"] == "edges") & (frame["quantity"] == "edge_score")]
    if not len(rows) or change not in set(rows["change"]):
        known = (
            sorted(rows["change"].unique())
            if len(rows)
            else "none: toyvit measure RUN --analyses edges"
        )
        raise BadInput(f"no scores of edges for the change {change!r}: measured are {known}")
    scores = rows[rows["change"] == change].pivot_table(
        index="step", columns="edge", values="value", sort=False
    )
    return scores.sort_index()


def mark_alive(scores: pd.DataFrame, share: float = 0.1) -> pd.DataFrame:
    """Which edges have, at each step, at least a share of the largest absolute score of the whole run (step by edge)."""
    size = scores.abs()
    return size >= share * size.to_numpy().max()


def date_edges(scores: pd.DataFrame, share: float = 0.1) -> pd.DataFrame:
    """For each edge that is ever alive twice in a row: `birth`, the first such step, and `death`, NaN while it lives on.

    It dies at the first step after its last two alive in a row. Sorted by birth.
    """
    living = mark_alive(scores, share).to_numpy()
    steady = living[:-1] & living[1:]
    steps, rows = scores.index.to_numpy(), {}
    for place, edge in enumerate(scores.columns):
        if steady[:, place].any():
            first, last = np.flatnonzero(steady[:, place])[[0, -1]]
            gone = last + 2
            rows[edge] = (steps[first], steps[gone] if gone < len(steps) else np.nan)
    found = pd.DataFrame.from_dict(rows, orient="index", columns=["birth", "death"])
    return found.rename_axis("edge").sort_values("birth", kind="stable")


def jaccard(one: pd.Series, other: pd.Series, n_edges: int) -> float:
    """Shared / all of the n strongest edges of two sets of scores: 1 for the same, about n / (2N - n) at random."""
    first, second = (set(scores.abs().nlargest(n_edges).index) for scores in (one, other))
    return len(first & second) / len(first | second)


def compare_steps(scores: pd.DataFrame, n_edges: int) -> pd.DataFrame:
    """Between each checkpoint and the one before: `jaccard` of the n strongest edges; `rank`, Spearman's of all sizes."""
    rows = [scores.iloc[place] for place in range(len(scores))]
    found = {
        step: (jaccard(before, now, n_edges), before.abs().corr(now.abs(), method="spearman"))
        for step, before, now in zip(scores.index[1:], rows, rows[1:], strict=False)
    }
    return pd.DataFrame.from_dict(found, orient="index", columns=["jaccard", "rank"]).rename_axis(
        "step"
    )


def compare_runs(scores: list[pd.DataFrame], n_edges: int) -> pd.DataFrame:
    """Between runs, at their last checkpoints: mean, least and most over pairs of runs of `jaccard` and `rank`."""
    last = [one.iloc[-1] for one in scores]
    pairs = [(one, other) for place, one in enumerate(last) for other in last[:place]]
    if not pairs:
        raise BadInput("two runs or more are needed to compare circuits between seeds")
    found = pd.DataFrame(
        [
            (jaccard(one, other, n_edges), one.abs().corr(other.abs(), method="spearman"))
            for one, other in pairs
        ],
        columns=["jaccard", "rank"],
    )
    return found.agg(["mean", "min", "max"])
