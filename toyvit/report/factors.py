"""What pictures with each value of a factor score, and what linear probes read of factors."""

from __future__ import annotations

import pandas as pd

from toyvit.report.curves import (
    EARLY_STEPS,
    baseline_levels,
    build_curve,
)
from toyvit.report.panels import (
    Axis,
    Block,
    Caption,
    Curve,
    CurvePanel,
    FigureData,
    Level,
    lay_out,
    wrap_rows,
)
from toyvit.report.rows import FigureRow, check_pictures, count_pictures
from toyvit.report.style import CYCLE, call_layer, pick_shades
from toyvit.runs.handle import Run
from toyvit.runs.table import select_main_rows

ACROSS = 3  # panels of factors side by side
LEAST_PROBED = 8  # pictures, half of which a probe is fitted on
FEW = 4  # values that are all told apart; of more, three are


BY_FACTOR_CAPTION = Caption(
    see=(
        "Curves that part: pictures with some values of a factor are learned first, others "
        "last (by the mean over steps). Black: all pictures. Few pictures have a rare value, "
        "so its curve is coarse."
    ),
    otherwise="all curves of a panel rise together with the black one.",
)


def draw_by_factor(run: Run, beside: Run | None = None) -> FigureData:
    """Accuracy of the pictures with each value of a factor against step, a panel a factor.

    Of a factor with many values the first learned, the middle one and the last are named; the
    others are grey. All pictures in black.
    """
    rows = select_main_rows(run.table)
    rows = rows[(rows["analysis"] == "by_factor") & (rows["quantity"] == "accuracy_of_value")]
    panels = [
        _factor_panel(run, factor, rows[rows["factor"] == factor])
        for factor in sorted(rows["factor"].unique())
    ]
    grid = wrap_rows(panels, ACROSS)

    return FigureData(
        name="by_factor",
        title=f"{run.name}: which pictures are learned when",
        caption=BY_FACTOR_CAPTION,
        blocks=(Block(panels=grid, share_y=True, cell=(4.3, 2.7), margin=(0.8, 0.3)),),
    )


def _factor_panel(run: Run, factor: str, rows: pd.DataFrame) -> CurvePanel:
    values = rows.pivot_table("value", "step", "level", observed=True)
    named = name_values(values.mean())
    curves = []
    for value in values.columns.tolist():
        colour, label = named.get(value, ("pale", ""))
        width = 1.6 if value in named else 0.7
        scores = values[value]
        curves.append(build_curve(scores, colour=colour, width=width, end_label=label))
    whole = run.curve("performance", "accuracy")
    curves.append(build_curve(whole, colour="black", width=2.0, end_label="all pictures"))

    return CurvePanel(
        x=EARLY_STEPS,
        y=Axis(label="accuracy\n(share of pictures)", low=-0.03, high=1.03),
        title=f"by the value of the factor {factor}",
        curves=tuple(curves),
        levels=baseline_levels(run, "accuracy"),
    )


def name_values(means: pd.Series) -> dict[str, tuple[str, str]]:
    """The values of a factor whose curves are named, each with its colour and its name.

    Of many values the one that is learned last (lowest mean over steps), the middle one, and the
    first.
    """
    if len(means) <= FEW:
        pairs = zip(means.index, CYCLE, strict=False)
        return {value: (colour, f"value {value}") for value, colour in pairs}
    order = means.sort_values(kind="stable").index
    picked = {"last": order[0], "middle": order[len(order) // 2], "first": order[-1]}
    colours = {"last": "orange", "middle": "sky", "first": "green"}
    return {value: (colours[rank], f"value {value}, {rank}") for rank, value in picked.items()}


BY_FACTOR = FigureRow(
    name="by_factor", draw=draw_by_factor, needs=frozenset({"by_factor", "performance"})
)

GROUPS = {
    "cls": "CLS",
    "registers": "mean register",
    "patches": "mean patch",
    "last": "last patch",
}


PROBES_CAPTION = Caption(
    see=(
        "A curve above the dashed line: the layer holds the factor in a form that a linear "
        "probe reads better than from raw pixels. Step 0 is the untrained network."
    ),
    otherwise=(
        "curves stay where they are at step 0; a factor that is not there at all gives what "
        "shuffled labels give (dotted)."
    ),
)


def draw_probes(run: Run, beside: Run | None = None) -> FigureData:
    """Accuracy of linear probes: a row a factor, a column a group of tokens, a line a layer."""
    check_pictures(count_pictures(run), LEAST_PROBED)
    rows = run.table[run.table["analysis"] == "probes"]
    factors = list(rows["factor"].dropna().unique())
    groups = [group for group in GROUPS if (rows["group"] == group).any()]
    corner = (factors[0], groups[-1])

    return FigureData(
        name="probes",
        title=f"{run.name}: what a linear probe reads off the residual stream",
        caption=PROBES_CAPTION,
        blocks=(
            Block(
                panels=lay_out(
                    factors,
                    groups,
                    lambda factor, group: _probe_panel(
                        run, factor, group, rows, has_legend=(factor, group) == corner
                    ),
                ),
                share_y=True,
                row_headers=tuple(factors),
                column_headers=tuple(GROUPS[group] for group in groups),
                cell=(3.6, 2.2),
                margin=(2.0, 0.4),
            ),
        ),
    )


def _probe_panel(
    run: Run, factor: str, group: str, rows: pd.DataFrame, *, has_legend: bool
) -> CurvePanel:
    """A line a layer; the probe on raw pixels and the one on shuffled labels as levels."""
    layers = sorted(rows["layer"].dropna().unique())
    curves: list[Curve] = []
    for layer, shade in zip(layers, pick_shades(len(layers)), strict=True):
        values = run.curve("probes", "accuracy", layer=layer, factor=factor, group=group)
        curves.append(build_curve(values, call_layer(layer), colour=shade))

    return CurvePanel(
        x=EARLY_STEPS,
        y=Axis(label="probe accuracy\n(share of pictures)", low=0, high=1.02),
        curves=tuple(curves),
        levels=_probe_levels(run, factor, group),
        legend="right" if has_legend else "none",
    )


def _probe_levels(run: Run, factor: str, group: str) -> tuple[Level, Level]:
    """What the probe on raw pixels and the one on shuffled labels score."""
    pixels = run.curve("probes", "accuracy_pixels", factor=factor).iloc[-1]
    place = {"factor": factor, "group": group}
    shuffled = run.curve("probes", "accuracy_shuffled", "mean", **place).mean()
    return (
        Level(value=pixels, name="on raw pixels", style="dashed", in_legend=True),
        Level(value=shuffled, name="on shuffled labels", kind="null", in_legend=True),
    )


PROBES = FigureRow(name="probes", draw=draw_probes, needs=frozenset({"probes"}))
