"""What each head is called: a text, and curves of head types over training."""

from __future__ import annotations

from itertools import chain
from math import nan

import numpy as np

from toyvit.analyses.heads import MARGIN, list_implied, name_head
from toyvit.errors import BadInput, escape_text
from toyvit.report.curves import EARLY_STEPS
from toyvit.report.panels import (
    Axis,
    Block,
    Caption,
    Curve,
    CurvePanel,
    Dash,
    FigureData,
    Level,
    wrap_rows,
)
from toyvit.report.rows import FigureRow
from toyvit.report.style import call_head, list_looks
from toyvit.runs.handle import Run
from toyvit.runs.table import select_main_rows

Head = tuple[int, int, int]  # step, layer, head
Scores = dict[Head, dict[str, tuple[float, float]]]
Names = dict[Head, list[str]]
ACROSS = 4  # panels of heads side by side


def collect_scores(run: Run) -> Scores:
    """For every head at every step, type -> its score and the largest of its nulls."""
    rows = run.table[run.table["analysis"] == "heads"]
    if rows.empty:
        raise BadInput(
            f"{run.path} has no measures of head types: "
            f"run `toyvit measure {run.path} --analyses heads`"
        )
    scores: dict[Head, dict[str, float]] = {}
    nulls: dict[Head, dict[str, float]] = {}
    columns = ["step", "layer", "head", "quantity", "type", "value"]
    places = select_main_rows(rows)[columns].itertuples(index=False, name=None)
    for step, layer, head, quantity, kind, value in places:
        table = scores if quantity == "score" else nulls
        values = table.setdefault((step, int(layer), int(head)), {})
        values[kind] = max(value, values.get(kind, value))

    out: Scores = {}
    for key in sorted(scores):
        largest = nulls[key]
        out[key] = {kind: (score, largest.get(kind, 0.0)) for kind, score in scores[key].items()}
    return out


def name_all_heads(run: Run) -> Names:
    """The names of every head at every step, best first."""
    implied = list_implied(run.config.model.grid)
    names = {}
    for key, values in collect_scores(run).items():
        scores = {kind: score for kind, (score, _) in values.items()}
        nulls = {kind: null for kind, (_, null) in values.items()}
        names[key] = name_head(scores, nulls, implied)
    return names


def format_head_types(run: Run) -> str:
    """A line a head: what it is called at the last step, its score with the largest null in
    brackets, and since when.
    """
    names = name_all_heads(run)
    scores = collect_scores(run)
    last = max(step for step, _, _ in names)
    lines = []

    for key in names:
        step, layer, head = key
        if step == last:
            parts = [_tell_since(name, key, names, scores) for name in names[key]]
            line = f"{call_head(layer, head):40} {'; '.join(parts) or 'no name'}"
            lines.append(escape_text(line))
    return "\n".join(lines)


def _tell_since(name: str, key: Head, names: Names, scores: Scores) -> str:
    """One name of a head with its score, its null, and the first step since which it has had it."""
    score, null = scores[key][name]
    return f"{name} {score:.2f} ({null:.2f}) since step {find_since(name, key[1:], names)}"


def find_since(name: str, head: tuple[int, int], names: Names) -> int:
    """The first step since which a head (layer, head) has always had a name."""
    steps = [step for step, *place in names if tuple(place) == head]
    without = [step for step in steps if name not in names[(step, *head)]]
    return min(step for step in steps if step > max(without, default=-1))


HEADS_CAPTION = Caption(
    see=(
        f"A head has the name of a type (dots) where its score is more than {MARGIN} above "
        "the largest of the type's nulls and no nearer name implies it. Grey: types that "
        "the head is not called by."
    ),
    otherwise=(
        "all curves lie at the nulls, 0, below the dotted margin, but for uniform: the untrained "
        "network looks everywhere alike."
    ),
)


def draw_heads(run: Run, beside: Run | None = None) -> FigureData:
    """How far the score of each type stands above its null, head by head, against step; dots where
    the head has the name.

    A colour and a line style for each type that some head is called by; the other types are grey.
    """
    scores = collect_scores(run)
    names = name_all_heads(run)
    heads = sorted({key[1:] for key in scores})
    styled = style_types(names)
    edge = heads[ACROSS - 1 :: ACROSS] + heads[-1:]
    panels = [_head_panel(head, scores, names, styled, head in edge) for head in heads]
    width = 3.0 if len(heads) > 1 else 4.2

    return FigureData(
        name="heads",
        title=f"{run.name}: what kind of head each head is",
        caption=HEADS_CAPTION,
        blocks=(
            Block(
                panels=wrap_rows(panels, ACROSS),
                share_y=True,
                cell=(width, 2.2),
                margin=(1.6, 0.3),
            ),
        ),
    )


def style_types(names: Names) -> dict[str, tuple[str, Dash]]:
    """Types that some head is called by at some step: each with its colour and its line style."""
    used = dict.fromkeys(chain.from_iterable(names.values()))
    return dict(zip(used, list_looks(len(used)), strict=True))


def _head_panel(
    head: tuple[int, int],
    scores: Scores,
    names: Names,
    styled: dict[str, tuple[str, Dash]],
    at_edge: bool,
) -> CurvePanel:
    """All types of one head; at the right edge the levels are named."""
    steps = [key[0] for key in scores if key[1:] == head]
    kinds = dict.fromkeys(chain.from_iterable(scores[(step, *head)] for step in steps))
    curves = []
    for kind in kinds:
        values = [scores[(step, *head)].get(kind, (nan, 0.0)) for step in steps]
        above = [score - max(null, 0) for score, null in values]
        named = [kind in names[(step, *head)] for step in steps]
        curves += _type_curves(kind, steps, above, named, styled.get(kind))

    return CurvePanel(
        x=EARLY_STEPS,
        y=Axis(label="score above its\nlargest null (share)", low=-0.35, high=1.05),
        title=call_head(*head),
        curves=tuple(curves),
        levels=(
            Level(value=0, name="its nulls" * at_edge, kind="null"),
            Level(value=MARGIN, name="margin of a name" * at_edge, kind="reference"),
        ),
    )


def _type_curves(
    kind: str,
    steps: list[int],
    above: list[float],
    named: list[bool],
    look: tuple[str, Dash] | None,
) -> list[Curve]:
    """The curve of a type, and dots where the head is called by it."""
    x = np.array(steps, float)
    y = np.array(above, float)
    has_name = any(named)
    colour, dash = look if look and has_name else ("pale", "solid")

    curve = Curve(
        x=x,
        y=y,
        colour=colour,
        style=dash,
        width=1.6 if has_name else 0.7,
        end_label=kind.replace("_", " ") if has_name else "",
    )
    if not has_name:
        return [curve]
    dots = Curve(x=x[named], y=y[named], colour=colour, style="none", marker="dot")
    return [curve, dots]


HEADS = FigureRow(name="heads", draw=draw_heads, needs=frozenset({"heads"}), is_headline=True)
