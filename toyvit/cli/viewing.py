"""Commands that show what was measured: `report`, `tensorboard`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from toyvit.cli.arguments import add_run
from toyvit.cli.command import Command, Parser
from toyvit.cli.completion import complete, offer_runs
from toyvit.cli.output import show, show_text
from toyvit.errors import BadInput
from toyvit.runs.access import check_writable

if TYPE_CHECKING:
    from toyvit.runs.folder import RunFolder


def add_report_arguments(parser: Parser) -> None:
    """RUN, --beside RUN, --format KIND, --to DIR."""
    add_run(parser)
    beside = parser.add_argument(
        "--beside", type=Path, metavar="RUN", help="a second run to draw beside it"
    )
    complete(beside, offer_runs)
    parser.add_argument(
        "--format", default="png", help="of the figures: png, svg or pdf (default: png)"
    )
    add_to(parser, "where figures and TensorBoard files go (default: into the run's folder)")


def add_to(parser: Parser, help: str) -> None:
    """--to DIR."""
    parser.add_argument("--to", type=Path, metavar="DIR", help=help)


def report(options: argparse.Namespace) -> int:
    """Draw the figures of a run, write its TensorBoard files and print what it came to."""
    from toyvit.report import draw, format_figures, open_figures, recall_comparison
    from toyvit.report.summary import summarize
    from toyvit.report.tensorboard import write
    from toyvit.runs.handle import Run

    run = Run(options.run)
    if not options.to:
        check_writable(run.path, f"`toyvit report {run.path} --to DIR` draws elsewhere")
    beside = recall_comparison(run, options.beside, note=not options.to)
    summary = summarize(run, beside)
    open_figures(run, options.to)  # refused before anything is shown

    if beside and not options.beside:
        show(f"beside {beside.path}, as the last time")
    show_text(summary)
    drawn = draw(run, beside, options.format, options.to)
    if not drawn:
        raise BadInput(f"no figure of {run.path} can be drawn without its pictures")
    show_text(format_figures(drawn))
    write(run, options.to and options.to / "tensorboard")
    folder = options.to or run.path.parent
    show(f"TensorBoard: make tensorboard LOGDIR={folder}, or toyvit tensorboard {folder}")
    return 0


def add_tensorboard_arguments(parser: Parser) -> None:
    """[FOLDER], --port, --to DIR."""
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs"))
    parser.add_argument(
        "--port", type=int, default=6006, help="on this machine only (default: 6006)"
    )
    add_to(parser, "where the files go, a folder a run (default: into the runs' folders)")


def open_tensorboard(options: argparse.Namespace) -> int:
    """Write the TensorBoard files of all runs below a folder, and serve them until stopped."""
    from tqdm import tqdm

    from toyvit.runs.finding import find_runs

    folders = find_runs(options.folder)
    if not folders:
        raise BadInput(f"{options.folder} holds no run")
    bar = tqdm(folders, desc="writing TensorBoard files", unit="run", disable=None)
    for folder in bar:
        to = options.to and options.to / folder.path.relative_to(options.folder)
        try:
            write_events(folder, to)
        except BadInput as error:  # it hides no other run
            with bar.external_write_mode(sys.stderr):
                show(f"toyvit: {error}", error=True)
    place = str(options.to or options.folder)
    words = ["--logdir", place, "--port", str(options.port), "--host", "localhost"]
    return subprocess.call([sys.executable, "-m", "tensorboard.main", *words])


def write_events(folder: RunFolder, to: Path | None) -> None:
    """The TensorBoard files of one run, there or elsewhere; BadInput where they cannot be."""
    from toyvit.report.tensorboard import write
    from toyvit.runs.handle import Run

    run = Run(folder)
    if not to:
        hint = "what it has in TensorBoard is shown as it is; `--to DIR` writes all of it elsewhere"
        check_writable(run.path, hint)
    write(run, to)


COMMANDS = (
    Command(
        name="report",
        help=(
            "draw the figures of a measured run, write its TensorBoard files "
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
