"""Figures of circuits: a circuit as a graph, edges over training, what patching each place does, what the answer is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from torch import Tensor

from toyvit.circuits.graph import build_graph
from toyvit.config import ModelConfig
from toyvit.dynamics.edge_lifetimes import date_edges, pivot_edge_scores
from toyvit.report.figures import BLUE, GREEN, GREY, ORANGE, PINK, SKY, YELLOW, set_step_axis
from toyvit.runs.handle import Run, load_table
from toyvit.runs.table import select_curve, select_main_rows

PORTS = {"q": BLUE, "k": ORANGE, "v": GREEN, "": PINK}
NAMES = {"q": "into queries", "k": "into keys", "v": "into values", "": "into an MLP or the logits"}


def draw_circuit_graph(
    config: ModelConfig, edge_mask: Tensor, scores: Tensor | None = None, title: str = ""
) -> Figure:
    """A circuit from the input (below) to the logits: colours say what an edge runs into, widths its score.

    Nodes that the circuit does not use are pale. `kept` and `scores` are (receiver sender) matrices.
    """
    wires, places = build_graph(config), _places(config)
    right, top = max(x for x, _ in places.values()), max(y for _, y in places.values())
    figure = Figure(figsize=(max(6.0, 1.3 * right + 4), 1.1 * top + 1.4), layout="constrained")
    panel = figure.subplots()
    edges = [
        (wires.senders[sender], wires.receivers[receiver], receiver, sender)
        for receiver, sender in edge_mask.nonzero().tolist()
    ]
    used = {name.split("<")[0] for sender, receiver, *_ in edges for name in (sender, receiver)}
    largest = scores.abs()[edge_mask > 0].max().item() if scores is not None and edges else 1.0
    for sender, receiver, row, column in edges:
        owner, _, port = receiver.partition("<")
        share = abs(scores[row, column].item()) / largest if scores is not None else 1.0
        _arrow(panel, places[sender], places[owner], port.rstrip(">"), share)
    for name, (x, y) in places.items():
        box = {"boxstyle": "round", "fc": "white", "ec": "black" if name in used else "#cccccc"}
        panel.text(
            x,
            y,
            name,
            ha="center",
            va="center",
            fontsize=9,
            color="black" if name in used else "#bbbbbb",
            bbox=box,
        )
    for port in dict.fromkeys(receiver.partition("<")[2].rstrip(">") for _, receiver, *_ in edges):
        panel.plot([], [], color=PORTS[port], lw=2, label=NAMES[port])
    if edges:
        panel.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    panel.set(xlim=(-0.9, right + 0.9), ylim=(-0.4, top + 0.4))
    figure.suptitle(title, fontsize="small")
    panel.axis("off")
    return figure


def _places(config: ModelConfig) -> dict[str, tuple[float, float]]:
    """Where each node stands: heads side by side, an MLP to their right and above, layers upward."""
    rise = 1.5 if config.d_mlp else 1.0
    middle = (config.n_heads - 1) / 2
    places = {"input": (middle, 0.0)}
    for layer in range(config.n_layers):
        places |= {
            f"a{layer}.h{head}": (float(head), 1 + rise * layer) for head in range(config.n_heads)
        }
        if config.d_mlp:
            places[f"m{layer}"] = (config.n_heads - 0.2, 1.6 + rise * layer)
    return places | {"logits": (middle, 1 + rise * config.n_layers)}


def _arrow(
    panel: Axes, start: tuple[float, float], end: tuple[float, float], port: str, share: float
) -> None:
    passed = max(
        0, round(end[1] - start[1]) - 1
    )  # rows in between: the arrow goes round what stands there
    bend = {"q": 0.18, "k": 0.0, "v": -0.18, "": 0.08}[port]
    if passed and abs(end[0] - start[0]) < 0.5:
        bend += -0.3 if bend < 0 else 0.3
    style: Any = {
        "arrowstyle": "-|>",
        "mutation_scale": 9,
        "connectionstyle": f"arc3,rad={bend}",
        "shrinkA": 13,
        "shrinkB": 13,
    }
    panel.add_patch(
        FancyArrowPatch(
            start, end, color=PORTS[port], lw=0.6 + 3 * share, alpha=0.35 + 0.6 * share, **style
        )
    )


def draw_edges(path: Path, beside: Path | None = None) -> Figure:
    """Scores of the strongest edges over training beside the loss: a column of panels for each counterfactual."""
    frame = load_table(path)
    rows = select_main_rows(frame[frame["analysis"] == "edges"])
    changes = rows["change"].dropna().unique()
    figure = Figure(figsize=(4.2 * len(changes) + 1, 6.5), layout="constrained")
    panels = figure.subplots(2, len(changes), sharex=True, squeeze=False, height_ratios=(1, 2.2))
    loss = (
        select_curve(frame, "performance", "loss")
        if "performance" in set(frame["analysis"])
        else None
    )
    for change, (above, below) in zip(changes, panels.T, strict=True):
        if loss is not None:
            above.plot(loss.index, loss, color="black", lw=1.2)
        above.set_title(f"other {change}", fontsize="medium")
        _edges_over_time(below, pivot_edge_scores(rows, change))
        difference = {
            name: select_curve(frame, "edges", name, change=change) for name in ("clean", "corrupt")
        }
        below.plot(
            difference["corrupt"] - difference["clean"],
            color=GREY,
            ls="--",
            lw=1,
            label="all edges at once",
        )
        below.axhline(0, color=GREY, lw=0.6)
        below.legend(fontsize=7.5, loc="lower left")
        below.set_xlabel("training step")
    panels[0, 0].set_ylabel("loss (nats)")
    panels[1, 0].set_ylabel("EAP-IG score: change of the\nlogit difference (logits)")
    figure.suptitle(
        f"{path.name}: edges through which the answer depends on what is changed", fontsize="small"
    )
    return figure


def _edges_over_time(panel: Axes, scores: pd.DataFrame, most: int = 6) -> None:
    """Lines of the strongest edges, a dot at each birth; all others pale."""
    born = date_edges(scores)
    strongest = scores.abs().max().sort_values(ascending=False, kind="stable").index[:most]
    for edge in scores.columns.difference(strongest):
        panel.plot(scores.index, scores[edge], color="#cccccc", lw=0.6)
    for edge, shade in zip(strongest, (BLUE, ORANGE, GREEN, PINK, SKY, YELLOW), strict=False):
        panel.plot(scores.index, scores[edge], color=shade, lw=1.3, label=edge)
        if edge in born.index:
            step = born.loc[edge, "birth"]
            panel.plot([step], [scores.loc[step, edge]], "o", ms=4, color=shade)


def draw_patching(path: Path, beside: Path | None = None) -> Figure:
    """Share of the clean answer that comes back when one head's output at one token is the clean one: last measured step."""
    frame = load_table(path)
    rows = select_main_rows(
        frame[(frame["analysis"] == "patching") & (frame["quantity"] == "patched_head")]
    )
    rows = rows[rows["step"] == rows["step"].max()]
    changes, directions = list(rows["change"].unique()), list(rows["direction"].unique())
    config = Run(path).config.model
    size = (
        1.5 + 0.19 * config.n_tokens * len(changes),
        1.2 + len(directions) * (0.28 * config.n_layers * config.n_heads + 0.5),
    )
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(directions), len(changes), sharex=True, sharey=True, squeeze=False)
    top = max(1.0, rows["value"].abs().max())
    for direction, row in zip(directions, panels, strict=True):
        for change, panel in zip(changes, row, strict=True):
            here = rows[(rows["change"] == change) & (rows["direction"] == direction)]
            grid = here.pivot_table(index=["layer", "head"], columns="token", values="value")
            picture = panel.imshow(grid.to_numpy(), cmap="RdBu", vmin=-top, vmax=top, aspect="auto")
            panel.set_title(f"{direction}, other {change}", fontsize="small")
            panel.set_yticks(
                range(len(grid)), [f"a{layer}.h{head}" for layer, head in grid.index], fontsize=7
            )
            panel.tick_params(axis="x", labelsize=7)
    for panel in panels[-1]:
        panel.set_xlabel("token" + " (0: CLS)" * config.cls_token, fontsize="small")
    figure.colorbar(picture, ax=panels, label="share of the logit difference moved", shrink=0.8)
    figure.suptitle(
        f"{path.name}, step {int(rows['step'].max()):,}: one head's output at one token patched",
        fontsize="small",
    )
    return figure


