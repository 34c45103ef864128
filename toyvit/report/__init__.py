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

import pandas as pd

from toyvit.circuits.search import CircuitReport
from toyvit.config.extensions import merge_extensions
from toyvit.config.whole_files import remove_leftovers, write_atomically
from toyvit.errors import BadInput, choose, escape_file_name, escape_text
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
from toyvit.report.matplotlib_renderer import save_figure
from toyvit.report.panels import FigureData
from toyvit.report.picture_attention import CLS_ATTENTION, QUERY_ATTENTION
from toyvit.report.reconstruction import RECONSTRUCTION
from toyvit.report.rows import FigureRow, has_figure, list_analyses
from toyvit.report.sweep_measures import (
    draw_sweep_measure,
    parse_measure,
    tabulate_measure,
)
from toyvit.report.sweeps import draw_sweep_bands, draw_sweep_losses, open_settings
from toyvit.report.updates import UPDATES
from toyvit.runs.access import check_writable
from toyvit.runs.handle import Run
from toyvit.surroundings import pin_torch

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
NOTE = "beside"  # in a run's `figures/`: the neighbour that it was compared with
LONGEST_NAME = 255  # bytes of a folder's name
logger = logging.getLogger(__name__)
KINDS = ("png", "svg", "pdf")  # of files that a figure is drawn into


class ComputedFigure(NamedTuple):
    """A figure as data, its name, and whether the report ends with it or has it in its appendix."""

    name: str
    data: FigureData
    is_headline: bool


class DrawnFigure(NamedTuple):
    """A figure in a file, and whether the report ends with it or has it in its appendix."""

    file: Path
    data: FigureData
    is_headline: bool


def recall_comparison(
    run: Run | Path | str, beside: Run | Path | str | None, *, note: bool = True
) -> Run | None:
    """The run to draw beside this one: the one given, else the neighbour that was given last time.

    A neighbour, a run in the same folder, is noted in `figures/` by its name alone: a run's files
    lead to nothing elsewhere.
    """
    run = Run.open(run)
    file = run.folder.figures / NOTE
    if beside:
        other = Run.open(beside)
        if note and _is_neighbour(run, other):
            file.parent.mkdir(exist_ok=True)
            write_atomically(file, os.fsencode(other.path.absolute().name))
        return other

    name = _read_note(file)
    neighbour = run.path.absolute().parent / name
    if not name or neighbour.is_symlink() or not (neighbour / "config.json").is_file():
        return None
    return Run(os.path.relpath(neighbour))


def _is_neighbour(run: Run, other: Run) -> bool:
    places = [part.path.absolute() for part in (run, other)]
    return os.path.normpath(places[0].parent) == os.path.normpath(places[1].parent)


def _read_note(note: Path) -> str:
    """The name of a neighbour; nothing where the file is missing or says something else."""
    if note.is_symlink() or not note.is_file():
        return ""
    with note.open("rb") as file:
        text = os.fsdecode(file.read(LONGEST_NAME))
    name = text.removeprefix("../")  # of version 0.2
    is_name = name not in ("", ".", "..") and not {"/", "\0"} & set(name)
    return name if is_name else ""


def select_figures(run: Run) -> list[tuple[FigureRow, bool]]:
    """The figures that a run has, and whether each is a headline: the first four that may be."""
    analyses = list_analyses(run)
    figures = merge_extensions(FIGURES, "figures")
    rows = [row for row in figures.values() if has_figure(row, run, analyses)]
    headlines = [row for row in rows if row.is_headline][:MOST_HEADLINES]
    rest = [row for row in rows if row not in headlines]
    return [*((row, True) for row in headlines), *((row, False) for row in rest)]


