"""Edges over training, patched heads, the parts of an answer, attention knock-outs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import pandas as pd

from toyvit.dynamics.edge_lifetimes import (
    compute_edge_shares,
    date_edges,
    has_errors,
    pivot_edge_scores,
)
from toyvit.report.curves import EARLY_STEPS, STEPS, build_curve
from toyvit.report.panels import (
    Axis,
    Block,
    Caption,
    ColourScale,
    Curve,
    CurvePanel,
    FigureData,
    Level,
    MapPanel,
    lay_out,
)
from toyvit.report.pictures import scale_both_ways
from toyvit.report.rows import FigureRow
from toyvit.report.style import CYCLE, NODES, call_head, list_looks
from toyvit.runs.handle import Run
from toyvit.runs.table import select_main_rows

STRONGEST = 6  # edges, or parts of the answer, that are named
ZERO = Level(value=0, name="no effect", kind="null", style="solid")


def select_rows(run: Run, analysis: str, quantity: str | None = None) -> pd.DataFrame:
    """The main rows of an analysis, or of one quantity of it."""
    rows = run.table[run.table["analysis"] == analysis]
    if quantity is not None:
        rows = rows[rows["quantity"] == quantity]
    return select_main_rows(rows)


EDGES_CAPTION = Caption(
    see=(
        "When the edges of a circuit are born (circles: the first of three checkpoints in a row at "
        "which its share of all edges at once, clear of 0 itself, is more than chance), against "
        f"the loss. Pale: weaker edges. Dashed: all edges at once. {NODES}"
    ),
    otherwise="all edges stay at 0.",
)


def draw_edges(run: Run, beside: Run | None = None) -> FigureData:
    """Scores of the strongest edges over training, below the loss: a column a counterfactual."""
    rows = select_rows(run, "edges")
    changes = list(rows["change"].dropna().unique())
    loss = run.curve("performance", "loss")
    above = CurvePanel(
        x=STEPS,
        y=Axis(label="loss (nats)"),
        curves=(build_curve(loss, colour="black", width=1.2),),
    )
    below = [_edges_panel(run, rows, change) for change in changes]

    return FigureData(
        name="edges",
        title=f"{run.name}: edges through which the answer depends on what is changed",
        caption=EDGES_CAPTION,
        blocks=(
            Block(
                panels=(tuple(above for _ in changes), tuple(below)),
                column_headers=tuple(f"another {change}" for change in changes),
                cell=(4.4, 1.9),
                heights=(1, 2.2),
                margin=(0.6, 0.3),
            ),
        ),
    )


def _edges_panel(run: Run, rows: pd.DataFrame, change: str) -> CurvePanel:
    """The strongest edges, a circle at each birth; all others pale; all edges at once dashed."""
    scores = pivot_edge_scores(rows, change)
    births = pd.DataFrame()
    if has_errors(rows):
        births = date_edges(compute_edge_shares(rows, change))
    order = scores.abs().max().sort_values(ascending=False, kind="stable").index
    strongest = order[:STRONGEST]
    curves = [
        build_curve(scores[edge], colour="faint", width=0.6)
        for edge in scores.columns.difference(strongest)
    ]
    for edge, colour in zip(strongest, CYCLE, strict=False):
        curves.append(build_curve(scores[edge], edge, colour=colour, width=1.3))
        if edge in births.index:
            step = births.loc[edge, "birth"]
            birth = np.array([scores.loc[step, edge]], float)
            curves.append(Curve(x=np.array([step], float), y=birth, colour=colour, marker="circle"))

    whole = run.curve("edges", "corrupt", change=change) - run.curve(
        "edges", "clean", change=change
    )
    curves.append(build_curve(whole, "all edges at once", colour="grey", style="dashed", width=1.0))
    return CurvePanel(
        x=STEPS,
        y=Axis(label="EAP-IG score: change of the\nlogit difference (logits)"),
        curves=tuple(curves),
        levels=(ZERO,),
        legend="inside",
    )


EDGES = FigureRow(name="edges", draw=draw_edges, needs=frozenset({"edges", "performance"}))


PATCHING_CAPTION = Caption(
    see=(
        "A blue cell: that head's output at that token carries the answer. Denoise: put into "
        "the corrupt pass, what it brings back; noise: taken from the clean one, what it "
        "takes away."
    ),
    otherwise="all cells are white.",
)


def draw_patching(run: Run, beside: Run | None = None, step: int | None = None) -> FigureData:
    """What patching one head's output at one token brings back, at the measured step nearest to
    `step` (default: the last).
    """
    rows = select_rows(run, "patching", "patched_head")
    goal = rows["step"].max() if step is None else step
    at = min(map(int, rows["step"].unique()), key=lambda measured: abs(measured - goal))
    top = max(1.0, float(rows["value"].abs().max()))  # the same at all steps
    rows = rows[rows["step"] == at]
    config = run.config.model
    scale = scale_both_ways(top, "logit difference moved\n(share)")
    panels = lay_out(
        rows["direction"].unique(),
        rows["change"].unique(),
        lambda direction, change: _patching_panel(run, rows, change, direction, scale),
    )
    size = (0.4 + 0.19 * config.n_tokens, 0.28 * config.n_layers * config.n_heads + 0.6)

    return FigureData(
        name="patching",
        title=f"{run.name}, step {at:,}: one head's output at one token patched",
        caption=PATCHING_CAPTION,
        steps=(at,),
        blocks=(Block(panels=panels, share_y=True, cell=size, margin=(1.2, 0.3), scale=scale),),
    )


def _patching_panel(
    run: Run, rows: pd.DataFrame, change: str, direction: str, scale: ColourScale
) -> MapPanel:
    part = rows[(rows["change"] == change) & (rows["direction"] == direction)]
    values = part.pivot_table(index=["layer", "head"], columns="token", values="value")

    return MapPanel(
        x=Axis(label="token" + " (0: CLS)" * run.config.model.cls_token),
        y=Axis(
            label="",
            ticks=tuple(float(place) for place in range(len(values))),
            names=tuple(call_head(*place) for place in values.index),
        ),
        title=f"{direction}, another {change}",
        values=values.to_numpy(),
        scale=scale,
        square=False,
    )


PATCHING = FigureRow(
    name="patching",
    draw=draw_patching,
    needs=frozenset({"patching"}),
    at_step=lambda run, step: draw_patching(run, step=step),
)


ATTRIBUTION_CAPTION = Caption(
    see="The coloured parts that rise with the black sum are those that write the answer.",
    otherwise="all parts stay at 0.",
)


def draw_attribution(run: Run, beside: Run | None = None) -> FigureData:
    """What heads, MLPs and the rest add to the answer's logit over the mean logit."""
    lines = dict(_list_parts(select_rows(run, "attribution")))
    order = sorted(lines, key=lambda name: -lines[name].abs().max())
    rest = order[STRONGEST:]
    whole = reduce(add, lines.values())
    curves = [build_curve(whole, "sum: the logit", colour="black", width=2.0)]
    for name, colour in zip(order, CYCLE, strict=False):
        curves.append(build_curve(lines[name], name, colour=colour, width=1.4))
    for place, name in enumerate(rest):
        label = "" if place else f"{len(rest)} smaller ones"
        curves.append(build_curve(lines[name], label, colour="pale", width=0.7))
    panel = CurvePanel(
        x=EARLY_STEPS,
        y=Axis(label="direct effect on the answer's logit,\nover the mean logit (logits)"),
        curves=tuple(curves),
        levels=(replace(ZERO, in_legend=True),),
        legend="right",
    )

    return FigureData(
        name="attribution",
        title=f"{run.name}: what the answer's logit is the sum of",
        caption=ATTRIBUTION_CAPTION,
        blocks=(Block(panels=((panel,),), cell=(7.5, 3.8), margin=(0.9, 0.3)),),
    )


