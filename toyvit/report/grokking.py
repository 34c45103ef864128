"""Figures of grokking: progress measures and the local learning coefficient along a run of modular addition."""

from __future__ import annotations

from math import exp, log
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toyvit.analyses.llc import LlcEstimate
from toyvit.dynamics.checkpoints import measure_progress
from toyvit.report.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PINK,
    SKY,
    _line,
    mark_levels,
    set_step_axis,
)
from toyvit.runs.handle import Run, load_table


def draw_grokking(path: Path, beside: Path | None = None) -> Figure:
    """Accuracy and loss on sums trained on and on others, progress measures, Gini coefficient, and the LLC where there is one.

    Key frequencies are the finished network's (`toyvit.dynamics.checkpoints.measure_progress`).
    """
    run = Run(path)
    seen, chance = measure_progress(run), log(run.config.model.stated("n_classes"))
    llc = load_table(path).query("analysis == 'llc'")
    figure = Figure(figsize=(8, 9 + 2 * (len(llc) > 0)), layout="constrained")
    panels = figure.subplots(4 + (len(llc) > 0), 1, sharex=True)
    for panel, quantity, name in zip(
        panels, ("accuracy", "loss"), ("accuracy", "loss (nats)"), strict=False
    ):
        _line(panel, seen[f"train_{quantity}"], color=GREY, label="sums trained on")
        _line(panel, seen[f"test_{quantity}"], color=BLUE, label="other sums")
        panel.set_ylabel(name)
    mark_levels(panels[0], {"chance": exp(-chance)})
    curves = {"restricted": (SKY, ":"), "restricted_alone": (BLUE, "-"), "excluded": (ORANGE, "-")}
    for name, (colour, style) in curves.items():
        _line(panels[2], seen[name], color=colour, ls=style, label=_PROGRESS[name])
    panels[2].set_ylabel("progress measures:\nloss (nats)")
    for panel in panels[1:3]:
        panel.set_yscale("log")
        mark_levels(panel, {"chance": chance})
    _line(panels[3], seen["gini"], color=GREEN, label="Gini, embedding")
    _line(
        panels[3],
        seen["key_share"],
        color=PINK,
        label="key frequencies' share of the logits' variance",
    )
    panels[3].set_ylabel("Fourier sparsity")
    panels[3].set_ylim(0, 1)
    mark_levels(panels[3], {"Gini, step 0": seen["gini"].iloc[0]})
    if len(llc):
        _llc_panel(panels[4], llc)
    for panel in panels[:4]:
        panel.legend(fontsize="small")
    best = seen.sort_values("test_loss").iloc[0]
    verdict = "grokked" if best["test_accuracy"] > 0.9 else "not grokked"
    at = f"test accuracy {best['test_accuracy']:.2f} at step {best.name:,}, whose key frequencies are taken"
    figure.suptitle(f"{path.name}, {verdict}: {at}", fontsize="small")
    set_step_axis(panels[-1])
    return figure


_PROGRESS = {
    "restricted": "restricted, other sums (trained sums lend to it)",
    "restricted_alone": "restricted, other sums alone",
    "excluded": "excluded, sums trained on",
}


def _llc_panel(panel: Axes, rows: pd.DataFrame) -> None:
    """The local learning coefficient with its standard deviation over chains; crosses where the sampler diverged."""
    rows = rows[rows["split"] == ("train" if "train" in set(rows["split"]) else "test")]
    wide = rows.pivot_table(index="step", columns="quantity", values="value").reindex(
        columns=["llc", "llc_sd", "diverged"]
    )
    panel.errorbar(
        wide.index, wide["llc"], wide["llc_sd"], color=BLUE, marker="o", ms=3, lw=1, capsize=2
    )
    bad = wide.index[wide["diverged"] > 0]
    panel.plot(
        bad,
        [0.03] * len(bad),
        "x",
        color=ORANGE,
        transform=panel.get_xaxis_transform(),
        label="sampler diverged",
    )
    panel.axhline(0, color=GREY, ls=":", lw=1)
    panel.set_ylabel("local learning\ncoefficient")
    if len(bad):
        panel.legend(fontsize="small")


def draw_traces(estimate: LlcEstimate) -> Figure:
    """The sampler's chains: loss against its own steps, the loss it started from, and the steps that do not count shaded."""
    figure = Figure(figsize=(8, 3), layout="constrained")
    panel = figure.subplots()
    for place, chain in enumerate(estimate.traces):
        panel.plot(
            chain,
            color=(BLUE, ORANGE, GREEN, PINK, SKY, GREY)[place % 6],
            lw=0.8,
            label=f"chain {place}",
        )
    panel.axvspan(0, estimate.settings.burn_in, color=GREY, alpha=0.15, lw=0, label="burn-in")
    panel.set_xlabel("step of the sampler")
    panel.set_ylabel("loss (nats)")
    named = {"at the start": estimate.start, "chance": estimate.chance}
    mark_levels(
        panel, {name: value for name, value in named.items() if value < panel.get_ylim()[1]}
    )
    panel.legend(fontsize="small")
    return figure
