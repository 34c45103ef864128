"""All measured curves of a run for its page: one matrix of numbers, and what its rows are."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from toyvit.analyses.registry import list_analyses
from toyvit.report.page.packing import ArrayStore
from toyvit.report.plain import Plain
from toyvit.report.tags import OWN, select_curves
from toyvit.runs.handle import Run


def collect_curves(run: Run, store: ArrayStore, room: float) -> Plain:
    """Every quantity that is a curve, on most pictures of each split; None without measures.

    At as many steps as fit into so many bytes of the page, two at least. `values` (curve step) has
    NaN where nothing was measured; `groups` say which rows are of which quantity, and where on its
    axes they lie.
    """
    if not run.is_measured or run.table.empty:
        return None
    rows = select_curves(run.table)
    axes = [name for name in rows.columns if name not in OWN and name != "split"]
    keys = ["analysis", "quantity", "split", *axes]
    plain = rows[keys].astype(object).where(rows[keys].notna(), None)
    codes, places = pd.factorize(pd.Series(list(plain.itertuples(index=False, name=None))))
    order = sorted(range(len(places)), key=lambda row: [str(part) for part in places[row][:3]])
    rank = np.argsort(order)

    steps = np.unique(rows["step"])
    values = np.full((len(places), len(steps)), np.nan, np.float32)
    values[rank[codes], np.searchsorted(steps, rows["step"])] = rows["value"]
    shown = thin_steps(len(steps), int(room / store.count_bytes(values[:, :1])))
    shown_steps: list[Plain] = [int(step) for step in steps[shown]]
    return {
        "steps": shown_steps,
        "all": len(steps),
        "groups": _group_places([places[row] for row in order], axes),
        "values": store.add(values[:, shown]),
    }


def thin_steps(n: int, most: int) -> NDArray[np.intp]:
    """At most so many of n places (at least two), evenly, the first and the last among them.

    >>> thin_steps(9, 3).tolist(), thin_steps(2, 5).tolist()
    ([0, 4, 8], [0, 1])
    """
    return np.unique(np.linspace(0, n - 1, max(2, min(n, most))).round().astype(np.intp))


def _group_places(places: list[tuple[Plain, ...]], axes: list[str]) -> Plain:
    """Rows of one quantity after the other: its names, the axes that it has, the rows' places."""
    groups: dict[tuple[Plain, ...], list[tuple[Plain, ...]]] = {}
    for place in places:
        groups.setdefault(place[:3], []).append(place[3:])

    first = 0
    plain: list[Plain] = []
    for (analysis, quantity, split), rows in groups.items():
        columns = list(zip(*rows, strict=True))
        used = [at for at, column in enumerate(columns) if set(column) != {None}]
        group: dict[str, Plain] = {
            "analysis": analysis,
            "quantity": quantity,
            "split": split,
            "axes": [axes[at] for at in used],
            "places": list(map(list, zip(*(columns[at] for at in used), strict=True))) or [[]],
            "first": first,
        }
        plain.append(group | describe_quantity(str(analysis), str(quantity)))
        first += len(rows)
    return plain


def describe_quantity(analysis: str, quantity: str) -> dict[str, Plain]:
    """What its row declares: unit, range, what is computed, what it gives where nothing is."""
    row = list_analyses().get(analysis)
    if row is None:
        return {}
    declared = row.quantities.get(quantity)
    words: dict[str, Plain] = {"computes": row.computes, "null": row.null}
    if declared is None:
        return words
    ends: list[Plain] = [
        float(end) if np.isfinite(end) else None for end in (declared.least, declared.most)
    ]
    return words | {"unit": declared.unit, "range": ends}
