"""Runs as records of columns: what is filtered, sorted and compared, by `toyvit ls` and in the
browser of `toyvit view`. Measures are read if asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from toyvit.config.run import flatten
from toyvit.errors import BadInput, choose, suggest_nearest

if TYPE_CHECKING:
    from toyvit.config import RunConfig
    from toyvit.runs.folder import RunFolder

Value = str | int | float | bool | None | list["Value"]
STATUSES = ("running", "finished", "diverged", "stopped")
OWN = ("path", "recipe", "status", "checkpoints", "step", "steps", "loss", "accuracy")


@dataclass
class RunRecord:
    """One run: its own columns, the fields of its config, and its measures when they are asked."""

    folder: RunFolder
    config: RunConfig
    own: dict[str, Value]
    measures: dict[str, Value] = field(default_factory=dict)  # that were read

    @cached_property
    def fields(self) -> dict[str, Value]:
        """The config as one record, its names joined by dots."""
        return flatten(self.config.to_json())

    def get(self, column: str) -> Value:
        """A column of `OWN`, a field of the config, or the last value of `analysis.quantity`; None
        where the run has no such thing.
        """
        if column in self.own:
            return self.own[column]
        if column in self.fields:
            return self.fields[column]
        if column not in self.measures:
            self.measures[column] = read_measure(self.folder, column)
        return self.measures[column]


@dataclass(frozen=True)
class Selection:
    """Which runs of a table, in which order, with which columns beside their path.

    columns     of `RunRecord.get`
    conditions  each `FIELD=VALUE`, or one of several values: `model.n_layers=1,2`
    status      of `STATUSES`; None for all
    sort        a column, upward, or downward
    """

    columns: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    status: str | None = None
    sort: str | None = None
    is_downward: bool = False

    def list_columns(self) -> list[str]:
        """Every column that is shown, asked for a value, or sorted by.

        >>> Selection(columns=("step",), conditions=("recipe=digits",), sort="loss").list_columns()
        ['step', 'recipe', 'loss']
        """
        asked = [condition.partition("=")[0] for condition in self.conditions]
        return [*self.columns, *asked, *([] if self.sort is None else [self.sort])]


def read_record(folder: RunFolder) -> RunRecord:
    """A run as its files say now; BadInput where they are damaged."""
    config = folder.read_config()
    n_checkpoints, last = folder.read_progress()
    own: dict[str, Value] = {
        "path": str(folder.path),
        "recipe": config.recipe,
        "status": folder.read_status(config),
        "checkpoints": n_checkpoints,
        "step": last.step if last else 0,
        "steps": config.train.steps,
        "loss": last.loss if last else None,
        "accuracy": last.accuracy if last else None,
    }
    return RunRecord(folder, config, own)


def read_measure(folder: RunFolder, column: str) -> Value:
    """The last value of a measured quantity, of the strongest head; None where there is none."""
    analysis, _, quantity = column.partition(".")
    if not quantity or not folder.measures.exists():
        return None
    from toyvit.runs.handle import Run

    values = Run(folder).curve(analysis, quantity)
    return float(values.iloc[-1]) if len(values) else None


def select_records(
    records: Sequence[RunRecord],
    selection: Selection,
    list_quantities: Callable[[], list[str]],
    report: Callable[[RunRecord, BadInput], None],
) -> list[RunRecord]:
    """The records that a selection chooses, in its order.

    `list_quantities` names all that can be measured, `analysis.quantity`; it is called where a
    column is none of the runs' own. BadInput for a column that there is not, for a condition that
    is none, and for a status that no run can have. A run whose measures are asked for and damaged
    is reported and left out.
    """
    if selection.status is not None:
        choose(selection.status, STATUSES, "status")
    for condition in selection.conditions:
        if not all(condition.partition("=")):
            raise BadInput(f"where is FIELD=VALUE, got {condition!r}: where model.n_layers=2")
    columns = selection.list_columns()
    check_columns(columns, records, list_quantities)

    chosen = [record for record in records if selection.status in (None, record.own["status"])]
    chosen = [record for record in chosen if has_columns(record, columns, report)]
    for condition in selection.conditions:
        chosen = [record for record in chosen if fits(record, condition)]
    if selection.sort is None:
        return chosen
    return sort_records(chosen, selection.sort, downward=selection.is_downward)


def has_columns(
    record: RunRecord, columns: Iterable[str], report: Callable[[RunRecord, BadInput], None]
) -> bool:
    """Whether a run's columns can be read; what is damaged is reported."""
    try:
        for column in columns:
            record.get(column)
    except BadInput as error:
        report(record, error)
        return False
    return True


