"""Figures of a run, drawn from its table of measures."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toyvit.results import baselines, table
from toyvit.runs import RunFolder

# Colours of Okabe & Ito, told apart by readers who see few colours.
RUN, CONTROL, BASELINES = "#0072B2", "#D55E00", "#666666"


def curve(frame: pd.DataFrame, analysis: str, quantity: str, how: str = "max") -> pd.Series:
    """One value a step: the strongest head (or the given aggregate) of a quantity, on the run's main evaluation batch."""
    rows = frame[(frame["analysis"] == analysis) & (frame["quantity"] == quantity)]
    rows = rows[rows["images"] == rows["images"].mode()[0]] if len(rows) else rows
    return rows.groupby("step")["value"].agg(how)


def window(accuracy: pd.Series, ceiling: float) -> tuple[int, int] | None:
    """Steps at 10 % and 90 % of the way from the ceiling to the final accuracy; None where that is below ceiling + 0.1."""
    final = accuracy.iloc[-1]
    if final < ceiling + 0.1:
        return None
    at = [int(accuracy.index[accuracy > ceiling + share * (final - ceiling)][0]) for share in (0.1, 0.9)]
    return at[0], at[1]


def phase_transition(path: Path, control: Path | None = None) -> Path:
    """Loss, accuracy, induction mass and previous-cell mass against step, with baselines and the transition shaded."""
    runs = [(RUN, path)] + ([(CONTROL, control)] if control else [])
    naive = baselines(path)
    quantities = (("performance", "loss"), ("performance", "accuracy"), ("induction", "mass"), ("induction", "previous_cell"))
    names = (
        "loss (nats)",
        "accuracy",
        "induction mass\n(strongest head)",
        "previous-cell mass\n(label cells, strongest head)",
    )
    figure = Figure(figsize=(8, 9), layout="constrained")
    axes = figure.subplots(4, 1, sharex=True)
    for place, ((analysis, quantity), name) in enumerate(zip(quantities, names, strict=True)):
        for colour, run in runs:
            values = curve(table(run), analysis, quantity)
            axes[place].plot(values.index, values, color=colour, label=run.name)
        axes[place].set_ylabel(name)
    for name, value in naive.items():
        quantity, label = name.split(".")
        _level(axes[0 if quantity == "loss" else 1], value, label.replace("_", " "))
    shaded = window(curve(table(path), "performance", "accuracy"), naive.get("accuracy.bag_of_labels", 0))
    for panel in axes:
        if shaded:
            panel.axvspan(*shaded, color="#F0E442", alpha=0.4, lw=0, label="10 % to 90 % of the rise")
    axes[0].legend(loc="center right", fontsize="small")
    axes[-1].set_xlabel("training step")
    folder = RunFolder(path)
    folder.figures.mkdir(exist_ok=True)
    file = folder.figures / "phase_transition.png"
    figure.savefig(file, dpi=120)
    return file


def _level(panel: Axes, value: float, label: str) -> None:
    panel.axhline(value, color=BASELINES, ls=":", lw=1)
    panel.annotate(label, (1, value), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7, color=BASELINES)
