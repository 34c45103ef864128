"""Curves of a sweep: many runs against step, a colour a setting, and aligned at their onsets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from toyvit.dynamics.transitions import AbruptChange, detect_in_curve
from toyvit.report.curves import (
    STEPS,
    baseline_levels,
    build_curve,
    name_loss,
    name_score,
    score_axis,
    stack_panels,
)
from toyvit.report.panels import (
    Axis,
    Block,
    Caption,
    Curve,
    CurvePanel,
    FigureData,
)
from toyvit.report.style import SETTINGS, list_looks
from toyvit.runs.handle import Run

Settings = dict[Path, list[Run]]  # a folder of seeds -> its measured runs


def open_settings(runs: Sequence[Run | Path | str]) -> Settings:
    """Runs by the folder that they stand in, each opened once; those not measured are left out."""
    settings: Settings = {}
    for run in map(Run.open, runs):
        seeds = settings.setdefault(run.path.parent, [])
        if run.is_measured:
            seeds.append(run)
    return dict(sorted(settings.items()))


SWEEP_LOSS_CAPTION = Caption(
    see="Settings whose bold lines part learn at other speeds; thin lines: seeds.",
    otherwise="bold lines lie among each other's thin ones, or at the dotted baselines.",
)


def draw_sweep_losses(settings: Settings) -> FigureData:
    """Loss of many runs, a colour and a line style for each folder of seeds, its median in bold."""
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

    return FigureData(
        name="sweep_loss",
        title="a thin line a seed, the median of each setting in bold",
        caption=SWEEP_LOSS_CAPTION,
        blocks=stack_panels([_loss_panel(_find_first(settings), curves)], 3.8),
    )


def _loss_panel(first: Run | None, curves: list[Curve]) -> CurvePanel:
    return CurvePanel(
        x=STEPS,
        y=Axis(label=name_loss(first) if first else "loss (nats)", low=0),
        curves=tuple(curves),
        levels=baseline_levels(first, "loss") if first else (),
        legend="inside" if first else "none",
    )


SWEEP_CAPTION = Caption(
    see=(
        "How far seeds of one setting differ, and which settings learn sooner. The detector finds "
        "no abrupt change in any run, so none is aligned."
    ),
    otherwise="all lines lie at the dotted baselines, or among each other.",
)
ALIGNED_CAPTION = Caption(
    see=(
        "How far seeds of one setting differ, and which settings learn sooner. Aligned at their "
        "onsets, runs that share one shape fall on one curve."
    ),
    otherwise=SWEEP_CAPTION.otherwise,
)


def draw_sweep_bands(settings: Settings) -> FigureData:
    """Accuracy of many runs, a colour a folder of seeds: against step, and aligned at their onset.

    The right panel has the runs that change abruptly; it is left out where none does.
    """
    curves, aligned = _collect_bands(settings)
    n_runs = sum(map(len, settings.values()))
    first = _find_first(settings)
    panels = [_band_panel(first, curves, "training step", "all runs, median in bold")]
    if aligned:
        title = f"{len(aligned)} of {n_runs} runs change abruptly, aligned"
        label = "steps after each run's own onset"
        panels.append(_band_panel(first, aligned, label, title))
    size = (4.6 if aligned else 7.5, 3.4)
    grid = Block(panels=(tuple(panels),), share_x=False, share_y=True, cell=size, margin=(1.2, 0.3))

    return FigureData(
        name="sweep",
        title=f"{n_runs} runs: {name_score(first) if first else 'accuracy'}",
        caption=ALIGNED_CAPTION if aligned else SWEEP_CAPTION,
        blocks=(grid,),
    )


def _collect_bands(settings: Settings) -> tuple[list[Curve], list[Curve]]:
    """Curves of all runs with the median of each setting, and those with a transition, aligned."""
    curves: list[Curve] = []
    aligned: list[Curve] = []
    colours = SETTINGS * len(settings)
    for (folder, runs), colour in zip(settings.items(), colours, strict=False):
        values = [run.curve("performance", "accuracy") for run in runs]
        for run, seed in zip(runs, values, strict=True):
            curves.append(build_curve(seed, colour=colour, width=0.6, opacity=0.6))
            if change := detect_in_curve(seed, run.config.train):
                aligned.append(_align(seed, change, colour))

        if values:
            label = f"{folder.name}, {len(values)} seeds"
            curves.append(build_curve(take_median(values), label, colour=colour, width=2.0))
    return curves, aligned


def _find_first(settings: Settings) -> Run | None:
    """The first measured run of a sweep: the others have its baselines."""
    return next((runs[0] for runs in settings.values() if runs), None)


def _align(values: pd.Series, change: AbruptChange, colour: str) -> Curve:
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
