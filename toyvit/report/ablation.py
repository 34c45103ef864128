"""What is left of a model without one of its heads."""

from __future__ import annotations

import pandas as pd

from toyvit.report.curves import (
    STEPS,
    baseline_levels,
    build_curve,
    score_axis,
)
from toyvit.report.panels import (
    Block,
    Caption,
    CurvePanel,
    FigureData,
    lay_out,
)
from toyvit.report.rows import FigureRow
from toyvit.report.style import call_head, list_looks
from toyvit.runs.handle import Run
from toyvit.runs.table import select_main_rows

ABLATIONS = {"zero": "head output replaced by zero", "mean": "by its mean over pictures"}


HEAD_ABLATION_CAPTION = Caption(
    see=(
        "A curve far below the black one: the model rests on that head from there on; the one "
        "that costs most at the end is named. Where both columns agree it is what the head "
        "says of each picture that counts, not its mean. Dotted: predictors that know less."
    ),
    otherwise="all curves lie on the black one.",
)


def draw_head_ablation(run: Run, beside: Run | None = None) -> FigureData:
    """Accuracy with one head silenced, by zero and by its mean over pictures, against step: a row a
    layer.

    The intact model in black; the head without which least is left at the end is named.
    """
    rows = run.table[run.table["analysis"] == "head_ablation"]
    heads = rows.loc[rows["head"].notna(), ["layer", "head"]].drop_duplicates()
    worst = {name: find_worst(rows, name) for name in ABLATIONS}
    layers = sorted(heads["layer"].unique())

    return FigureData(
        name="head_ablation",
        title=f"{run.name}: what is left without one head",
        caption=HEAD_ABLATION_CAPTION,
        blocks=(
            Block(
                panels=lay_out(
                    layers,
                    ABLATIONS,
                    lambda layer, name: _panel(run, heads, layer, name, worst[name]),
                ),
                row_headers=tuple(f"layer {layer}" for layer in layers),
                column_headers=tuple(ABLATIONS.values()),
                share_y=True,
                cell=(4.2, 2.4),
                margin=(1.4, 0.3),
            ),
        ),
    )


def find_worst(rows: pd.DataFrame, ablation: str) -> tuple[int, int]:
    """Layer and head without which the accuracy is lowest at the last step."""
    rows = rows[(rows["quantity"] == "accuracy") & (rows["ablation"] == ablation)]
    rows = select_main_rows(rows[rows["head"].notna()])
    last = rows[rows["step"] == rows["step"].max()]
    row = last.loc[last["value"].idxmin()]
    return int(row["layer"]), int(row["head"])


def _panel(
    run: Run, heads: pd.DataFrame, layer: int, ablation: str, worst: tuple[int, int]
) -> CurvePanel:
    """The heads of one layer, each silenced in one way."""
    intact = run.curve("performance", "accuracy")
    curves = [build_curve(intact, "intact", colour="black", width=2.0)]
    mine = heads.loc[heads["layer"] == layer, "head"]
    for head, (colour, dash) in zip(mine, list_looks(len(mine)), strict=True):
        place = {"layer": layer, "head": head}
        without = run.curve("head_ablation", "accuracy", ablation=ablation, **place)
        name = f"without {call_head(layer, head)}"
        curve = build_curve(
            without,
            name,
            colour=colour,
            style=dash,
            end_label=f"without head {head}" if (layer, head) == worst else "",
        )
        curves.append(curve)

    return CurvePanel(
        x=STEPS,
        y=score_axis(run),
        curves=tuple(curves),
        levels=baseline_levels(run, "accuracy", named=ablation == "mean"),
        legend="inside" if ablation == "zero" else "none",
    )


HEAD_ABLATION = FigureRow(
    name="head_ablation",
    draw=draw_head_ablation,
    needs=frozenset({"head_ablation", "performance"}),
    is_headline=True,
)
