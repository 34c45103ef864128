"""Commands that show what was measured: `report`, `tensorboard`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from toyvit.cli.command import Command, Parser
from toyvit.cli.completion import complete, offer_runs
from toyvit.cli.output import show, show_text
from toyvit.errors import BadInput, choose
from toyvit.runs.access import check_writable

if TYPE_CHECKING:
    from toyvit.report.panels import FigureData
    from toyvit.runs.folder import RunFolder
    from toyvit.runs.handle import Run


def add_report_arguments(parser: Parser) -> None:
    """RUN [RUN ...], --beside RUN, --format KIND, --all, --no-page, --to DIR."""
    runs = parser.add_argument(
        "run", type=Path, nargs="+", metavar="RUN", help="a run folder; others share its page"
    )
    complete(runs, offer_runs)
    beside = parser.add_argument(
        "--beside", type=Path, metavar="RUN", help="a second run to draw beside it"
    )
    complete(beside, offer_runs)
    parser.add_argument(
        "--format", default="png", help="of the figures: png, svg or pdf (default: png)"
    )
    parser.add_argument(
        "--all", action="store_true", help="draw the appendix into files too, not on the page alone"
    )
    parser.add_argument("--no-page", action="store_true", help="write no page")
    add_to(parser, "where page, figures and TensorBoard files go (default: into the run's folder)")


def add_to(parser: Parser, help: str) -> None:
    """--to DIR."""
    parser.add_argument("--to", type=Path, metavar="DIR", help=help)


def report(options: argparse.Namespace) -> int:
    """Write the page of a run, its figures and TensorBoard files, and print what it came to."""
    from toyvit.report import KINDS, open_figures, recall_comparison
    from toyvit.report.page.document import PAGE, write_page
    from toyvit.report.tensorboard import write
    from toyvit.runs.handle import Run

    choose(options.format, KINDS, "kind of figure")
    run, *others = map(Run, options.run)
    if not options.to:
        check_writable(run.path, f"`toyvit report {run.path} --to DIR` draws elsewhere")
    second = options.beside or (others[0] if others else None)
    beside = recall_comparison(run, second, note=not options.to)
    folder = open_figures(run, options.to)  # refused before anything is shown
    if beside and not second:
        show(f"beside {beside.path}, as the last time")

    figures = draw_figures(run, beside, folder, options)
    if not options.no_page:
        runs = list_page_runs([run, *([beside] if beside else []), *others])
        page = write_page(runs, folder / PAGE, {run.path: figures})
        show(f"page: {page} (open it in a browser)")
    write(run, options.to and options.to / "tensorboard")
    place = options.to or run.path.parent
    show(f"TensorBoard: make tensorboard LOGDIR={place}, or toyvit tensorboard {place}")
    return 0


def draw_figures(
    run: Run, beside: Run | None, folder: Path, options: argparse.Namespace
) -> list[FigureData]:
    """Print what a run came to and draw its figures into files; all of them as data.

    Without measures of test pictures a line says so, and the page has what there is.
    """
    from toyvit.report import compute_figures, format_figures, save_figures
    from toyvit.report.summary import summarize, tell_unmeasured

    if not options.no_page and (missing := tell_unmeasured(run)):
        show(f"toyvit: {missing}", error=True)
        return []
    show_text(summarize(run, beside))
    only = options.no_page and not options.all
    figures = compute_figures(run, beside, headlines_only=only)
    if options.no_page and not figures:
        raise BadInput(f"no figure of {run.path} can be drawn without its pictures")
    chosen = [figure for figure in figures if figure.is_headline or options.all]
    drawn = save_figures(chosen, folder, options.format)
    show_text(format_figures(drawn, [figure.name for figure in figures]))
    return [figure.data for figure in figures]


def list_page_runs(runs: Sequence[Run]) -> list[Run]:
    """The runs without those that are named twice, in their order."""
    return list({run.path.resolve(): run for run in runs}.values())


def add_tensorboard_arguments(parser: Parser) -> None:
    """[FOLDER], --port, --histograms, --to DIR."""
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path("runs"),
        metavar="FOLDER",
        help="a folder of runs (default: runs)",
    )
    parser.add_argument(
        "--port", type=int, default=6006, help="on this machine only (default: 6006)"
    )
    parser.add_argument(
        "--histograms", action="store_true", help="also of the weights, at 40 checkpoints a run"
    )
    add_to(parser, "where the files go, a folder a run (default: into the runs' folders)")


def open_tensorboard(options: argparse.Namespace) -> int:
    """Write the TensorBoard files of all runs below a folder, and serve them until stopped."""
    from tqdm import tqdm

    from toyvit.runs.finding import find_runs

    folders = find_runs(options.folder)
    if not folders:
        raise BadInput(f"{options.folder} holds no run")
    differing = find_differing(folders)
    bar = tqdm(folders, desc="writing TensorBoard files", unit="run", disable=None)
    for folder in bar:
        to = options.to and options.to / folder.path.relative_to(options.folder)
        try:
            write_events(folder, to, options.histograms, differing)
        except BadInput as error:  # it hides no other run
            with bar.external_write_mode(sys.stderr):
                show(f"toyvit: {error}", error=True)
    place = str(options.to or options.folder)
    words = ["--logdir", place, "--port", str(options.port), "--host", "localhost"]
    return subprocess.call([sys.executable, "-m", "tensorboard.main", *words])


def find_differing(folders: Sequence[RunFolder]) -> set[str]:
    """The fields of the configs that differ between runs; a damaged run has none."""
    from toyvit.report.tensorboard import list_differing

    configs = []
    for folder in folders:
        with suppress(BadInput):  # it is named when its files are written
            configs.append(folder.read_config())
    return list_differing(configs)


def write_events(
    folder: RunFolder, to: Path | None, histograms: bool = False, differing: Collection[str] = ()
) -> None:
    """The TensorBoard files of one run, there or elsewhere; BadInput where they cannot be."""
    from toyvit.report.tensorboard import write
    from toyvit.runs.handle import Run

    run = Run(folder)
    if not to:
        hint = "what it has in TensorBoard is shown as it is; `--to DIR` writes all of it elsewhere"
        check_writable(run.path, hint)
    write(run, to, histograms=histograms, differing=differing)


COMMANDS = (
    Command(
        name="report",
        help=(
            "write the page of a measured run, its figures and TensorBoard files, "
            "and print what it came to"
        ),
        add_arguments=add_report_arguments,
        run=report,
    ),
    Command(
        name="tensorboard",
        help=(
            "write the TensorBoard files of all runs below a folder anew and open TensorBoard on it"
        ),
        add_arguments=add_tensorboard_arguments,
        run=open_tensorboard,
    ),
)
