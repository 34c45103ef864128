"""The pictures of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from studies.when_not_whether.crosses import Table
from studies.when_not_whether.transplants import Transplant
from toyvit.dynamics.crosses import Cross

# Okabe and Ito's palette, which colour-blind readers tell apart.
COLOURS = {"weights": "#0072B2", "stream": "#E69F00", "interaction": "#999999"}
NAMES = {"weights": "first weights", "stream": "data stream", "interaction": "interaction"}


def save(figure: plt.Figure, file: Path) -> None:
    figure.savefig(file, dpi=110, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def draw_crosses(tables: Sequence[Table], file: Path) -> None:
    """Each recipe's half-way steps: first weights down, in order of their mean, streams across."""
    figure, axes = plt.subplots(1, len(tables), figsize=(2.3 * len(tables), 4.2), layout="tight")
    for axis, table in zip(axes, tables, strict=True):
        steps = np.where(np.isinf(table.steps), np.nan, table.steps)
        order = np.nanmean(steps, 1).argsort()
        drawn = axis.imshow(steps[order], aspect="auto", cmap="viridis", interpolation="none")
        axis.set_title(table.recipe, fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_xlabel(f"{len(table.streams)} data streams", fontsize=8)
        bar = figure.colorbar(drawn, ax=axis, location="bottom", pad=0.12)
        bar.set_label("half-way step", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    axes[0].set_ylabel(f"{len(tables[0].inits)} first weights, earliest on top", fontsize=8)
    save(figure, file)


def draw_shares(
    explored: Mapping[str, Cross], confirmed: Mapping[str, Cross], bound: float, file: Path
) -> None:
    """Shares of variance with their intervals: explored open, confirmed filled."""
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), sharey=True, layout="tight")
    recipes = list(explored)
    for axis, factor in zip(axes, NAMES, strict=True):
        for place, recipe in enumerate(recipes):
            _draw_share(axis, explored[recipe], factor, place - 0.14, filled=False)
            if recipe in confirmed:
                _draw_share(axis, confirmed[recipe], factor, place + 0.14, filled=True)
        axis.set_title(NAMES[factor], fontsize=10)
        axis.set_xlim(-0.02, 1.02)
        axis.set_xlabel("share of the variance of log half-way step", fontsize=8)
        axis.grid(axis="x", alpha=0.3)
    axes[0].axvline(bound, color="black", linestyle="dotted", linewidth=1)
    axes[0].annotate("claimed", (bound, -0.75), fontsize=8, ha="center")
    axes[0].set_yticks(range(len(recipes)), recipes, fontsize=8)
    axes[0].set_ylim(len(recipes) - 0.4, -0.9)
    axes[2].plot([], [], "o", color="grey", mfc="white", label="explored")
    axes[2].plot([], [], "o", color="grey", label="confirmed, fresh seeds")
    axes[2].legend(fontsize=8, loc="lower right")
    save(figure, file)


def _draw_share(axis: Axes, cross: Cross, factor: str, place: float, *, filled: bool) -> None:
    share = getattr(cross, factor)
    colour = COLOURS[factor]
    axis.plot([share.low, share.high], [place, place], color=colour, linewidth=2)
    face = colour if filled else "white"
    axis.plot([share.value], [place], "o", color=colour, mfc=face, markersize=6)


def draw_transplants(parts: Mapping[str, Sequence[Transplant]], file: Path) -> None:
    """How far a part of an early start makes a late one early: dots are pairs, bars the mean."""
    figure, axes = plt.subplots(
        1, len(parts), figsize=(3.4 * len(parts), 4.2), sharex=True, layout="tight"
    )
    for axis, (recipe, transplants) in zip(np.atleast_1d(axes), parts.items(), strict=True):
        for place, item in enumerate(transplants):
            axis.barh(place, np.mean(item.shares), color="#56B4E9", alpha=0.7)
            axis.plot(item.shares, [place] * len(item.shares), "o", color="black", markersize=3)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.axvline(1, color="black", linewidth=0.8, linestyle="dotted")
        axis.set_yticks(range(len(transplants)), [item.part for item in transplants], fontsize=8)
        axis.invert_yaxis()
        axis.set_title(recipe, fontsize=10)
        axis.set_xlabel("share of the way from late (0) to early (1)", fontsize=8)
    save(figure, file)
