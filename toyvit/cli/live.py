"""The command that serves runs live: `view`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from toyvit.cli.command import Command, Parser
from toyvit.cli.completion import complete, offer_runs
from toyvit.cli.imports import importing
from toyvit.cli.output import show

HERE = "127.0.0.1"


def add_view_arguments(parser: Parser) -> None:
    """RUN, --port N, --host HOST."""
    run = parser.add_argument(
        "run", type=Path, metavar="RUN", help="a run folder, or a folder of runs"
    )
    complete(run, offer_runs)
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    parser.add_argument(
        "--host",
        default=HERE,
        help="let others in, unencrypted, who have the address (default: 127.0.0.1)",
    )


def view(options: argparse.Namespace) -> int:
    """Serve the page of a run, or of a folder of them, until Ctrl-C."""
    with importing():
        from toyvit.report.live.serving import serve

    with serve(options.run, options.host, options.port) as (thread, address):
        show(f"open {address} in a browser; Ctrl-C ends it")
        sys.stdout.flush()
        thread.join()
    return 0


COMMANDS = (
    Command(
        name="view",
        help=(
            "serve the page of a run live, or a folder of runs: any checkpoint, picture and "
            "intervention, digits that you draw"
        ),
        add_arguments=add_view_arguments,
        run=view,
        how_to_go_on="nothing was written",
    ),
)
