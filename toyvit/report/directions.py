"""What the heads of the first layer look for and read: singular directions of QK and OV as pictures of a patch."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from toyvit.instruments.weight_circuits import (
    SingularDirections,
    find_singular_directions,
    fold_head_weights,
    project_to_pixels,
)
from toyvit.report.pictures import hide_ticks
from toyvit.runs.handle import Run

N_SHOWN = 2  # directions of each circuit


def draw_directions(path: Path, beside: Path | None = None) -> Figure:
    """Each head of layer 0 at the last checkpoint: the largest directions of its QK circuit, query and key, and of its OV.

    A patch goes along a direction by the sum over its pixels of pixel times picture (blue positive, red negative; each picture
    has a scale of its own). The sign of a pair is arbitrary: a query and a key attract where both go the same way.
    """
    run = Run(path)
    model, config = run.bare_model(), run.config.model
    w_q, w_k, w_v, w_o = fold_head_weights(model, 0)
    compared, moved = find_singular_directions(w_q, w_k.mT), find_singular_directions(w_v, w_o)
    columns = [
        ("query", compared, compared.read),
        ("key", compared, compared.written),
    ] * N_SHOWN + [("OV reads", moved, moved.read)] * N_SHOWN
    figure = Figure(
        figsize=(1.25 * len(columns) + 0.8, 1.45 * config.n_heads + 0.9), layout="constrained"
    )
    panels = figure.subplots(config.n_heads, len(columns), squeeze=False)
    for head, row in enumerate(panels):
        row[0].set_ylabel(f"head {head}", fontsize="small")
        for place, (panel, (name, found, rows)) in enumerate(zip(row, columns, strict=True)):
            order = place // 2 if place < 2 * N_SHOWN else place - 2 * N_SHOWN
            _direction(panel, name, found, project_to_pixels(model, rows[head, order]), head, order)
    what = "a direction is blue against red or the other way round; in brackets its share of the circuit"
    figure.suptitle(
        f"{path.name}, step {run.steps[-1]:,}: what layer 0 looks for in a patch ({what})",
        fontsize="small",
    )
    return figure


def _direction(
    panel: Axes, name: str, found: SingularDirections, picture: Tensor, head: int, order: int
) -> None:
    share = (found.size[head, order].square() / found.size[head].square().sum()).item()
    shown = picture.mean(0).numpy()
    top = abs(shown).max() or 1.0
    panel.imshow(shown, cmap="RdBu", vmin=-top, vmax=top)
    panel.set_title(f"{name} {order + 1} ({share:.0%})", fontsize=7)
    hide_ticks(panel)
