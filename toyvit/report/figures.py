"""Figures drawn from a run's table of measures: curves against training step, with the naive baselines in every panel."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toyvit.config import find_rate_changes
from toyvit.dynamics.transitions import detect_in_curve, find_window
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import load_baselines, load_table
from toyvit.runs.table import has_measures, select_curve, select_main_rows

# Colours of Okabe & Ito, told apart by readers who see few colours.
BLUE, ORANGE, GREEN, PINK, SKY, YELLOW = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#F0E442",
)
GREY = "#666666"


def draw_phase_transition(path: Path, control: Path | None = None) -> Figure:
    """Loss, accuracy, induction mass and previous-cell mass against step, with baselines and the transition shaded."""
    quantities = {
        "loss (nats)": ("performance", "loss"),
        "accuracy": ("performance", "accuracy"),
        "induction mass\n(strongest head)": ("induction", "mass"),
        "previous-cell mass\n(label cells, strongest head)": ("induction", "previous_cell"),
    }
    figure = Figure(figsize=(8, 9), layout="constrained")
    panels = figure.subplots(4, 1, sharex=True)
    for panel, (name, (analysis, quantity)) in zip(panels, quantities.items(), strict=True):
        _compare(panel, analysis, quantity, path, control)
        panel.set_ylabel(name)
    naive = load_baselines(path)
    _levels(panels[0], naive, "loss")
    _levels(panels[1], naive, "accuracy")
    attended = _attended_cells(path)
    for panel, (share, label) in zip(panels[2:], attended, strict=True):
        mark_levels(panel, {label: share})
    rise = find_window(
        select_curve(load_table(path), "performance", "accuracy"),
        naive.get("accuracy.bag_of_labels", 0),
    )
    for panel in panels:
        if rise:
            panel.axvspan(*rise, color=YELLOW, alpha=0.4, lw=0, label="10 % to 90 % of the rise")
        mark_rate_changes(panel, path)
    panels[0].legend(fontsize="small")
    panels[-1].set_xlabel("training step")
    return figure


def _attended_cells(path: Path) -> list[tuple[float, str]]:
    """What the two masses are for attention spread evenly: over the label cells, and over a label cell's own past."""
    from toyvit.data.task import build_task
    from toyvit.runs.handle import Run

    run = Run(path).config
    retrieval = build_task(run.task).eval_batch("test", 2, 0).retrieval
    assert retrieval is not None
    before = (
        1 / (retrieval.candidates[0] + 1.0)
        if run.model.mask == "causal"
        else 1 / run.model.n_tokens + 0.0 * retrieval.candidates[0]
    )
    return [
        (1 / retrieval.candidates.shape[1], "spread over the labels"),
        (before.mean().item(), "uniform attention"),
    ]


def draw_learning(path: Path, beside: Path | None = None) -> Figure:
    """Loss and accuracy on the evaluation images against step, with the naive baselines."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True)
    naive = load_baselines(path)
    names = (
        "loss (nats)" if name_score(path) == "accuracy" else "mean squared error",
        name_score(path),
    )
    for panel, quantity, name in zip(panels, ("loss", "accuracy"), names, strict=True):
        _compare(panel, "performance", quantity, path, beside)
        _levels(panel, naive, quantity)
        panel.set_ylabel(name)
        mark_rate_changes(panel, path)
    panels[0].legend(fontsize="small")
    set_step_axis(panels[-1])
    return figure


def name_score(path: Path) -> str:
    """What stands under `accuracy` in a run's measures: `accuracy`, or `R^2` where numbers are asked for."""
    return "R^2" if "accuracy.mean" in load_baselines(path) else "accuracy"


def schedule_events(path: Path) -> tuple[int, ...]:
    """The steps at which a run's learning rate changes abruptly."""
    return find_rate_changes(RunFolder(path).read_config().train)


def mark_rate_changes(panel: Axes, path: Path) -> None:
    """Thin lines on a step axis where a run's learning rate changes abruptly, in the range that is shown."""
    low, high = panel.get_xlim()
    for place, step in enumerate(schedule_events(path)):
        if low <= step <= high:
            panel.axvline(
                step,
                color=PINK,
                ls="-.",
                lw=0.8,
                label="" if place else "the learning rate bends or jumps",
            )


