"""A figure: the tuning curve at a few checkpoints."""

from __future__ import annotations

from toyvit.report.panels import (
    Axis,
    Block,
    Caption,
    Curve,
    CurvePanel,
    FigureData,
    Level,
)
from toyvit.report.rows import FigureRow
from toyvit.runs.handle import Run
from toyvit.runs.table import select_main_rows

COLOURS = ("grey", "sky", "blue", "orange")


ORIENTATION_TUNING_CAPTION = Caption(
    see="A peak at 0 that rises over training: near orientations are told apart last.",
    otherwise="the curves are flat.",
)


def draw_tuning(run: Run, beside: Run | None = None) -> FigureData:
    """Mean logit against the distance from the right orientation, at up to four checkpoints."""
    rows = select_main_rows(run.table[run.table["analysis"] == "orientation_tuning"])
    steps = sorted(rows["step"].unique())
    shown = sorted({steps[round(place * (len(steps) - 1) / 3)] for place in range(4)})
    curves = []
    for step, colour in zip(shown, COLOURS, strict=False):
        at_step = rows[rows["step"] == step].sort_values("distance")
        distance = at_step["distance"].to_numpy(float)
        logits = at_step["value"].to_numpy(float)
        curves.append(Curve(x=distance, y=logits, label=f"step {step:,}", colour=colour))

    panel = CurvePanel(
        x=Axis(label="distance from the right answer (orientations)"),
        y=Axis(label="mean logit (logits)"),
        curves=tuple(curves),
        levels=(Level(value=0.0, name="no preference", kind="null"),),
        legend="inside",
    )
    return FigureData(
        name="orientation_tuning",
        title=f"{run.name}: how sharply the answer is tuned to the orientation",
        caption=ORIENTATION_TUNING_CAPTION,
        blocks=(Block(panels=((panel,),), cell=(5.0, 3.2)),),
    )


ORIENTATION_TUNING = FigureRow(
    name="orientation_tuning",
    draw=draw_tuning,
    needs=frozenset({"orientation_tuning"}),
    is_headline=True,
)
