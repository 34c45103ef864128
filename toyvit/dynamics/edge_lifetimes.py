"""Edges over training: when each is born and dies, and how alike circuits of two checkpoints are.

Circuits of two seeds are compared by `toyvit.circuits.matching`: heads are matched first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from toyvit.errors import BadInput

LEVEL = 0.001  # of any edge of a checkpoint outside its null band: about 5 % in 50 of them
IN_A_ROW = 3  # checkpoints


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
    return _pivot(rows, change)


def _pivot(rows: pd.DataFrame, change: str) -> pd.DataFrame:
    """The values of one change, step by edge, in the order of the table."""
    of_change = rows[rows["change"] == change]
    values = of_change.pivot_table("value", "step", "edge", sort=False, observed=True)
    values.columns = pd.Index(values.columns.tolist(), name="edge")
    return values.sort_index()


@dataclass(frozen=True, kw_only=True)
class EdgeShares:
    """What each edge carries of the effect at the same checkpoint, and what chance would reach.

    `shares` (step by edge) are scores over corrupt minus clean: 1 for an edge that carries all of
    it. `band` (step by edge) is the share that one of a checkpoint's edges exceeds by chance in one
    checkpoint of 1,000. Both are NaN where the effect itself is not clear of 0 by the same rule:
    there is nothing to be a share of.
    """

    shares: pd.DataFrame
    band: pd.DataFrame


def compute_edge_shares(frame: pd.DataFrame, change: str) -> EdgeShares:
    """The shares of the edges of one counterfactual, and their null bands, from a run's table.

    The null: pairs in which answer and foil have nothing to do with what the edge carries, so that
    exchanging the two, which turns the sign of a pair's score, changes nothing. The band is
    Student's, of the standard error over pairs, by Bonferroni over a checkpoint's edges. It depends
    on no other checkpoint. BadInput where `edges` was not measured, or by a version that noted no
    errors.
    """
    scores = pivot_edge_scores(frame, change)
    rows = frame[frame["analysis"] == "edges"]
    if not has_errors(rows):
        raise BadInput(
            "the scores of edges were measured by an earlier version, without their errors:"
            " toyvit measure RUN --analyses edges"
        )
    errors = _pivot(rows[rows["quantity"] == "edge_error"], change)

    of_change = rows[(rows["change"] == change) & rows["edge"].isna()]
    single = of_change.pivot_table("value", "step", "quantity", observed=True)
    degrees = single["pairs"] - 1
    effect = single["corrupt"] - single["clean"]
    is_clear = effect.abs() > _limit(degrees, 1) * single["effect_error"]
    effect = effect.where(is_clear)

    limits = errors.mul(_limit(degrees, scores.shape[1]), axis=0)
    return EdgeShares(
        shares=scores.div(effect, axis=0), band=limits.div(effect.abs(), axis=0)[scores.columns]
    )


def has_errors(rows: pd.DataFrame) -> bool:
    """Whether the scores of edges in a table have their standard errors beside them."""
    return "edge_error" in set(rows["quantity"])


def _limit(degrees: pd.Series, n: int) -> pd.Series:
    """Standard errors that the largest of n scores exceeds by chance at LEVEL, either way."""
    from scipy.special import stdtrit  # slow to import

    return pd.Series(stdtrit(degrees, 1 - LEVEL / (2 * n)), degrees.index)


def mark_alive(edges: EdgeShares) -> pd.DataFrame:
    """Which edges are outside their null band at each step (step by edge)."""
    return edges.shares.abs() > edges.band


def date_edges(edges: EdgeShares) -> pd.DataFrame:
    """When each edge lives that is ever alive three times in a row: `birth` and `death`, by birth.

    Alive is what is outside its null band, see `compute_edge_shares`. Born at the first of three
    checkpoints alive in a row, dead at the first after its last three; NaN while it lives on.

    >>> shares = pd.DataFrame({"a->b": [0.0, 0.9, 0.9, 1.0]}, index=[0, 10, 20, 30])
    >>> date_edges(EdgeShares(shares=shares, band=0 * shares + 0.2))["birth"].to_dict()
    {'a->b': 10}
    """
    living = mark_alive(edges).to_numpy()
    n = len(living) - IN_A_ROW + 1
    steady = np.ones((max(0, n), living.shape[1]), bool)
    for place in range(IN_A_ROW):
        steady &= living[place : place + len(steady)]

    steps = edges.shares.index.to_numpy()
    rows = {}
    for place, edge in enumerate(edges.shares.columns):
        if steady[:, place].any():
            first, last = np.flatnonzero(steady[:, place])[[0, -1]]
            gone = last + IN_A_ROW
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
