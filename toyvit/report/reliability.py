"""The detector's stated chances against the truth: a reliability diagram."""

from __future__ import annotations

import numpy as np
import pandas as pd

from toyvit.report.panels import (
    Array,
    Axis,
    Block,
    Caption,
    Curve,
    CurvePanel,
    FigureData,
    Level,
    Words,
)

BAR = 0.05  # how far a stated chance may be off
RELIABILITY_CAPTION = Caption(
    see=(
        "Points on the diagonal, off by less than the shaded 0.05: curves for which a chance of "
        "0.8 is stated hold a change in 0.8 of cases. Upright lines: 95 % of the share."
    ),
    otherwise="a flat row of points at 0.5, the share of the whole that holds a change.",
)


def draw_reliability(table: pd.DataFrame) -> FigureData:
    """Stated chance against the true share by bin, and how far it is off.

    `table` is of `dynamics.calibration.measure_reliability`.
    """
    stated = table["stated"].to_numpy(float)
    bounds = table[["low", "high"]].to_numpy(float)
    true = table["true"].to_numpy(float)
    off = [true - stated, bounds - stated[:, None]]
    n_curves = int(table["curves"].sum())
    panels = (
        _show_shares(stated, true, bounds, table["curves"].to_numpy()),
        _show_errors(stated, *off),
    )

    return FigureData(
        name="reliability",
        title=f"the detector's stated chances, {n_curves:,} curves, weighed so that half change",
        caption=RELIABILITY_CAPTION,
        blocks=(Block(panels=(panels,), share_x=True, cell=(4.4, 3.4), margin=(0.6, 0.4)),),
    )


def _show_shares(stated: Array, true: Array, bounds: Array, counts: Array) -> CurvePanel:
    ends = np.array([0.0, 1.0])
    diagonal = Curve(
        x=ends,
        y=ends,
        label="as stated, ± 0.05",
        colour="grey",
        style="dashed",
        band=(ends - BAR, ends + BAR),
    )
    words = []
    for x, y, n in zip(stated, true, counts, strict=True):
        beside = x - 0.29 if x > 0.5 else x + 0.09  # of the shaded band
        words.append(Words(x=beside, y=max(y - 0.03, 0.015), text=f"{n:,} curves"))

    return CurvePanel(
        x=_stated_axis(),
        y=Axis(label="share that holds a change", low=0, high=1),
        curves=(diagonal, *_mark_bins(stated, true, bounds)),
        words=tuple(words),
        legend="inside",
    )


def _show_errors(stated: Array, off: Array, bounds: Array) -> CurvePanel:
    ends = np.array([0.0, 1.0])
    allowed = Curve(
        x=ends,
        y=0 * ends,
        colour="grey",
        style="dashed",
        band=(0 * ends - BAR, 0 * ends + BAR),
    )
    return CurvePanel(
        x=_stated_axis(),
        y=Axis(label="share minus stated chance", low=-2 * BAR, high=2 * BAR),
        curves=(allowed, *_mark_bins(stated, off, bounds)),
        levels=(Level(value=0, kind="reference"),),
    )


def _stated_axis() -> Axis:
    return Axis(label="stated chance of an abrupt change", low=0, high=1)


def _mark_bins(x: Array, y: Array, bounds: Array) -> tuple[Curve, ...]:
    """A dot a bin, and an upright line from its lower to its upper bound."""
    dots = Curve(x=x, y=y, label="measured", style="none", marker="dot")
    pairs = zip(x, bounds, strict=True)
    lines = [Curve(x=np.array([place, place]), y=ends) for place, ends in pairs]
    return (dots, *lines)