def draw_attribution(path: Path, beside: Path | None = None) -> Figure:
    """What heads, MLPs and the rest add to the answer's logit over the mean logit: the largest, and the sum, against step."""
    frame = load_table(path)
    rows = select_main_rows(frame[frame["analysis"] == "attribution"])
    lines: dict[str, pd.Series] = {}
    for quantity, what in (("direct", "a"), ("direct_mlp", "m"), ("direct_part", "")):
        for row, values in _grouped(rows[rows["quantity"] == quantity]):
            lines[_label(what, row)] = values
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    panel = figure.subplots()
    panel.plot(sum(lines.values()), color="black", lw=2, label="sum: the logit")
    order = sorted(lines, key=lambda name: -lines[name].abs().max())
    for name, shade in zip(order, (BLUE, ORANGE, GREEN, PINK, SKY, YELLOW), strict=False):
        panel.plot(
            lines[name],
            color=shade,
            lw=1.4,
            label=name,
            marker="o" if len(lines[name]) == 1 else None,
        )
    for place, name in enumerate(rest := order[6:]):
        panel.plot(
            lines[name],
            color="#bbbbbb",
            lw=0.7,
            zorder=1,
            label=f"{len(rest)} smaller ones" if not place else None,
        )
    panel.axhline(0, color=GREY, lw=0.8)
    panel.set_ylabel("direct effect on the answer's logit,\nover the mean logit (logits)")
    panel.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    set_step_axis(panel)
    return figure


