"""Curves of a sweep: many runs against step, a colour a setting, and aligned at their onsets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from toyvit.dynamics.transitions import Transition, detect_in_curve
from toyvit.report.curves import (
    baseline_levels,
    build_curve,
    name_loss,
    name_score,
    schedule_events,
    score_axis,
)
from toyvit.report.panels import Axis, Block, Curve, CurvePanel, FigureData
from toyvit.report.style import SETTINGS, list_looks
from toyvit.runs.handle import Run
from toyvit.runs.table import has_measures

Settings = dict[Path, list[Run]]  # a folder of seeds -> its measured runs


def open_settings(runs: Sequence[Run | Path | str]) -> Settings:
    """Runs by the folder that they stand in, each opened once; those not measured are left out."""
    settings: Settings = {}
    for run in map(Run.open, runs):
        seeds = settings.setdefault(run.path.parent, [])
        if has_measures(run.folder):
            seeds.append(run)
    return dict(sorted(settings.items()))


def draw_sweep_losses(settings: Settings) -> FigureData:
    """Loss of many runs against step, a colour and a line style for each folder of seeds, its
    median in bold.
    """
    looks = list_looks(len(settings), SETTINGS)
    curves: list[Curve] = []
    for (folder, runs), (colour, dash) in zip(settings.items(), looks, strict=True):
        values = [run.curve("performance", "loss") for run in runs]
        for seed in values:
            curves.append(build_curve(seed, colour=colour, style=dash, width=0.6, opacity=0.6))
        if values:
            label = f"{folder.name}, {len(values)} seeds"
            median = take_median(values)
            curves.append(build_curve(median, label, colour=colour, style=dash, width=2.0))

    first = next((runs[0] for runs in settings.values() if runs), None)
    panel = CurvePanel(
        x=Axis(label="training step"),
        y=Axis(label=name_loss(first) if first else "loss", low=0),
        curves=tuple(curves),
        levels=baseline_levels(first, "loss") if first else (),
        legend="inside" if first else "none",
    )
    return FigureData(
        name="sweep_loss",
        title="a thin line a seed, the median of each setting in bold",
        see="Settings whose bold lines part learn at other speeds; thin lines: seeds.",
        otherwise="bold lines lie among each other's thin ones, or at the dotted baselines.",
        blocks=(Block(panels=((panel,),), cell=(7.5, 3.8), margin=(1.2, 0.3)),),
    )


def draw_sweep_bands(settings: Settings) -> FigureData:
    """Accuracy of many runs, a colour for each folder of seeds, its median in bold: against step,
    and aligned at their onset.

    The right panel has the runs in which the detector finds a transition; its step axis counts from
    each run's own onset. It is left out where no run has one.
    """
    curves: list[Curve] = []
    aligned: list[Curve] = []
    n_runs = 0
    colours = SETTINGS * len(settings)
    for (folder, runs), colour in zip(settings.items(), colours, strict=False):
        values = [run.curve("performance", "accuracy") for run in runs]
        at = schedule_events(runs[0]) if runs else ()
        n_runs += len(runs)
        for seed in values:
            curves.append(build_curve(seed, colour=colour, width=0.6, opacity=0.6))
            if change := detect_in_curve(seed, at):
                aligned.append(_align(seed, change, colour))
        if values:
            label = f"{folder.name}, {len(values)} seeds"
            curves.append(build_curve(take_median(values), label, colour=colour, width=2.0))

    first = next((runs[0] for runs in settings.values() if runs), None)
    panels = [_band_panel(first, curves, "training step", "all runs, median in bold")]
    if aligned:
        title = f"{len(aligned)} of {n_runs} runs with a transition, aligned"
        label = "steps after each run's own onset"
        panels.append(_band_panel(first, aligned, label, title))
    return FigureData(
        name="sweep",
        title=f"{n_runs} runs: {name_score(first) if first else 'accuracy'}",
        see=(
            "How far seeds of one setting differ, and which settings learn sooner. "
            + (
                "Aligned at their onsets, runs that share one shape fall on one curve."
                if aligned
                else "The detector finds no transition in any run, so none is aligned."
            )
        ),
        otherwise="all lines lie at the dotted baselines, or among each other.",
        blocks=(
            Block(
                panels=(tuple(panels),),
                share_x=False,
                share_y=True,
                cell=(4.6 if aligned else 7.5, 3.4),
                margin=(1.2, 0.3),
            ),
        ),
    )


def _align(values: pd.Series, change: Transition, colour: str) -> Curve:
    return Curve(
        x=(values.index - change.onset).to_numpy(float),
        y=values.to_numpy(float),
        colour=colour,
        width=0.6,
        opacity=0.6,
    )


def _band_panel(first: Run | None, curves: list[Curve], label: str, title: str) -> CurvePanel:
    return CurvePanel(
        x=Axis(label=label),
        y=score_axis(first) if first else Axis(label="accuracy (share of pictures)"),
        title=title,
        curves=tuple(curves),
        levels=baseline_levels(first, "accuracy") if first else (),
        legend="inside" if any(curve.label for curve in curves) else "none",
    )


def take_median(curves: Sequence[pd.Series]) -> pd.Series:
    """The median over runs at every step of any, between each one's first and last."""
    return pd.concat(curves, axis=1).interpolate(limit_area="inside").median(axis=1)