def draw_strategies(path: Path, beside: Path | None = None) -> Figure:
    """How far the model is from predictors that know the world, KL(strategy, model), and attention to the patch before."""
    frame = load_table(path)
    names = frame.loc[frame["analysis"] == "strategies", "strategy"].unique()
    figure = Figure(figsize=(8, 6), layout="constrained")
    panels = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for name, shade in zip(names, pick_shades(len(names)), strict=True):
        values = select_curve(frame, "strategies", "kl", strategy=name)
        _line(panels[0], values, color=shade, label=name)
    if beside:
        values = select_curve(load_table(beside), "strategies", "kl", strategy="truth")
        _line(panels[0], values, color=ORANGE, ls="--", label=f"truth, {beside.name}")
    known = {
        name.removeprefix("kl."): value
        for name, value in load_baselines(path).items()
        if name.startswith("kl.")
    }
    mark_levels(
        panels[0], {f"{name} from truth": value for name, value in known.items() if value > 0}
    )
    _compare(panels[1], "attention", "previous", path, beside)
    panels[0].set_ylabel("KL(strategy, model), nats")
    panels[1].set_ylabel("attention to the\npatch before\n(strongest head)")
    panels[0].set_ylim(bottom=0)
    panels[0].legend(title="strategy", fontsize="small")
    set_step_axis(panels[1])
    return figure