def _grouped(rows: pd.DataFrame) -> list[tuple[dict[str, Any], pd.Series]]:
    """Curves over steps, one for each place of a quantity."""
    axes = [axis for axis in ("layer", "head", "part") if axis in rows and rows[axis].notna().any()]
    if not len(rows):
        return []
    found = rows.groupby(axes, sort=False)
    return [
        (dict(zip(axes, key, strict=True)), part.set_index("step")["value"].sort_index())
        for key, part in found
    ]


def _label(what: str, row: dict[str, Any]) -> str:
    if "part" in row:
        return str(row["part"])
    return f"{what}{row['layer']}" + (f".h{row['head']}" if "head" in row else "")


def draw_attention_knockout(path: Path, beside: Path | None = None) -> Figure:
    """What it costs, in nats, when one group of tokens cannot attend to another in one layer: against step, a panel a layer."""
    frame = load_table(path)
    rows = select_main_rows(frame[frame["analysis"] == "attention_knockout"])
    layers = sorted(rows["layer"].dropna().unique())
    figure = Figure(figsize=(4 * len(layers) + 1.5, 3.6), layout="constrained")
    panels = figure.subplots(1, len(layers), sharey=True, squeeze=False)[0]
    pairs = list(
        rows[["query_group", "key_group"]].drop_duplicates().itertuples(index=False, name=None)
    )
    for layer, panel in zip(layers, panels, strict=True):
        styles = [
            (shade, style)
            for style in ("-", "--", ":")
            for shade in (BLUE, ORANGE, GREEN, PINK, SKY, YELLOW)
        ]
        for (query, key), (shade, style) in zip(pairs, styles, strict=False):
            here = rows[
                (rows["layer"] == layer)
                & (rows["query_group"] == query)
                & (rows["key_group"] == key)
            ]
            values = here.set_index("step")["value"].sort_index()
            mark = "o" if len(values) == 1 else None
            panel.plot(
                values.index,
                values,
                color=shade,
                ls=style,
                lw=1.3,
                marker=mark,
                label=f"{query} cannot read {key}",
            )
        panel.axhline(0, color=GREY, lw=0.8)
        panel.set_title(f"layer {layer}", fontsize="medium")
        set_step_axis(panel)
    panels[0].set_ylabel("rise of the loss (nats)")
    panels[-1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    figure.suptitle(f"{path.name}: attention knock-outs, one layer at a time", fontsize="small")
    return figure


__all__ = [
    "draw_attribution",
    "draw_circuit_graph",
    "draw_edges",
    "draw_attention_knockout",
    "draw_patching",
]
