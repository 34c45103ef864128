"""Figures of one checkpoint, at more of them: the page shows the one nearest to its slider."""

from __future__ import annotations

from collections.abc import Callable

from toyvit.config.extensions import merge_extensions
from toyvit.errors import BadInput, DataMissing
from toyvit.report import FIGURES
from toyvit.report.page.measured_curves import thin_steps
from toyvit.report.page.packing import format_json
from toyvit.report.panels import FigureData
from toyvit.report.plain import Plain, to_plain
from toyvit.runs.handle import Run

MOST = 9  # checkpoints of a figure
DIGITS = 4  # of numbers in figures: enough to be drawn


def draw_others(
    run: Run, figure: FigureData, room: float, report: Callable[[str], None]
) -> list[Plain]:
    """A figure of one checkpoint at others of them, evenly over training, as plain data.

    As many as fit into so many bytes. Checkpoints that are damaged are reported and left out.
    """
    row = merge_extensions(FIGURES, "figures").get(figure.name)
    if row is None or row.at_step is None or len(figure.steps) != 1:
        return []
    size = len(format_json(to_plain(figure, DIGITS)))
    n = min(MOST, int(room / size) + 1)  # the figure itself is there
    if n < 2:
        return []

    others: dict[int, Plain] = {}
    for place in thin_steps(len(run.steps), n):
        try:
            drawn = row.at_step(run, run.steps[place])
        except (BadInput, DataMissing) as error:
            report(str(error))
            continue
        if drawn.steps != figure.steps:
            others[drawn.steps[0]] = to_plain(drawn, DIGITS)
    return list(others.values())[: n - 1]
