"""Grokking: progress measures and the learning coefficient along a run of modular addition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import exp, log

import numpy as np
import pandas as pd

from toyvit.analyses.llc import LLC, MIXED, NEAR, SAME, STEADY, LlcEstimate
from toyvit.dynamics.checkpoints import measure_progress
from toyvit.report.curves import EARLY_STEPS, build_curve, stack_panels
from toyvit.report.panels import (
    Axis,
    Caption,
    Curve,
    CurvePanel,
    Dash,
    FigureData,
    Level,
    Span,
    Words,
)
from toyvit.report.rows import FigureRow
from toyvit.report.style import SETTINGS
from toyvit.runs.handle import Run

PROGRESS: dict[str, tuple[str, str, Dash]] = {
    "restricted": ("restricted, other sums (trained sums lend to it)", "sky", "dotted"),
    "restricted_alone": ("restricted, other sums alone", "blue", "solid"),
    "excluded": ("excluded, sums trained on", "orange", "solid"),
}


GROKKING_CAPTION = Caption(
    see=(
        "Sums trained on are right long before the others. In between the excluded loss rises "
        "and the restricted loss falls: the circuit of key frequencies grows while accuracy "
        "stands still."
    ),
    otherwise=(
        "other sums stay at chance, both losses of key frequencies stay where they are, and "
        "the embedding stays as little sparse as at step 0."
    ),
)


LLC_CAPTION = (
    " Local learning coefficient: hollow grey points are not converged, and what says so stands at"
    f" them: split R-hat of {MIXED} or more, a trend of {STEADY:.0%} or more from the first half of"
    f" the draws to the second, or an excess (how far the chains went) of {NEAR:.0%} or more of the"
    " way to chance. {local} of {all} points are local: elsewhere halving or doubling the spring"
    f" moves the value by {SAME:.0%} or more, or the weights are no minimum, and only points at"
    " one spring can be compared."
)
MOST_WORDS = 8  # points that are not converged, of which each says why


def draw_grokking(run: Run, beside: Run | None = None) -> FigureData:
    """Accuracy and loss on sums trained on and on others, progress measures, sparsity, and the LLC
    if there is one.

    Key frequencies are the finished network's (`toyvit.dynamics.checkpoints.measure_progress`).
    """
    progress = measure_progress(run)
    chance = log(run.config.model.stated("n_classes"))
    panels = [
        _sides_panel(progress, "accuracy", "accuracy\n(share of sums)", exp(-chance)),
        _sides_panel(progress, "loss", "loss (nats)", chance),
        _progress_panel(progress, chance),
        _sparsity_panel(progress),
    ]
    caption = GROKKING_CAPTION
    llc = run.table[run.table["analysis"] == "llc"]
    if len(llc):
        wide = _widen_llc(llc)
        panels.append(_llc_panel(wide))
        caption = replace(caption, see=caption.see + _count_local(wide))

    best = progress.sort_values("test_loss").iloc[0]
    until = f"not grokked by step {progress.index[-1]:,}"
    verdict = "grokked" if best["test_accuracy"] > 0.9 else until
    at = f"test accuracy {best['test_accuracy']:.2f} at step {best.name:,}"
    return FigureData(
        name="grokking",
        title=f"{run.name}, {verdict}: {at}, whose key frequencies are taken",
        caption=caption,
        blocks=stack_panels(panels, 2.2),
    )


def _chance(value: float) -> tuple[Level, ...]:
    return (Level(value=value, name="chance", kind="chance"),)


def _sides_panel(progress: pd.DataFrame, quantity: str, label: str, chance: float) -> CurvePanel:
    """A score on sums trained on, and on the others."""
    trained = progress[f"train_{quantity}"]
    others = progress[f"test_{quantity}"]

    return CurvePanel(
        x=EARLY_STEPS,
        y=Axis(label=label, scale="log" if quantity == "loss" else "linear"),
        curves=(
            build_curve(trained, "sums trained on", colour="grey"),
            build_curve(others, "other sums"),
        ),
        levels=_chance(chance),
        legend="inside",
    )


def _progress_panel(progress: pd.DataFrame, chance: float) -> CurvePanel:
    curves = [
        build_curve(progress[name], label, colour=colour, style=style)
        for name, (label, colour, style) in PROGRESS.items()
    ]

    return CurvePanel(
        x=EARLY_STEPS,
        y=Axis(label="progress measures:\nloss (nats)", scale="log"),
        curves=tuple(curves),
        levels=_chance(chance),
        legend="inside",
    )


def _sparsity_panel(progress: pd.DataFrame) -> CurvePanel:
    share = "key frequencies' share of the logits' variance"

    return CurvePanel(
        x=EARLY_STEPS,
        y=Axis(label="Fourier sparsity\n(share)", low=0, high=1),
        curves=(
            build_curve(progress["gini"], "Gini, embedding", colour="green"),
            build_curve(progress["key_share"], share, colour="pink"),
        ),
        levels=(Level(value=float(progress["gini"].iloc[0]), name="Gini, step 0"),),
        legend="inside",
    )


def _widen_llc(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a checkpoint, a column a quantity of `llc`; NaN where an earlier version had none."""
    rows = rows[rows["split"] == ("train" if "train" in set(rows["split"]) else "test")]
    wide = rows.pivot_table("value", "step", "quantity", observed=True)
    return wide.reindex(columns=pd.Index(list(LLC.quantities)))


