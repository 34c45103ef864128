"""What a replication is, and what one seed of it came to, in a file."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

from toyvit.config.whole_files import write_atomically
from toyvit.errors import BadInput
from toyvit.runs.disk import format_line
from toyvit.runs.records import read_checked

Panel = dict[str, Any]  # what `build_lines` and `build_grid` make: a picture's part, in plain JSON
MOST_POINTS = 80  # of a curve in a record
FOLDER = "replications"  # where the command puts records, in the folder of runs
# Where a published figure stands.
TEXT = "text"
PLOT = "read off a plot"
ONE_RUN = "one run of the public code, one seed"  # no figure of the paper
LAB = "this lab's recipe, earlier runs"


@dataclass(frozen=True)
class Check:
    """A number beside the published one, and the margin from `low` to `high` in which it agrees.

    `limits` are values that the number cannot pass, such as 0 and 1 of an accuracy. Of what happens
    in a seed (1) or not (0) the margin is that of the share of seeds, with `is_share`.
    """

    number: str  # its key among the numbers of an outcome
    meaning: str
    published: str
    origin: str  # where that stands: text, or read off a plot
    low: float
    high: float
    limits: tuple[float, float] = (-inf, inf)
    is_share: bool = False


@dataclass(frozen=True)
class Outcome:
    """What one seed came to: numbers by name, and the panels of its picture.

    A number is None where it never happened.
    """

    numbers: Mapping[str, float | None]
    panels: list[Panel]


@dataclass(frozen=True, kw_only=True)
class Replication:
    """A published result: what is compared, how a seed of it is run, and when it agrees.

    A seed is run in a folder of its own.
    """

    name: str
    title: str
    source: str
    compared: str
    run: Callable[[int, Path], Outcome]
    checks: tuple[Check, ...]
    minutes: float  # CPU, about
    remark: str = ""  # what is known about why the numbers differ
    version: int = 1
    ready: Callable[[], None] = lambda: None  # BadInput where something that it needs is not here
    seeds: tuple[int, ...] | None = None  # those that count; None: any


@dataclass(frozen=True, kw_only=True)
class Record:
    """A finished seed of a replication, as it stands in a file."""

    name: str
    version: int
    seed: int
    minutes: float | None  # CPU; None where the seed went on from an earlier session
    numbers: Mapping[str, float | None]
    panels: list[Panel]


def build_lines(
    title: str,
    x: str,
    y: str,
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    levels: Mapping[str, float] | None = None,
    scale: str = "linear",
    height: str = "linear",
) -> Panel:
    """A panel of curves, thinned; `levels` are baselines to draw across, `scale` and `height` the
    axes' scales.
    """
    thin = {}
    for name, (xs, ys) in curves.items():
        places = _places(len(xs), scale != "linear")
        thin[name] = [_round_all(xs, places), _round_all(ys, places)]
    return {
        "kind": "lines",
        **{"title": title, "x": x, "y": y, "scale": scale, "height": height},
        "curves": thin,
        "levels": {name: _round(value) for name, value in (levels or {}).items()},
    }


def build_grid(
    title: str,
    x: str,
    y: str,
    value: str,
    places: tuple[Sequence[float], Sequence[float]],
    values: Any,
) -> Panel:
    """A panel of colours: `values` (y x) at the places of its columns and rows."""
    columns, rows = places
    return {
        "kind": "grid",
        "title": title,
        "x": x,
        "y": y,
        "value": value,
        "columns": [_round(place) for place in columns],
        "rows": [_round(place) for place in rows],
        "values": [_round_all(row, range(len(row))) for row in values],
    }


def _round_all(values: Sequence[float], places: Iterable[int]) -> list[float | None]:
    """The values at some places, rounded."""
    return [_round(values[place]) for place in places]


def _places(n: int, logarithmic: bool) -> list[int]:
    """Which of n points a record keeps: evenly spread, or in logarithm; the first and the last
    always.
    """
    if n <= MOST_POINTS:
        return list(range(n))
    shares = (k / (MOST_POINTS - 1) for k in range(MOST_POINTS))
    return sorted(
        {round(n**share) - 1 if logarithmic else round(share * (n - 1)) for share in shares}
    )


def _round(value: float) -> float | None:
    """Five digits; None (JSON has no NaN) where it is no number."""
    return float(f"{float(value):.5g}") if value == value and abs(value) != float("inf") else None


def build_path(folder: Path, name: str, seed: int) -> Path:
    return folder / f"{name}-{seed}.json"


def write_record(folder: Path, record: Record) -> None:
    """Write a record into its file, with five digits of each number."""
    numbers = {
        name: None if value is None else _round(value) for name, value in record.numbers.items()
    }
    minutes = None if record.minutes is None else _round(record.minutes)
    text = format_line(asdict(record) | {"numbers": numbers, "minutes": minutes})
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(build_path(folder, record.name, record.seed), text.encode())


def read_record(path: Path) -> Record:
    """A record; BadInput where the file is damaged.

    One without a digest, of version 0.2 and before, is said to have none.
    """
    try:
        record = Record(**read_checked(path))
        if path != build_path(path.parent, record.name, record.seed):
            raise ValueError("it is another's")
        _check_types(record)
        return record
    except (ValueError, TypeError) as error:
        why = str(error).removeprefix(f"{path} ").splitlines()[0]
        raise BadInput(
            f"{path} is not a record of a replication ({why}): delete it, and"
            f" `{_name_command(path)}` makes it again"
        ) from None


def _name_command(path: Path) -> str:
    """The command that runs the seed of a record again, as far as its place tells."""
    name, _, seed = path.stem.rpartition("-")
    words = ["toyvit", "replicate", name, "--seeds", seed]
    if path.parent.name == FOLDER:
        words += ["--runs", str(path.parent.parent)]
    return shlex.join(words)


def find_records(folder: Path, files: Iterable[str], names: Collection[str]) -> list[Path]:
    """Those of a folder's files that are called as records of replications of some names are.

    In a folder `replications`, of any name.

    >>> find_records(Path("docs"), ["coin-0.json", "note-1.json", "coin.json"], ["coin"])
    [PosixPath('docs/coin-0.json')]
    """
    records = []
    for path in map(folder.joinpath, files):
        name, _, seed = path.stem.rpartition("-")
        is_called_so = path.suffix == ".json" and seed.isdigit()
        if is_called_so and (name in names or folder.name == FOLDER):
            records.append(path)
    return records


def _check_types(record: Record) -> None:
    """ValueError where a field is of another kind than what is written."""
    numbers = {"minutes": record.minutes}
    if isinstance(record.numbers, dict):
        numbers |= record.numbers
    strange = [name for name, value in numbers.items() if not _is_number(value)]
    if strange:
        raise ValueError(f"{strange[0]!r} is no number")

    are_panels = isinstance(record.panels, list) and all(
        isinstance(panel, dict) for panel in record.panels
    )
    if not (isinstance(record.numbers, dict) and are_panels):
        raise ValueError("its numbers are no object, or its panels no list of them")
    if not (type(record.version) is int and type(record.seed) is int):
        raise ValueError("its version and seed are no whole numbers")


def _is_number(value: object) -> bool:
    """Whether a value is None or a finite number; whole ones are few digits long."""
    return value is None or (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    )


def load_records(folder: Path, replication: Replication) -> list[Record]:
    """The finished seeds of a replication, in order.

    Those of another version, and seeds that do not count, are left out.
    """
    records = []
    for seed in list_record_seeds(folder, replication.name):
        record = read_record(build_path(folder, replication.name, seed))
        counts = replication.seeds is None or seed in replication.seeds
        if counts and record.version == replication.version:
            records.append(record)
    return records


def list_record_seeds(folder: Path, name: str) -> list[int]:
    """The seeds of which a folder has records of a name, in order."""
    prefix = f"{name}-"
    stems = [path.stem.removeprefix(prefix) for path in folder.glob(f"{prefix}*.json")]
    return sorted(int(stem) for stem in stems if stem.isdigit())
