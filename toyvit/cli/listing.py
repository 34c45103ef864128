"""`ls`: the runs below a folder, filtered, sorted, with any column, or compared."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from toyvit.cli.command import Command, Parser
from toyvit.cli.output import align_rows, show, show_text
from toyvit.errors import BadInput, choose, escape_text
from toyvit.runs.provenance import ELSEWHERE
from toyvit.runs.run_table import (
    STATUSES,
    RunRecord,
    Selection,
    Value,
    compare_records,
    format_value,
    read_record,
    select_records,
)

KINDS = ("text", "csv", "json")
SCORES = """Loss and accuracy are those of the last checkpoint on validation pictures;
of test pictures, once measured: --columns performance.loss,performance.accuracy"""


def add_ls_arguments(parser: Parser) -> None:
    """[FOLDER ...], --where FIELD=VALUE, --status, --sort, --columns, --compare, --format."""
    parser.add_argument(
        "folders",
        type=Path,
        nargs="*",
        default=[Path("runs")],
        metavar="FOLDER",
        help="a run, or a folder of runs (default: runs)",
    )
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
    selection = Selection(
        columns=tuple(options.columns.split(",")) if options.columns else (),
        conditions=tuple(options.where),
        status=options.status,
        sort=options.sort,
        is_downward=options.reverse,
    )
    damaged: list[BadInput] = []
    records = read_records(options.folders, damaged.append)
    chosen = select_records(
        records, selection, list_quantities, lambda record, error: damaged.append(error)
    )
    for error in damaged:  # it hides no other run
        show(f"toyvit: {error}", error=True)
    if not chosen and not damaged and options.format == "text":
        show(tell_none(options.folders, len(records)), error=True)
    else:
        show_records(chosen, selection.columns, options)
    return 2 if damaged else 0


def tell_none(folders: Sequence[Path], count: int) -> str:
    """Why nothing is listed, of `count` runs."""
    where = ", ".join(map(str, folders))
    return f"none of the {count} runs in {where} matches" if count else f"no run in {where}"


def list_quantities() -> list[str]:
    """All that can be measured, as columns; what declares it is read when it is asked for."""
    from toyvit.analyses import registry

    return registry.list_quantities()


def read_records(folders: Sequence[Path], report: Callable[[BadInput], None]) -> list[RunRecord]:
    """All runs that can be read; of the others it is reported what is damaged."""
    from toyvit.runs.finding import find_runs

    records = []
    for place in folders:
        if not place.is_dir():
            raise BadInput(f"{place} is not a folder")
        for folder in find_runs(place):
            try:
                records.append(read_record(folder))
            except BadInput as error:
                report(error)
    return records


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
    planned = "" if own["status"] in ELSEWHERE else f" of {own['steps']}"
    progress = f"{own['checkpoints']} checkpoints to step {own['step']}{planned}"
    is_scored = own["loss"] is not None and own["accuracy"] is not None
    scores = f"loss {own['loss']:.3f}  accuracy {own['accuracy']:.3f}" if is_scored else ""
    return f"{own['path']:36} {own['recipe']:18} {own['status']:9} {progress}  {scores}"


def format_rows(header: Sequence[str], rows: Sequence[Sequence[Value]], kind: str) -> str:
    """A table as aligned text, as CSV, or as JSON (a list of objects)."""
    if kind == "json":
        return json.dumps([dict(zip(header, row, strict=True)) for row in rows], indent=1)
    texts = [list(map(format_value, row)) for row in rows]
    if kind == "csv":
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows([header, *texts])
        return file.getvalue().removesuffix("\n")

    return align_rows([list(map(escape_text, row)) for row in (header, *texts)])


COMMANDS = (
    Command(
        name="ls",
        help="list runs: filtered, sorted, with any column, or compared",
        add_arguments=add_ls_arguments,
        run=list_runs,
        write_epilog=lambda: SCORES,
    ),
)