def _count_local(wide: pd.DataFrame) -> str:
    return LLC_CAPTION.format(local=int((wide["local"] > 0).sum()), all=len(wide))


def _llc_panel(wide: pd.DataFrame) -> CurvePanel:
    """The LLC with its standard deviation over chains; crosses where the sampler diverged.

    Points that are not converged are hollow, and say why where they are few.
    """
    is_converged = (wide["settled"] > 0) & (wide["near"] > 0)
    others = wide[wide["llc"].notna() & ~is_converged]

    return CurvePanel(
        x=EARLY_STEPS,
        y=Axis(label="local learning\ncoefficient (no unit)"),
        curves=(
            _estimate_curve(wide),
            _point_curve(wide[is_converged], "converged", "blue"),
            _point_curve(others, "not converged (hollow)", "grey"),
            replace(_point_curve(others, "", "white"), marker="dot"),
            _diverged_curve(wide),
        ),
        levels=(Level(value=0, kind="reference"),),
        words=tuple(_explain_points(others)) if len(others) <= MOST_WORDS else (),
        legend="inside",
    )


def _estimate_curve(wide: pd.DataFrame) -> Curve:
    """The mean of the chains, with a standard deviation on either side."""
    value = wide["llc"].to_numpy(float)
    error = wide["llc_sd"].to_numpy(float)

    return Curve(
        x=wide.index.to_numpy(float),
        y=value,
        label="mean of the chains, standard deviation shaded",
        width=1.0,
        band=(value - error, value + error),
    )


def _point_curve(rows: pd.DataFrame, label: str, colour: str) -> Curve:
    """A point a checkpoint; no line in the legend where there is none."""
    return Curve(
        x=rows.index.to_numpy(float),
        y=rows["llc"].to_numpy(float),
        label=label if len(rows) else "",
        colour=colour,
        style="none",
        marker="circle",
    )


def _explain_points(rows: pd.DataFrame) -> Iterator[Words]:
    """What is beyond its bound at each point."""
    for step, row in rows.iterrows():
        bounds = {
            f"R-hat {row['r_hat']:.2f}": row["r_hat"] < MIXED,
            f"trend {row['trend']:+.0%}": abs(row["trend"]) < STEADY,
            f"excess {row['excess']:.0%}": row["excess"] < NEAR,
        }
        text = ", ".join(name for name, is_within in bounds.items() if not is_within)
        yield Words(x=float(str(step)), y=float(row["llc"]), text=f" {text}", size=6.0)


def _diverged_curve(wide: pd.DataFrame) -> Curve:
    """Crosses below the estimates at the steps where the sampler diverged."""
    steps = wide.index[wide["diverged"] > 0].to_numpy(float)
    lowest = np.nanmin(np.append(wide["llc"] - wide["llc_sd"], 0.0))

    return Curve(
        x=steps,
        y=np.full(len(steps), lowest),
        label="sampler diverged" if len(steps) else "",
        colour="orange",
        style="none",
        marker="cross",
    )


GROKKING = FigureRow(
    name="grokking", draw=draw_grokking, needs=frozenset({"fourier"}), is_headline=True
)


TRACES_CAPTION = Caption(
    see="Chains that settle on one level above their start: the sampler explores one basin.",
    otherwise="chains leave for chance or go on rising: the coefficient means nothing there.",
)


def draw_traces(estimate: LlcEstimate) -> FigureData:
    """The sampler's chains: loss against its own steps; those that do not count are shaded."""
    curves = [
        Curve(
            x=np.arange(len(chain), dtype=float),
            y=np.asarray(chain, float),
            label=f"chain {place}",
            colour=SETTINGS[place % len(SETTINGS)],
            width=0.8,
        )
        for place, chain in enumerate(estimate.traces)
    ]
    top = max(float(curve.y.max()) for curve in curves)
    levels = [Level(value=estimate.start, name="at the start", kind="reference")]
    if estimate.chance < top:
        levels.append(Level(value=estimate.chance, name="chance", kind="chance"))
    panel = CurvePanel(
        x=Axis(label="step of the sampler"),
        y=Axis(label="loss (nats)"),
        curves=tuple(curves),
        levels=tuple(levels),
        spans=(Span(start=0, end=estimate.settings.burn_in, label="burn-in", colour="grey"),),
        legend="inside",
    )

    return FigureData(
        name="traces",
        title="chains of the sampler of the local learning coefficient",
        caption=TRACES_CAPTION,
        blocks=stack_panels([panel], 3.0),
    )
