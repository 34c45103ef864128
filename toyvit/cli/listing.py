"""`ls`: the runs below a folder, filtered, sorted, with any column, or compared."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from toyvit.cli.command import Command, Parser
from toyvit.cli.output import show, show_text
from toyvit.cli.run_table import (
    RunRecord,
    check_columns,
    compare_records,
    fits,
    format_rows,
    read_record,
    sort_records,
)
from toyvit.errors import BadInput, choose

KINDS = ("text", "csv", "json")
STATUSES = ("running", "finished", "diverged", "stopped")


def add_ls_arguments(parser: Parser) -> None:
    """[FOLDER ...], --where FIELD=VALUE, --status, --sort, --columns, --compare, --format."""
    parser.add_argument("folders", type=Path, nargs="*", default=[Path("runs")], metavar="FOLDER")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="only runs with this value, or one of several: model.n_layers=1,2 (may be repeated)",
    )
    parser.add_argument("--status", help="only runs that are " + ", ".join(STATUSES))
    parser.add_argument("--sort", metavar="COLUMN", help="by a column, upward")
    parser.add_argument("--reverse", action="store_true", help="sorted downward")
    parser.add_argument(
        "--columns",
        metavar="NAMES",
        help="fields of configs and last values of measures: model.n_layers,induction.mass",
    )
    parser.add_argument(
        "--compare", action="store_true", help="side by side: scores, and the fields that differ"
    )
    parser.add_argument("--format", default="text", help="text, csv or json (default: text)")


def list_runs(options: argparse.Namespace) -> int:
    """Print the runs below some folders, a line each; a damaged one is named, and the code is 2."""
    choose(options.format, KINDS, "format")
    if options.status is not None:
        choose(options.status, STATUSES, "status")
    for condition in options.where:
        if not all(condition.partition("=")):
            raise BadInput(f"--where is FIELD=VALUE, got {condition!r}: --where model.n_layers=2")

    records, code = read_records(options.folders)
    columns = options.columns.split(",") if options.columns else []
    asked = [condition.partition("=")[0] for condition in options.where]
    check_columns([*columns, *asked, *filter(None, [options.sort])], records)
    chosen = [record for record in records if options.status in (None, record.own["status"])]
    for condition in options.where:
        chosen = [record for record in chosen if fits(record, condition)]
    if options.sort:
        chosen = sort_records(chosen, options.sort, downward=options.reverse)
    show_records(chosen, columns, options)
    return code


def read_records(folders: Sequence[Path]) -> tuple[list[RunRecord], int]:
    """All runs that can be read, and the exit code: 2 where one cannot."""
    from toyvit.runs.finding import find_runs

    records = []
    code = 0
    for place in folders:
        if not place.is_dir():
            raise BadInput(f"{place} is not a folder")
        for folder in find_runs(place):
            try:
                records.append(read_record(folder))
            except BadInput as error:  # it hides no other run
                show(f"toyvit: {error}", error=True)
                code = 2
    return records, code


def show_records(
    records: Sequence[RunRecord], columns: Sequence[str], options: argparse.Namespace
) -> None:
    """Print runs: compared, as a table of the columns asked for, or a line each."""
    if options.compare:
        header = ["", *(str(record.own["path"]) for record in records)]
        show_text(format_rows(header, compare_records(records, columns), options.format))
    elif columns or options.format != "text":
        names = list(dict.fromkeys(["path", *(columns or list(records[0].own if records else ()))]))
        rows = [list(map(record.get, names)) for record in records]
        show_text(format_rows(names, rows, options.format))
    else:
        for record in records:
            show(describe_run(record))


def describe_run(record: RunRecord) -> str:
    """A line: path, recipe, status, progress, scores of the last checkpoint."""
    own = record.own
    progress = f"{own['checkpoints']} checkpoints to step {own['step']} of {own['steps']}"
    scores = f"loss {own['loss']:.3f}  accuracy {own['accuracy']:.3f}" if own["checkpoints"] else ""
    return f"{own['path']:36} {own['recipe']:18} {own['status']:9} {progress}  {scores}"


COMMANDS = (
    Command(
        name="ls",
        help="list runs: filtered, sorted, with any column, or compared",
        add_arguments=add_ls_arguments,
        run=list_runs,
    ),
)
