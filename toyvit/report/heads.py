"""What each head is called: a text, and a heat map of head types over training."""

from __future__ import annotations

from math import nan
from pathlib import Path

from matplotlib.figure import Figure

from toyvit.analyses.heads import MARGIN, list_implied, name_head
from toyvit.errors import BadInput
from toyvit.report.figures import ORANGE
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import load_table
from toyvit.runs.table import select_main_rows

Head = tuple[int, int, int]  # step, layer, head


def collect_scores(path: Path) -> dict[Head, dict[str, tuple[float, float]]]:
    """For every head at every step, type -> its score and the largest of its nulls."""
    frame = load_table(path)
    frame = frame[frame["analysis"] == "heads"]
    if frame.empty:
        raise BadInput(
            f"{path} has no measures of head types: run `toyvit measure {path} --analyses heads`"
        )
    scores: dict[Head, dict[str, float]] = {}
    nulls: dict[Head, dict[str, float]] = {}
    columns = ["step", "layer", "head", "quantity", "type", "value"]
    for step, layer, head, quantity, kind, value in select_main_rows(frame)[columns].itertuples(
        index=False, name=None
    ):
        into = (scores if quantity == "score" else nulls).setdefault(
            (step, int(layer), int(head)), {}
        )
        into[kind] = max(value, into.get(kind, value))
    return {
        key: {kind: (score, nulls[key].get(kind, 0.0)) for kind, score in scores[key].items()}
        for key in sorted(scores)
    }


def name_all_heads(path: Path) -> dict[Head, list[str]]:
    """The names of every head at every step, best first."""
    brought = list_implied(RunFolder(path).read_config().model.grid)
    return {
        key: name_head(
            {kind: score for kind, (score, _) in values.items()},
            {kind: null for kind, (_, null) in values.items()},
            brought,
        )
        for key, values in collect_scores(path).items()
    }


def format_head_types(path: Path) -> str:
    """A line a head: what it is called at the last step, its score with the largest null in brackets, and since when."""
    found, values = name_all_heads(path), collect_scores(path)
    steps = sorted({step for step, _, _ in found})
    lines = []
    for step, layer, head in (key for key in found if key[0] == steps[-1]):
        parts = []
        for name in found[step, layer, head]:
            without = [one for one in steps if name not in found[one, layer, head]]
            since = next(one for one in steps if one > max(without, default=-1))
            score, null = values[step, layer, head][name]
            parts.append(f"{name} {score:.2f} ({null:.2f}) since step {since}")
        place = f"layer {layer}, head {head}"
        lines.append(f"{place:40} {'; '.join(parts) or 'no name'}")
    return "\n".join(lines)


def draw_heads(path: Path, beside: Path | None = None) -> Figure:
    """How far the score of each type stands above its null, head by head, against step; a dot where the head has the name."""
    values, found = collect_scores(path), name_all_heads(path)
    steps, kinds = (
        sorted({step for step, _, _ in values}),
        list(dict.fromkeys(kind for one in values.values() for kind in one)),
    )
    pairs = sorted({key[1:] for key in values})
    across = min(len(pairs), 4)
    down = -(-len(pairs) // across)
    figure = Figure(
        figsize=(2.6 * across + 2, (0.16 * len(kinds) + 0.8) * down + 0.6), layout="constrained"
    )
    panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    for panel in panels.flat[len(pairs) :]:
        panel.set_visible(False)
    for (layer, head), panel in zip(pairs, panels.flat, strict=False):
        above = [
            [
                score - max(null, 0)
                for score, null in (values[step, layer, head].get(kind, (nan, 0)) for step in steps)
            ]
            for kind in kinds
        ]
        picture = panel.imshow(
            above, aspect="auto", cmap="cividis", vmin=0, vmax=1, interpolation="nearest"
        )
        dots = [
            (place, kinds.index(name))
            for place, step in enumerate(steps)
            for name in found[step, layer, head]
        ]
        if dots:
            panel.plot(*zip(*dots, strict=True), ls="", marker=".", ms=2.5, color=ORANGE)
        panel.set_title(f"layer {layer}, head {head}", fontsize="small")
        panel.set_yticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds], fontsize=6)
        ticks = sorted({round(place * (len(steps) - 1) / 3) for place in range(4)})
        panel.set_xticks(ticks, [f"{steps[place]:,}" for place in ticks], fontsize=6)
    for panel in panels[-1]:
        panel.set_xlabel("training step (one column a checkpoint)", fontsize="x-small")
    figure.colorbar(picture, ax=panels, label="score above its largest null", shrink=0.8)
    figure.suptitle(
        f"orange: the head has the name (more than {MARGIN} above the null, and no nearer name implies it)",
        fontsize="small",
    )
    return figure
