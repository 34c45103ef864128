"""The tags of TensorBoard's curves: performance first, then training, then one curve a layer of
each measure.

TensorBoard sorts groups of tags by letter, capitals first, and opens the first two. What is one
value a head becomes the largest over a layer's heads: the table of measures and the figures have
every head.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from toyvit.analyses.registry import list_crowded_axes
from toyvit.report.style import call_head
from toyvit.runs.events import PERFORMANCE, STRONGEST, escape_part
from toyvit.runs.table import select_main_rows

GROUPS = {"performance": PERFORMANCE}
# Curves of the strongest head of all, beside the performance.
HEADLINES = {
    ("induction", "mass"): "induction mass",
    ("induction", "previous_cell"): "previous-cell mass",
    ("attention", "previous"): "attention to the patch before",
}
HEADS = ("head", "to_head")
LARGEST = "largest"  # in place of a head
OWN = ("run", "step", "analysis", "quantity", "images", "value")  # columns that are no axis


def iterate_curves(table: pd.DataFrame) -> Iterator[tuple[int, str, float]]:
    """(step, tag, value) of every measure that is a curve, on most images of each split.

    A tag is analysis/quantity/place: `induction/mass/layer 1, head 0`; of another split than test
    with its name at the end. Of a layer with several heads the largest value.
    """
    frame = select_curves(table)
    rows = frame.assign(split=frame["split"].where(frame["split"] != "test"))
    axes = [name for name in rows.columns if name not in OWN]
    if "head" in rows and rows["head"].max() > 0:
        rows = _merge_heads(rows, axes)
    places = rows[["analysis", "quantity", *axes]].astype(object)
    places = places.where(places.notna(), None)
    keys = list(places.itertuples(index=False, name=None))
    tags = {key: build_tag(axes, *key) for key in set(keys)}

    for step, key, value in zip(rows["step"], keys, rows["value"], strict=True):
        yield int(step), tags[key], float(value)
    yield from _iterate_headlines(frame)


def select_curves(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table that are points of curves: on no axis with too many places, on most
    images of each split.
    """
    splits = [select_main_rows(table, split) for split in table["split"].unique()]
    frame = pd.concat(splits) if splits else table
    crowded = [axis for axis in list_crowded_axes() if axis in frame]
    return frame[~frame[crowded].notna().any(axis=1)]


def _merge_heads(rows: pd.DataFrame, axes: list[str]) -> pd.DataFrame:
    """The largest over the heads of a layer, or over pairs of heads, in place of one row each."""
    heads = [axis for axis in HEADS if axis in axes]
    has_head = rows[heads].notna().any(axis=1)
    keys = ["step", "analysis", "quantity", *(axis for axis in axes if axis not in heads)]
    groups = rows[has_head].groupby(keys, dropna=False, sort=False, observed=True)
    largest = groups["value"].max().reset_index()
    return pd.concat([rows[~has_head], largest.assign(head=LARGEST)], ignore_index=True)


def build_tag(axes: list[str], analysis: str, quantity: str, *at: str | int | None) -> str:
    """The tag of one place of a quantity."""
    place = {axis: value for axis, value in zip(axes, at, strict=True) if value is not None}
    of_all = place.get("head") == LARGEST
    if of_all:
        del place["head"]
    words = _take_head(place, "") + _take_head(place, "to_")
    words += [f"{axis} {value}" for axis, value in place.items()]
    where = " ".join(words) + f", {LARGEST} over heads" * of_all
    parts = (GROUPS.get(analysis, analysis), quantity, where)
    return "/".join(escape_part(part) for part in parts if part)


def _take_head(place: dict[str, str | int], before: str) -> list[str]:
    """Layer and head, taken out of a place, in words; nothing where it has not both."""
    axes = (f"{before}layer", f"{before}head")
    if not all(axis in place for axis in axes):
        return []
    layer, head = (int(place.pop(axis)) for axis in axes)
    return [before.replace("_", " ") + call_head(layer, head)]


def _iterate_headlines(frame: pd.DataFrame) -> Iterator[tuple[int, str, float]]:
    """The strongest head of the whole model, on test pictures."""
    rows = frame[frame["split"] == "test"]
    for (analysis, quantity), name in HEADLINES.items():
        part = rows[(rows["analysis"] == analysis) & (rows["quantity"] == quantity)]
        largest = part.groupby("step")["value"].max()
        for step, value in zip(largest.index.tolist(), largest.tolist(), strict=True):
            yield step, f"{STRONGEST}/{name}", value