@pin_torch()
def compute_figures(
    run: Run | Path | str, beside: Run | Path | str | None = None, *, headlines_only: bool = False
) -> list[ComputedFigure]:
    """Every figure that a run has the measures for as data, headlines first (or these alone).

    `beside` is a second run to compare with. Figures that need pictures which are not here are left
    out, and those of checkpoints that are damaged, with a line for each reason. BadInput for a
    folder that is no run and a run without measures.
    """
    run = Run.open(run)
    other = None if beside is None else Run.open(beside)
    figures = []
    undrawn: dict[str, list[str]] = {}
    for row, is_headline in select_figures(run):
        if headlines_only and not is_headline:
            continue
        try:
            figures.append(ComputedFigure(row.name, row.draw(run, other), is_headline))
        except BadInput as error:  # what was measured is drawn without the pictures
            undrawn.setdefault(str(error), []).append(row.name)
    for reason, names in undrawn.items():
        number = "1 figure" if len(names) == 1 else f"{len(names)} figures"
        logger.warning("not drawn: %s (%s): %s", number, ", ".join(names), reason)
    return figures


def draw(
    run: Run | Path | str,
    beside: Run | Path | str | None = None,
    kind: str = "png",
    to: Path | None = None,
) -> list[DrawnFigure]:
    """Draw every figure that a run has the measures for, see `compute_figures`.

    Into its `figures/`, or into the folder `to`. `kind` is the files' format: png, svg or pdf.
    BadInput for another kind and a place that cannot be written to.
    """
    choose(kind, KINDS, "kind of figure")
    run = Run.open(run)
    figures = compute_figures(run, beside)
    return save_figures(figures, open_figures(run, to), kind)


@pin_torch()
def save_figures(
    figures: Sequence[ComputedFigure], folder: Path, kind: str = "png"
) -> list[DrawnFigure]:
    """Draw figures into a folder, a file each."""
    drawn = []
    for name, data, is_headline in figures:
        file = save_figure(data, folder / f"{name}.{kind}")
        drawn.append(DrawnFigure(file, data, is_headline))
    return drawn


def open_figures(run: Run, to: Path | None = None) -> Path:
    """The folder for a run's figures, made where it is not there, rid of what the killed left."""
    folder = to or run.folder.figures
    hint = "" if to else "`toyvit report --to DIR` draws elsewhere"
    if not folder.exists():
        check_writable(_find_nearest(folder), hint)
        folder.mkdir(parents=True)
    check_writable(folder, hint)
    remove_leftovers(folder)
    return folder


def _find_nearest(folder: Path) -> Path:
    """The nearest folder above that is there."""
    return next(parent for parent in folder.absolute().parents if parent.exists())


def format_figures(drawn: Sequence[DrawnFigure], names: Sequence[str] = ()) -> str:
    """The end of a report: each headline figure with its caption, then the appendix in one line.

    `names` are those of all figures: those that are drawn into no file are on the page.
    """
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
    files = {figure.file.stem for figure in drawn}
    if left := [name for name in names if name not in files]:
        lines.append(f"appendix: {', '.join(left)}: on the page; as files with --all")
    return "\n".join(map(escape_text, lines))


def draw_sweep(runs: Sequence[Run | Path | str], folder: Path, kind: str = "png") -> list[Path]:
    """A sweep's accuracies into `folder/sweep.png`, its losses into `folder/sweep_loss.png`."""
    settings = open_settings(runs)
    remove_leftovers(folder)
    figures = (draw_sweep_bands(settings), draw_sweep_losses(settings))
    return [save_figure(data, folder / f"{data.name}.{kind}") for data in figures]


def draw_measure(
    runs: Sequence[Run | Path | str], folder: Path, measure: str, kind: str = "png"
) -> tuple[Path, pd.DataFrame]:
    """A measure (`attention.corner`) over the settings of a sweep: its picture in the folder, and a
    table of its last values.
    """
    analysis, quantity = parse_measure(measure)
    settings = open_settings(runs)
    data = draw_sweep_measure(settings, analysis, quantity)
    table = tabulate_measure(settings, analysis, quantity)
    return save_figure(data, folder / f"{data.name}.{kind}"), table


def draw_circuit(run: Run | Path | str, report: CircuitReport, kind: str = "png") -> list[Path]:
    """A circuit as a record (JSON) and as a picture, graph and null, into the run's `figures/`."""
    run = Run.open(run)
    folder = open_figures(run)
    name = escape_file_name(report.name)
    record = folder / f"{name}.json"
    report.circuit.save(record)
    data = draw_circuit_report(report, run.config.model)
    return [record, save_figure(data, folder / f"{name}.{kind}")]