def _list_parts(rows: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """Curves over steps by name: of each head, each MLP, each other part."""
    for quantity in ("direct", "direct_mlp", "direct_part"):
        part = rows[rows["quantity"] == quantity]
        axes = [
            axis for axis in ("layer", "head", "part") if axis in part and part[axis].notna().any()
        ]
        if not len(part):
            continue
        for key, values in part.groupby(axes, sort=False, observed=True):
            place = dict(zip(axes, key, strict=True))
            yield _name_part(place), values.set_index("step")["value"].sort_index()


def _name_part(place: dict[str, Any]) -> str:
    if "part" in place:
        return str(place["part"])
    if "head" in place:
        return call_head(place["layer"], place["head"])
    return f"layer {place['layer']}, MLP"


ATTRIBUTION = FigureRow(name="attribution", draw=draw_attribution, needs=frozenset({"attribution"}))


ATTENTION_KNOCKOUT_CAPTION = Caption(
    see=(
        "A curve that rises: from there on the model needs what those tokens read from the "
        "others in that layer, and at which step it began to."
    ),
    otherwise="all curves lie at 0: nothing that is cut is missed.",
)


def draw_attention_knockout(run: Run, beside: Run | None = None) -> FigureData:
    """What it costs that one group of tokens cannot attend to another, a panel a layer."""
    rows = select_rows(run, "attention_knockout")
    layers = sorted(rows["layer"].dropna().unique())
    panels = [_knockout_panel(rows[rows["layer"] == layer], layer) for layer in layers]
    return FigureData(
        name="attention_knockout",
        title=f"{run.name}: attention knock-outs, one layer at a time",
        caption=ATTENTION_KNOCKOUT_CAPTION,
        blocks=(Block(panels=(tuple(panels),), share_y=True, cell=(4.2, 3.2), margin=(0.8, 0.3)),),
    )


def _knockout_panel(rows: pd.DataFrame, layer: int) -> CurvePanel:
    pairs = rows[["query_group", "key_group"]].drop_duplicates()
    looks = list_looks(len(pairs))
    curves = []
    for (query, key), (colour, dash) in zip(pairs.itertuples(index=False), looks, strict=True):
        part = rows[(rows["query_group"] == query) & (rows["key_group"] == key)]
        values = part.set_index("step")["value"].sort_index()
        name = f"{query} cannot read {key}"
        curves.append(build_curve(values, name, colour=colour, style=dash, width=1.3))

    return CurvePanel(
        x=EARLY_STEPS,
        y=Axis(label="rise of the loss (nats)"),
        title=f"layer {layer}",
        curves=tuple(curves),
        levels=(ZERO,),
        legend="inside" if layer == 0 else "none",
    )


ATTENTION_KNOCKOUT = FigureRow(
    name="attention_knockout",
    draw=draw_attention_knockout,
    needs=frozenset({"attention_knockout"}),
)
