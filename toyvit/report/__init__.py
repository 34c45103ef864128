"""Seeing: figures, tables and TensorBoard files from a run. Nothing else imports matplotlib or
tensorboard.

A figure is computed as data (`toyvit.report.panels`) by a function that stands in a file of its
family with its row below it; to add one, write both and name the row here, in the order of the
report.
"""

from __future__ import annotations

import logging
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from toyvit.circuits.search import CircuitReport
from toyvit.config.extensions import merge_extensions
from toyvit.errors import NotInstalled, choose
from toyvit.report.ablation import HEAD_ABLATION
from toyvit.report.attention import ATTENTION
from toyvit.report.circuits import draw_circuit_report
from toyvit.report.directions import DIRECTIONS
from toyvit.report.edge_figures import ATTENTION_KNOCKOUT, ATTRIBUTION, EDGES, PATCHING
from toyvit.report.factors import BY_FACTOR, PROBES
from toyvit.report.grokking import GROKKING
from toyvit.report.heads import HEADS
from toyvit.report.learning import LEARNING, PHASE_TRANSITION, STRATEGIES
from toyvit.report.lens_figures import ANSWER_MAPS, LENS
from toyvit.report.matplotlib_renderer import DPI, render
from toyvit.report.panels import FigureData
from toyvit.report.picture_attention import CLS_ATTENTION, QUERY_ATTENTION
from toyvit.report.reconstruction import RECONSTRUCTION
from toyvit.report.rows import FigureRow, has_figure, list_analyses
from toyvit.report.sweeps import draw_sweep_bands, draw_sweep_losses, open_settings
from toyvit.report.updates import UPDATES
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run

FIGURES: dict[str, FigureRow] = {
    row.name: row
    for row in (
        PHASE_TRANSITION,
        LEARNING,
        STRATEGIES,
        GROKKING,
        RECONSTRUCTION,
        QUERY_ATTENTION,
        HEADS,
        HEAD_ABLATION,
        CLS_ATTENTION,
        BY_FACTOR,
        PROBES,
        UPDATES,
        ATTENTION,
        DIRECTIONS,
        EDGES,
        PATCHING,
        ATTRIBUTION,
        ATTENTION_KNOCKOUT,
        LENS,
        ANSWER_MAPS,
    )
}
MOST_HEADLINES = 4
logger = logging.getLogger(__name__)
KINDS = ("png", "svg", "pdf")  # of files that a figure is drawn into


class DrawnFigure(NamedTuple):
    """A figure in a file, and whether the report ends with it or has it in its appendix."""

    file: Path
    data: FigureData
    is_headline: bool


def recall_comparison(run: Run | Path | str, beside: Run | Path | str | None) -> Run | None:
    """The run to draw beside this one: the one given, which is noted in `figures/`, else the one
    noted there last time.
    """
    run = Run.open(run)
    note = run.folder.figures / "beside"

    if beside:
        other = Run.open(beside)
        note.parent.mkdir(exist_ok=True)
        note.write_text(os.path.relpath(other.path, run.path))
        return other
    if note.exists() and RunFolder(run.path / note.read_text()).config_file.is_file():
        return Run(os.path.relpath(run.path / note.read_text()))
    return None


def select_figures(run: Run) -> list[tuple[FigureRow, bool]]:
    """The figures that a run has, and whether each is a headline: the first four that may be."""
    analyses = list_analyses(run)
    figures = merge_extensions(FIGURES, "figures")
    rows = [row for row in figures.values() if has_figure(row, run, analyses)]
    headlines = [row for row in rows if row.is_headline][:MOST_HEADLINES]
    rest = [row for row in rows if row not in headlines]
    return [*((row, True) for row in headlines), *((row, False) for row in rest)]


def draw(
    run: Run | Path | str, beside: Run | Path | str | None = None, kind: str = "png"
) -> list[DrawnFigure]:
    """Draw every figure that a run has the measures for into its `figures/`, headlines first.

    `beside` is a second run to compare with, `kind` the files' format: png, svg or pdf. BadInput
    for another kind, a folder that is no run, and a run without measures.
    """
    choose(kind, KINDS, "kind of figure")
    run = Run.open(run)
    other = None if beside is None else Run.open(beside)
    chosen = select_figures(run)
    run.folder.figures.mkdir(exist_ok=True)
    drawn = []
    missing: dict[str, list[str]] = {}

    for row, is_headline in chosen:
        try:
            data = row.draw(run, other)
        except NotInstalled as error:  # what was measured is drawn without the pictures
            missing.setdefault(str(error), []).append(row.name)
            continue
        file = run.folder.figures / f"{row.name}.{kind}"
        render(data).savefig(file, dpi=DPI)
        drawn.append(DrawnFigure(file, data, is_headline))
    for reason, names in missing.items():
        logger.warning("not drawn: %s (%s)", ", ".join(names), reason)
    return drawn


def format_figures(drawn: Sequence[DrawnFigure]) -> str:
    """The end of a report: each headline figure with its caption, then the appendix in one line."""
    lines = []

    for figure in drawn:
        if figure.is_headline:
            lines.append(f"figure: {figure.file}")
            lines += textwrap.wrap(
                str(figure.data.caption), 100, initial_indent="    ", subsequent_indent="    "
            )
    rest = [figure.file.name for figure in drawn if not figure.is_headline]
    if rest:
        lines.append(f"appendix: {', '.join(rest)} in {drawn[0].file.parent}")
    return "\n".join(lines)


def draw_sweep(runs: Sequence[Run | Path | str], folder: Path, kind: str = "png") -> list[Path]:
    """A sweep's accuracies into `folder/sweep.png`, its losses into `folder/sweep_loss.png`."""
    settings = open_settings(runs)
    drawn = []
    for data in (draw_sweep_bands(settings), draw_sweep_losses(settings)):
        drawn.append(folder / f"{data.name}.{kind}")
        render(data).savefig(drawn[-1], dpi=DPI)
    return drawn


def draw_circuit(run: Run | Path | str, report: CircuitReport, kind: str = "png") -> list[Path]:
    """A circuit as a record (JSON) and as a picture, graph and null, into the run's `figures/`."""
    run = Run.open(run)
    run.folder.figures.mkdir(exist_ok=True)
    record = run.folder.figures / f"{report.name}.json"
    report.circuit.save(record)
    picture = run.folder.figures / f"{report.name}.{kind}"
    render(draw_circuit_report(report, run.config.model)).savefig(picture, dpi=DPI)
    return [record, picture]
