"""The table of runs as the browser has it: what `toyvit ls` filters, sorts and compares."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from threading import Lock, Thread

from starlette.datastructures import QueryParams

from toyvit.analyses.registry import list_quantities
from toyvit.errors import BadInput, choose, escape_text
from toyvit.report.live.shelf import RunShelf, State, read_state
from toyvit.report.plain import Plain
from toyvit.runs.run_table import (
    OWN,
    STATUSES,
    RunRecord,
    Selection,
    check_columns,
    compare_records,
    format_value,
    list_fields,
    read_record,
    select_records,
)

MOST_COLUMNS = 40
MOST_COMPARED = 24  # runs beside each other
# What may be asked of the table, and what may be asked more than once.
ONCE = ("columns", "status", "sort", "reverse")
OFTEN = ("where", "run")


class RunRows:
    """The runs of a shelf as rows of columns. They are read again where they have changed."""

    def __init__(self, shelf: RunShelf) -> None:
        self.shelf = shelf
        self._records: dict[int, tuple[State, RunRecord]] = {}
        self._turn = Lock()

    def describe(self) -> Plain:
        """What can be asked of the table: statuses, columns of the runs' own, fields, measures."""
        records = self.read_all()[0]
        return {
            "statuses": list(STATUSES),
            "own": list(OWN),
            "fields": list(list_fields(records.values())),
            "measures": list(list_quantities()),
        }

    def select(self, asked: QueryParams) -> Plain:
        """The runs that a question chooses, in its order: number, name, a text a column.

        Damaged runs stand apart, with what is wrong. BadInput for what cannot be asked.
        """
        selection = read_selection(asked)
        records, problems = self.read_all()
        places = {id(record): place for place, record in records.items()}

        def report(record: RunRecord, error: BadInput) -> None:
            problems.append(self.name_problem(places[id(record)], error))

        rows: list[Plain] = []
        for record in select_records(list(records.values()), selection, list_quantities, report):
            place = places[id(record)]
            texts: list[Plain] = [format_value(record.get(name)) for name in selection.columns]
            rows.append({"run": place, "name": self.shelf.names[place], "texts": texts})
        return {"rows": rows, "problems": problems, "all": len(self.shelf.names)}

    def compare(self, asked: QueryParams) -> Plain:
        """Some runs side by side: scores, the columns asked for, the fields that differ."""
        selection = read_selection(asked)
        places = list(dict.fromkeys(self.shelf.find(name) for name in asked.getlist("run")))
        if not 2 <= len(places) <= MOST_COMPARED:
            raise BadInput(f"2 to {MOST_COMPARED} runs are compared, got {len(places)}")
        records = [self.read(place) for place in places]
        check_columns(selection.columns, records, list_quantities)
        columns = [name for name in selection.columns if name not in OWN]
        rows: list[Plain] = [
            [str(name), *map(format_value, values)]
            for name, *values in compare_records(records, columns)
        ]
        return {"names": [self.shelf.names[place] for place in places], "rows": rows}

    def read_ahead(self) -> None:
        """Begin to read all runs, before somebody opens the address."""
        Thread(target=self._read_quietly, daemon=True).start()

    def _read_quietly(self) -> None:
        with suppress(Exception):  # it is told to who asks
            self.read_all()

    def read_all(self) -> tuple[dict[int, RunRecord], list[Plain]]:
        """Every run that can be read, by its number; of the others what is wrong.

        Who asks while they are being read waits for that, instead of reading them too.
        """
        records: dict[int, RunRecord] = {}
        problems: list[Plain] = []
        with self._turn:
            for place in range(len(self.shelf.names)):
                try:
                    records[place] = self.read(place)
                except (BadInput, OSError) as error:  # it hides no other run
                    problems.append(self.name_problem(place, error))
        return records, problems

    def name_problem(self, place: int, error: Exception) -> Plain:
        """A run that cannot be read, and why."""
        return {"name": self.shelf.names[place], "problem": escape_text(str(error))}

    def read(self, place: int) -> RunRecord:
        """A run as its files say now; BadInput or OSError where they cannot be read.

        Where none of them has changed its status alone is read: a training may have ended.
        """
        folder = self.shelf.folders[place]
        state = read_state(folder)
        if place not in self._records or self._records[place][0] != state:
            self._records[place] = state, read_record(folder)
        record = self._records[place][1]
        record.own["status"] = folder.read_status(record.config)
        return record


def read_selection(asked: QueryParams) -> Selection:
    """What a question selects; BadInput that says which part of it is wrong."""
    for name in asked:
        choose(name[:100], (*ONCE, *OFTEN), "part of the question")
    for name in ONCE:
        if len(asked.getlist(name)) > 1:
            raise BadInput(f"{name} may be asked for once")
    reverse = choose(asked.get("reverse", "0")[:100], ("0", "1"), "reverse")
    selection = Selection(
        columns=split_names(asked.get("columns", "")),
        conditions=tuple(asked.getlist("where")),
        status=asked.get("status") or None,
        sort=asked.get("sort") or None,
        is_downward=reverse == "1",
    )
    check_size(selection.list_columns())
    return selection


def split_names(text: str) -> tuple[str, ...]:
    """Names joined by commas, each once.

    >>> split_names("step,accuracy,step"), split_names("")
    (('step', 'accuracy'), ())
    """
    return tuple(dict.fromkeys(filter(None, text.split(","))))


def check_size(columns: Sequence[str]) -> None:
    """BadInput for more columns than a table can have."""
    if len(columns) > MOST_COLUMNS:
        raise BadInput(f"a table has at most {MOST_COLUMNS} columns, got {len(columns)}")
