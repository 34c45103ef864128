"""The scores of a model card: the checkpoint's, those of baselines, and chance."""

from __future__ import annotations

import math

from toyvit.bridges.exported import Exported
from toyvit.errors import BadInput, quote_code
from toyvit.runs.handle import Run

MEAN = "baseline `mean`"  # of tasks that ask for numbers
Row = tuple[str, float | None, float | None]


def describe_scores(exported: Exported) -> str:
    """A table of the checkpoint's scores, of baselines and of chance."""
    entry = exported.run.entries[exported.step]
    note = ""
    rows: list[Row] = []
    try:
        rows += _list_measured(exported)
    except BadInput:
        note = "\n\nThe run has no measures that can be read: only training's own scores are known."
    rows.append(("on training's validation pictures", entry.accuracy, entry.loss))
    n = exported.config.stated("n_classes")
    is_number = n == 1 or exported.facts["answers"] == "pixels" or any(MEAN in row for row in rows)
    if not is_number:
        rows.append(("chance: every class alike", 1 / n, math.log(n)))

    head = [f"| what | {'R^2' if is_number else 'accuracy'} | loss |", "|---|---|---|"]
    lines = [
        f"| {name} | {spell_score(score)} | {spell_score(loss)} |" for name, score, loss in rows
    ]
    return "\n".join([*head, *lines]) + note


def _list_measured(exported: Exported) -> list[Row]:
    """Scores on test pictures where this step has some, and those of baselines."""
    run = exported.run
    rows: list[Row] = []
    if not run.is_measured:
        return rows
    accuracy = _select(run, "accuracy", exported.step)
    loss = _select(run, "loss", exported.step)
    if accuracy is not None or loss is not None:
        rows.append(("on test pictures", accuracy, loss))
    names = dict.fromkeys(name.partition(".")[2] for name in run.baselines)
    for name in names:
        title = f"baseline {quote_code(name.replace('_', ' '))}"
        rows.append(
            (title, run.baselines.get(f"accuracy.{name}"), run.baselines.get(f"loss.{name}"))
        )
    return rows


def _select(run: Run, quantity: str, step: int) -> float | None:
    curve = run.curve("performance", quantity)
    return float(curve.loc[step]) if step in curve.index else None


def spell_score(score: float | None) -> str:
    """A score to three places; nothing where there is none."""
    return "" if score is None else f"{score:.3f}"
