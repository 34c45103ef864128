"""Figures of what takes several checkpoints: how far the weights moved, and which layers stayed alike."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure, SubFigure
from numpy.typing import NDArray
from torch import Tensor

from toyvit.config import learning_rate
from toyvit.data.task import build_task
from toyvit.dynamics.checkpoints import compare_checkpoints
from toyvit.dynamics.checkpoints import measure_updates as distances
from toyvit.dynamics.transitions import Transition, detect_in_curve
from toyvit.report.figures import (
    BLUE,
    GREY,
    ORANGE,
    PINK,
    SKY,
    YELLOW,
    _line,
    mark_levels,
    mark_rate_changes,
    pick_shades,
    schedule_events,
)
from toyvit.runs.handle import Run, load_table
from toyvit.runs.table import select_curve

STRETCHES, COMPARED = (
    100,
    40,
)  # stretches whose updates are drawn; between the checkpoints whose layers are compared
IMAGES = 128


def draw_updates(path: Path, beside: Path | None = None) -> Figure:
    """Distance moved a step, by part of the model, and the unbiased CKA of every layer between checkpoints.

    Evenly spaced checkpoints, so that stretches are alike. The accuracy's transition, if there is one, is shaded and framed.
    Gradient noise and curvature stand between where they were measured, on training pictures if they were.
    """
    run, frame = Run(path), load_table(path)
    change = detect_in_curve(select_curve(frame, "performance", "accuracy"), schedule_events(path))
    around = {name: rows for name in _AROUND if len(rows := _measured(frame, *name))}
    across, down = run.config.model.n_layers + 1, 1 + run.config.model.cls_token
    heights = (3.6 + 1.8 * len(around), 2.7 * down)
    figure = Figure(figsize=(max(8, 2.6 * across + 1), sum(heights)), layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
    panels = top.subplots(
        1 + len(around), 1, sharex=True, squeeze=False, height_ratios=[2] + [1] * len(around)
    )[:, 0]
    _updates(panels[0], run)
    for panel, (name, values) in zip(panels[1:], around.items(), strict=True):
        panel.plot(values.index, values, "o-", color=BLUE, ms=3, lw=1)
        panel.set(ylabel=_AROUND[name], yscale="log")
        first = {f"at step {values.index[0]}": values.iloc[0]}
        mark_levels(
            panel,
            {"batch size": run.config.train.batch_size} if name[0] == "gradient_noise" else first,
        )
    for panel in panels:
        if change:
            panel.axvspan(
                change.onset,
                change.end,
                color=YELLOW,
                alpha=0.4,
                lw=0,
                label="transition in accuracy",
            )
        mark_rate_changes(panel, path)
    panels[0].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5))
    panels[-1].set_xlabel("training step")
    _layers(
        bottom, run, change, bottom.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    )
    return figure


def _layers(figure: SubFigure, run: Run, change: Transition | None, panels: NDArray[Any]) -> None:
    """A row a token group, a panel a layer: checkpoint by checkpoint."""
    batch = build_task(run.config.task).eval_batch("test", IMAGES, run.config.seeds.measure)
    steps = select_even(run.steps, COMPARED)
    for row, (group, layers) in zip(
        panels, compare_checkpoints(run, batch, steps).items(), strict=True
    ):
        for layer, (panel, matrix) in enumerate(zip(row, layers, strict=True)):
            shown = _similarity(panel, steps, matrix, change)
            panel.set_title(
                f"{_GROUPS[group]}, {f'after block {layer - 1}' if layer else 'embedding'}",
                fontsize="small",
            )
        row[0].set_ylabel("training step")
    for panel in panels[-1]:
        panel.set_xlabel("training step")
    figure.colorbar(shown, ax=panels, label="unbiased CKA\n(1 alike, 0 unrelated)")


_AROUND = {
    ("gradient_noise", "scale"): "gradient noise\nscale (pictures)",
    ("hessian", "top"): "largest Hessian\neigenvalue",
}
_GROUPS = {"cls": "CLS", "patches": "patches"}


def _measured(frame: pd.DataFrame, analysis: str, quantity: str) -> pd.Series:
    """A curve over steps on training pictures, or on test pictures where there is none."""
    on_training = select_curve(frame, analysis, quantity, split="train")
    return on_training if len(on_training) else select_curve(frame, analysis, quantity)


def select_even(steps: list[int], n: int) -> list[int]:
    """Of a run's checkpoints those nearest to n evenly spaced stretches from the first to the last."""
    return sorted(
        {
            min(steps, key=lambda step: abs(step - wanted))
            for wanted in np.linspace(steps[0], steps[-1], n + 1)
        }
    )


def sum_by_part(moved: pd.DataFrame) -> pd.DataFrame:
    """Distance moved a training step, a row a step and a column a part of the model: the root of its parameters' squares."""
    squares = (moved["distance"] / moved["steps"]) ** 2
    return squares.groupby([moved["step"], moved["module"].map(_part)]).sum().pow(0.5).unstack()


def _part(module: str) -> str:
    """`blocks.1.attn.qkv.weight` belongs to `attention 1`; gains and biases of norms are one part."""
    block, _, rest = module.removeprefix("blocks.").partition(".")
    if "ln" in module:
        return "norms"
    if module.startswith("blocks."):
        return f"{'attention' if rest.startswith('attn') else 'MLP'} {block}"
    return {"all": "all", "head": "head"}.get(block, "embedding")


def _updates(panel: Axes, run: Run) -> None:
    """A colour a block, dashed for MLPs; for scale the distance of an update that moves every weight by the learning rate."""
    steps = select_even(run.steps, STRETCHES)
    moved = sum_by_part(distances(run, steps))
    blocks = pick_shades(run.config.model.n_layers)
    fixed = {
        "all": ("black", "-"),
        "embedding": (SKY, ":"),
        "norms": (GREY, ":"),
        "head": (ORANGE, "-"),
    }
    for part, values in moved.items():
        name, _, block = str(part).partition(" ")
        colour, style = (
            (blocks[int(block)], "--" if name == "MLP" else "-") if block else fixed[name]
        )
        _line(
            panel,
            values,
            color=colour,
            ls=style,
            lw=1.2,
            label=f"block {block}, {name}" if block else name,
        )
    size = sum(weight.numel() for weight in run.bare_model(run.steps[0]).parameters())
    rates = [learning_rate(run.config.train, step) * size**0.5 for step in range(1, steps[-1] + 1)]
    means = [np.mean(rates[before:step]) for before, step in pairwise(steps)]
    panel.plot(
        steps[1:],
        means,
        color=PINK,
        ls=(0, (1, 1)),
        lw=1,
        label="every weight by the learning rate",
    )
    panel.set(yscale="log", ylabel="distance moved a step\n(Euclidean norm, mean over a stretch)")


def _similarity(
    panel: Axes, steps: list[int], matrix: Tensor, change: Transition | None
) -> QuadMesh:
    """One layer: step by step, from 0 to 1; grey where the layer does not vary over pictures. The transition in white."""
    panel.set_facecolor("0.8")
    shown = panel.pcolormesh(
        steps, steps, matrix.clamp(0, 1).numpy(), cmap="viridis", vmin=0, vmax=1, shading="nearest"
    )
    for at in (change.onset, change.end) if change else ():
        panel.axvline(at, color="white", ls=":", lw=0.8)
        panel.axhline(at, color="white", ls=":", lw=0.8)
    panel.set_aspect("equal")
    return shown