def draw_sweep_losses(paths: list[Path]) -> Figure:
    """Loss of many runs against step, a colour and a line style for each folder of seeds, its median in bold."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    panel = figure.subplots()
    styles = [
        (colour, style) for style in _STYLES for colour in (BLUE, ORANGE, GREEN, PINK, SKY, GREY)
    ]
    for setting, (colour, style) in zip(
        sorted({path.parent for path in paths}), styles, strict=False
    ):
        known = [path for path in paths if path.parent == setting and has_measures(RunFolder(path))]
        curves = [select_curve(load_table(path), "performance", "loss") for path in known]
        for values in curves:
            _line(panel, values, color=colour, ls=style, lw=0.6, alpha=0.6)
        if curves:
            median = pd.concat(curves, axis=1).interpolate(limit_area="inside").median(axis=1)
            _line(
                panel,
                median,
                color=colour,
                ls=style,
                lw=2,
                label=f"{setting.name}, {len(curves)} seeds",
            )
    panel.set(xlabel="training step", ylabel="loss (nats), a thin line a seed, the median in bold")
    panel.set_ylim(bottom=0)
    for path in [path for path in paths if has_measures(RunFolder(path))][:1]:
        _levels(panel, load_baselines(path), "loss")
        panel.legend(fontsize="small")
    return figure


def draw_sweep_bands(paths: list[Path]) -> Figure:
    """Accuracy of many runs, a colour for each folder of seeds, its median in bold: against step, and aligned at their onset.

    The right panel has the runs in which the detector finds a transition; its step axis counts from each run's own onset.
    """
    settings = sorted({path.parent for path in paths})
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for setting, colour in zip(
        settings, (BLUE, ORANGE, GREEN, PINK, SKY, GREY) * len(settings), strict=False
    ):
        known = [path for path in paths if path.parent == setting and has_measures(RunFolder(path))]
        curves = [select_curve(load_table(path), "performance", "accuracy") for path in known]
        at = schedule_events(known[0]) if known else ()
        for values in curves:
            _line(panels[0], values, color=colour, lw=0.6, alpha=0.6)
            if change := detect_in_curve(values, at):
                panels[1].plot(values.index - change.onset, values, color=colour, lw=0.6, alpha=0.6)
        if curves:
            median = pd.concat(curves, axis=1).interpolate(limit_area="inside").median(axis=1)
            _line(
                panels[0], median, color=colour, lw=2, label=f"{setting.name}, {len(curves)} seeds"
            )
            panels[0].legend(fontsize="small")
    for path in [path for path in paths if has_measures(RunFolder(path))][:1]:
        for panel in panels:
            _levels(panel, load_baselines(path), "accuracy", named=panel is panels[-1])
        panels[0].set_ylabel(name_score(path))
    panels[0].set_xlabel("training step")
    panels[1].set(xlabel="steps after each run's onset", title="runs with a transition, aligned")
    panels[0].set_title("all runs, median in bold")
    return figure


def draw_probes(path: Path, beside: Path | None = None) -> Figure:
    """Accuracy of linear probes by layer over training: one column a token group, one row a factor."""
    frame = load_table(path)
    rows = frame[(frame["analysis"] == "probes") & (frame["quantity"] == "accuracy")]
    factors, groups = list(rows["factor"].unique()), list(rows["group"].unique())
    figure = Figure(figsize=(4 * len(groups), 2.8 * len(factors)), layout="constrained")
    panels = figure.subplots(len(factors), len(groups), sharex=True, sharey="row", squeeze=False)
    for factor, row in zip(factors, panels, strict=True):
        for group, panel in zip(groups, row, strict=True):
            _probe_panel(panel, frame, factor, group)
        row[0].set_ylabel(f"probe accuracy\n{factor}")
    for group, panel in zip(groups, panels[0], strict=True):
        panel.set_title(_GROUPS[group], fontsize="medium")
    for panel in panels[-1]:
        set_step_axis(panel)
    figure.legend(
        handles=panels[0, 0].get_lines(), fontsize="small", loc="outside lower center", ncols=4
    )
    return figure


_GROUPS = {
    "cls": "CLS",
    "registers": "mean register",
    "patches": "mean patch",
    "last": "last patch",
}


def _probe_panel(panel: Axes, frame: pd.DataFrame, factor: str, group: str) -> None:
    """A line a layer (step 0 is the untrained network); the probe on raw pixels and the one on shuffled labels as levels."""
    layers = sorted(frame.loc[frame["analysis"] == "probes", "layer"].dropna().unique())
    for layer, shade in zip(layers, pick_shades(len(layers)), strict=True):
        name = "embedding" if layer == 0 else f"after block {layer - 1}"
        values = select_curve(frame, "probes", "accuracy", factor=factor, group=group, layer=layer)
        _line(panel, values, color=shade, label=name)
    pixels = select_curve(frame, "probes", "accuracy_pixels", factor=factor).iloc[-1]
    shuffled = select_curve(
        frame, "probes", "accuracy_shuffled", "mean", factor=factor, group=group
    ).mean()
    panel.axhline(pixels, color=GREY, ls="--", lw=1, label="on raw pixels")
    panel.axhline(shuffled, color=GREY, ls=":", lw=1, label="on shuffled labels")
    panel.set_ylim(0, 1.02)


def pick_shades(n: int) -> list[tuple[float, ...]]:
    from matplotlib import colormaps

    return [colormaps["viridis"](0.85 * place / max(1, n - 1)) for place in range(n)]


def draw_by_factor(path: Path, beside: Path | None = None) -> Figure:
    """Accuracy of the pictures with each value of a factor against step, a panel a factor; all pictures in black."""
    frame = select_main_rows(load_table(path))
    rows = frame[(frame["analysis"] == "by_factor") & (frame["quantity"] == "accuracy_of_value")]
    factors = sorted(rows["factor"].unique())
    down = -(-len(factors) // 3)
    figure = Figure(figsize=(10, 2.6 * down + 0.4), layout="constrained")
    panels = figure.subplots(
        down, min(3, len(factors)), sharex=True, sharey=True, squeeze=False
    ).flatten()
    whole = select_curve(frame, "performance", "accuracy")
    for panel, factor in zip(panels, factors, strict=False):
        curves = rows[rows["factor"] == factor].pivot_table(
            index="step", columns="level", values="value"
        )
        for (level_of, values), shade in zip(
            curves.items(), pick_shades(len(curves.columns)), strict=True
        ):
            _line(panel, values, color=shade, lw=1, label=f"{level_of}")
        _line(panel, whole, color="black", lw=1.5)
        _levels(panel, load_baselines(path), "accuracy", named=factor == factors[-1])
        panel.set_title(factor.replace("_", " "), fontsize="medium")
        panel.legend(fontsize=6, ncols=2, loc="upper left")
    for panel in panels[len(factors) :]:
        panel.set_visible(False)
    for panel in panels[max(0, len(factors) - 3) : len(factors)]:
        set_step_axis(panel)
    for row in range(down):
        panels[row * min(3, len(factors))].set_ylabel("accuracy")
    return figure


def draw_head_ablation(path: Path, beside: Path | None = None) -> Figure:
    """Accuracy with one head silenced, by zero and by its mean over images, against step; the intact model in black.

    A colour a layer, a line style a head; the head whose loss costs most at the end is named in the panel.
    """
    frame = load_table(path)
    heads = frame.loc[
        (frame["analysis"] == "head_ablation") & frame["head"].notna(), ["layer", "head"]
    ].drop_duplicates()
    colours = (BLUE, ORANGE, GREEN, PINK, SKY, GREY) * (1 + int(heads["layer"].max()) // 6)
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, ablation in zip(panels, ("zero", "mean"), strict=True):
        intact = select_curve(frame, "performance", "accuracy")
        _line(panel, intact, color="black", lw=2, label="intact")
        lowest = (2.0, 0, "")
        for layer, head in heads.itertuples(index=False, name=None):
            without = select_curve(
                frame, "head_ablation", "accuracy", ablation=ablation, layer=layer, head=head
            )
            style, name = _STYLES[head % len(_STYLES)], f"without layer {layer}, head {head}"
            _line(panel, without, color=colours[layer], ls=style, lw=1.2, label=name)
            lowest = min(lowest, (without.iloc[-1], without.index[-1], name))
        value, step, name = lowest
        panel.annotate(
            name, (step, value), (0, -14), textcoords="offset points", ha="right", fontsize=8
        )
        _levels(panel, load_baselines(path), "accuracy", named=panel is panels[-1])
        panel.set_title(
            f"head output replaced by {'zero' if ablation == 'zero' else 'its mean over images'}",
            fontsize="medium",
        )
        panel.set_xlabel("training step")
    panels[0].set_ylabel(name_score(path))
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside right center", fontsize="small"
    )
    return figure


def _compare(panel: Axes, analysis: str, quantity: str, path: Path, beside: Path | None) -> None:
    for colour, run in ((BLUE, path), *(((ORANGE, beside),) if beside else ())):
        frame = load_table(run)
        for split, style in zip(_splits(frame, analysis), ("-", "--", ":", "-."), strict=False):
            values = select_curve(frame, analysis, quantity, split=split)
            _line(
                panel,
                values,
                color=colour,
                ls=style,
                label=run.name if split == "test" else f"{run.name}, {split}",
            )


def _splits(frame: pd.DataFrame, analysis: str) -> list[str]:
    """`test`, and the other splits that an analysis was run on at more than one step."""
    steps = frame[frame["analysis"] == analysis].groupby("split")["step"].nunique()
    return sorted(
        steps.index[(steps > 1) | (steps.index == "test")],
        key=lambda split: (split != "test", split),
    )


def _line(panel: Axes, values: pd.Series, **style: Any) -> None:
    """A curve over steps; a dot where there is one step only."""
    panel.plot(values.index, values, marker="o" if len(values) == 1 else None, ms=4, **style)


_STYLES = ("-", "--", ":", "-.")


def _levels(panel: Axes, naive: dict[str, float], quantity: str, named: bool = True) -> None:
    found = {
        name.split(".")[1].replace("_", " "): value
        for name, value in naive.items()
        if name.split(".")[0] == quantity
    }
    mark_levels(panel, found, named)


def mark_levels(panel: Axes, values: dict[str, float], named: bool = True) -> None:
    """Dotted lines across a panel, their names to the right of it, moved up where they would cover each other."""
    for value in values.values():
        panel.axhline(value, color=GREY, ls=":", lw=1)
    low, high = panel.get_ylim()
    gap = (
        8 / 72 * panel.figure.dpi / panel.get_window_extent().height * (high - low)
    )  # a line of text
    place = -float("inf")
    for name, value in sorted(values.items(), key=lambda item: item[1]) if named else ():
        place = max(value, place + gap)
        at: Any = ("axes fraction", "data")
        line = {"arrowstyle": "-", "color": GREY, "lw": 0.4, "shrinkA": 0, "shrinkB": 0}
        panel.annotate(
            name, (1, value), (1.03, place), at, at, line, va="center", fontsize=7, color=GREY
        )


def set_step_axis(panel: Axes) -> None:
    """A step axis that shows step 0 and spreads the early steps: linear to 10, logarithmic from there."""
    panel.set_xscale("symlog", linthresh=10)
    panel.set_xlim(left=0)
    panel.set_xticks([0, *_decades(panel.get_xlim()[1])])
    panel.set_xticklabels([f"{step:,}" for step in (0, *_decades(panel.get_xlim()[1]))])
    panel.set_xlabel("training step (logarithmic from 10)")


def _decades(most: float) -> Iterable[int]:
    return [10**power for power in range(1, 9) if 10**power <= most]