def check_columns(
    columns: Iterable[str],
    records: Sequence[RunRecord],
    list_quantities: Callable[[], list[str]],
) -> None:
    """BadInput for a column that no run has and that is no analysis's quantity."""
    asked = [column for column in columns if column not in OWN]
    known = list_fields(records) if asked else []
    for column in asked:
        if column not in known and column not in list_quantities():
            names = [*OWN, *known, *list_quantities()]
            raise BadInput(f"no column {column!r}{suggest_nearest(column, names)}")


def list_fields(records: Iterable[RunRecord]) -> list[str]:
    """The fields that the configs of some runs have, by name.

    Of runs whose configs have the same parts but for the seeds one is looked at: of a thousand runs
    most are such, and parts that are read alike are one record.
    """
    unlike = {}
    for record in records:
        config = record.config
        unlike[id(config.task), id(config.model), id(config.train)] = record
    return sorted(set().union(*(record.fields for record in unlike.values())))


def fits(record: RunRecord, condition: str) -> bool:
    """Whether a run has a value: `model.n_layers=2`, or one of several, `model.n_layers=1,2`.

    Numbers are compared as numbers, all else as text.
    """
    column, _, wanted = condition.partition("=")
    return any(is_same(record.get(column), text) for text in wanted.split(","))


def is_same(value: Value, text: str) -> bool:
    """Whether a value is what a text says.

    >>> is_same(0.001, "1e-3"), is_same(True, "true"), is_same(None, "none"), is_same(2, "20")
    (True, True, True, False)
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return value == float(text)
        except ValueError:
            return False
    return format_value(value).casefold() == text.casefold()


def sort_records(
    records: Sequence[RunRecord], column: str, *, downward: bool = False
) -> list[RunRecord]:
    """By a column, upward or downward. Runs that do not have it come last."""
    having = [record for record in records if record.get(column) is not None]
    rest = [record for record in records if record.get(column) is None]
    numbers = all(isinstance(record.get(column), int | float) for record in having)

    def key(record: RunRecord) -> tuple[float, str]:
        value = record.get(column)
        return (float(value), "") if numbers and isinstance(value, int | float) else (0, str(value))

    return sorted(having, key=key, reverse=downward) + rest


def format_value(value: Value) -> str:
    """As it stands in a table.

    >>> format_value(0.123456789), format_value(None), format_value(500)
    ('0.123457', 'none', '500')
    """
    if isinstance(value, float):
        return f"{value:.6g}"
    return "none" if value is None else str(value)


def compare_records(records: Sequence[RunRecord], columns: Sequence[str] = ()) -> list[list[Value]]:
    """Rows (what, value of each run): scores, other columns, the fields of configs that differ."""
    rows: list[list[Value]] = [
        [name, *(record.get(name) for record in records)]
        for name in ("status", "step", "loss", "accuracy", *columns)
    ]
    rows.append(["accuracy over training", *(draw_line(record.folder) for record in records)])
    for name in list_fields(records):
        values = [record.fields.get(name) for record in records]
        if any(value != values[0] for value in values):
            rows.append([name, *values])
    return rows


def draw_line(folder: RunFolder, width: int = 24) -> str:
    """The accuracy at the checkpoints of a run, 0 to 1, as a line of blocks."""
    entries = folder.read_manifest()
    if not entries:
        return ""
    n = min(width, len(entries))
    picked = [entries[round(place * (len(entries) - 1) / max(1, n - 1))] for place in range(n)]
    blocks = "▁▂▃▄▅▆▇█"
    levels = [min(max(entry.accuracy or 0.0, 0.0), 1.0) for entry in picked]
    return "".join(blocks[round(level * (len(blocks) - 1))] for level in levels)
