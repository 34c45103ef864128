"""Commands that show what was measured: `report`, `tensorboard`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from toyvit.cli.arguments import add_run
from toyvit.cli.command import Command, Parser
from toyvit.cli.completion import complete, offer_runs
from toyvit.errors import BadInput, escape_text


def add_report_arguments(parser: Parser) -> None:
    """RUN, --beside RUN, --format KIND."""
    add_run(parser)
    beside = parser.add_argument(
        "--beside", type=Path, metavar="RUN", help="a second run to draw beside it"
    )
    complete(beside, offer_runs)
    parser.add_argument(
        "--format", default="png", help="of the figures: png, svg or pdf (default: png)"
    )


def report(options: argparse.Namespace) -> int:
    """Draw the figures of a run, write its TensorBoard files and print what it came to."""
    from toyvit.report import draw, format_figures, recall_comparison
    from toyvit.report.summary import summarize
    from toyvit.report.tensorboard import write
    from toyvit.runs.handle import Run

    run = Run(options.run)
    beside = recall_comparison(run, options.beside)
    if beside and not options.beside:
        print(f"beside {beside.path}, as the last time")
    print(summarize(run, beside))
    print(format_figures(draw(run, beside, options.format)))
    write(run)
    folder = run.path.parent
    print(f"TensorBoard: make tensorboard LOGDIR={folder}, or toyvit tensorboard {folder}")
    return 0


def add_tensorboard_arguments(parser: Parser) -> None:
    """[FOLDER], --port."""
    parser.add_argument("folder", type=Path, nargs="?", default=Path("runs"))
    parser.add_argument(
        "--port", type=int, default=6006, help="on this machine only (default: 6006)"
    )


def open_tensorboard(options: argparse.Namespace) -> int:
    """Write the TensorBoard files of all runs below a folder, and serve them until stopped."""
    from tqdm import tqdm

    from toyvit.report.tensorboard import write
    from toyvit.runs.folder import find_runs
    from toyvit.runs.handle import Run

    folders = find_runs(options.folder)
    if not folders:
        raise BadInput(f"{options.folder} holds no run")
    bar = tqdm(folders, desc="writing TensorBoard files", unit="run", disable=len(folders) < 2)
    for folder in bar:
        try:
            write(Run(folder))
        except BadInput as error:  # it hides no other run
            bar.write(f"toyvit: {escape_text(str(error))}", file=sys.stderr)
    words = ["--logdir", str(options.folder), "--port", str(options.port), "--host", "localhost"]
    return subprocess.call([sys.executable, "-m", "tensorboard.main", *words])


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
