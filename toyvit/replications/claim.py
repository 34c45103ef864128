"""A claim: what the lab states of a recipe, with its bounds, in a small committed record.

A claim is explored on some seeds and confirmed on others, which follow from the SHA-256 of its
record: who changes a bound after seeing them gets other seeds. The record is committed before they
are run. Records lie in `claims/`, one JSON file each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import MISSING, dataclass, fields
from math import inf
from pathlib import Path
from typing import TypeVar

import pandas as pd

from toyvit.config import RunConfig
from toyvit.config.fields import Checked, build_record, number
from toyvit.config.foreign_files import parse_object, read_file
from toyvit.config.overrides import apply_overrides
from toyvit.errors import BadInput, choose
from toyvit.recipes import find_recipe
from toyvit.replications.takes import parse_take
from toyvit.report.sweep_measures import parse_measure
from toyvit.runs.handle import Run

FOLDER = Path(__file__).parent / "claims"
Record = TypeVar("Record", bound=Checked)


@dataclass(frozen=True, kw_only=True)
class Statement(Checked):
    """One number of a run, and where its median over seeds has to lie.

    text      what the number is
    measure   ANALYSIS.QUANTITY: a curve, one value a checkpoint
    where     which rows of it: `layer=1`, `split=train`
    take      what is taken of the curve: a key of `TAKES`, or the first step of `passes 0.95`
    low, high its margin; one of them may be left out
    explored  what it came to on the seeds that were explored
    stated    where the lab states it: README.md, LOG.md, a recipe
    """

    text: str
    measure: str
    take: str
    explored: str
    where: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    stated: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low is None and self.high is None:
            raise BadInput(f"{self.text!r} has no bound: give it low, high or both")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise BadInput(f"{self.text!r} has bounds in the wrong order: {self.low} > {self.high}")
        parse_take(self.take)
        parse_measure(self.measure)
        for word in self.where:
            if "=" not in word:
                raise BadInput(f"`where` takes words such as layer=1, got {word!r}")

    @property
    def margin(self) -> tuple[float, float]:
        return (
            -inf if self.low is None else self.low,
            inf if self.high is None else self.high,
        )

    def read_curve(self, run: Run) -> pd.Series:
        """The curve of a measured run; BadInput where it has none."""
        analysis, quantity = parse_measure(self.measure)
        tags = dict(word.split("=", 1) for word in self.where)
        how = tags.pop("how", "max")
        split = tags.pop("split", "test")
        places = {name: int(tag) if tag.isdigit() else tag for name, tag in tags.items()}
        curve = run.curve(analysis, quantity, how, split, **places)
        if not len(curve):
            raise BadInput(f"{run.path} has no {' '.join([self.measure, *self.where])}")
        return curve

    def list_splits(self) -> list[str]:
        """The splits on which its curve is measured."""
        named = [word.removeprefix("split=") for word in self.where if word.startswith("split=")]
        return named or ["test"]


@dataclass(frozen=True, kw_only=True)
class Claim(Checked):
    """What is stated of a recipe, as it stands in a record.

    settings   fields in which its runs differ from the recipe, typed: `--train.steps`, `500`
    explored   seeds that were looked at before the bounds were set
    seeds      how many fresh ones confirm it
    minutes    CPU of a seed, about
    """

    name: str
    title: str
    recipe: str
    explored: tuple[int, ...]
    settings: tuple[str, ...] = ()
    seeds: int = number(10, least=2, most=1_000)
    minutes: float = number(1.0, above=0)
    remark: str = ""

    def build_config(self) -> RunConfig:
        """The run that is stated of; BadInput for a field that it does not have."""
        return apply_overrides(find_recipe(self.recipe)(), self.settings)


@dataclass(frozen=True)
class Filed:
    """A claim with its statements and the SHA-256 of the file that holds them."""

    claim: Claim
    statements: tuple[Statement, ...]
    sha256: str

    def list_seeds(self) -> list[int]:
        """The seeds on which it is confirmed."""
        return derive_seeds(self.sha256, self.claim.seeds, self.claim.explored)


def list_claims() -> list[str]:
    """The names of the lab's own claims."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def find_claim(name: str) -> Filed:
    """The lab's claim of a name, or the one in a file that ends in `.json`."""
    path = Path(name)
    if path.suffix == ".json":
        return read_claim(path)
    return read_claim(FOLDER / f"{choose(name, list_claims(), 'claim')}.json")


def read_claim(path: Path) -> Filed:
    """The claim in a file; BadInput that names the file for what is none."""
    content = read_file(path)
    try:
        return parse_claim(content, path.stem)
    except BadInput as error:
        raise BadInput(f"{path} is no claim: {error}") from None


def parse_claim(content: bytes, name: str) -> Filed:
    """The claim that a record's bytes hold."""
    plain = parse_object(content, f"claim {name}")
    parts = plain.pop("statements", None)
    if not isinstance(parts, list) or not parts:
        raise BadInput("it states nothing: `statements` is a list of at least one")
    if "name" in plain:
        raise BadInput("it is called as its file is: `name` cannot be given too")
    claim = _build(Claim, plain | {"name": name}, "a claim")
    statements = tuple(_build(Statement, part, "a statement") for part in parts)
    claim.build_config()
    return Filed(claim, statements, hashlib.sha256(content).hexdigest())


def _build(kind: type[Record], plain: object, what: str) -> Record:
    """A record of plain JSON; BadInput for what is no object, and for fields that it lacks."""
    if not isinstance(plain, dict):
        raise BadInput(f"{what} is an object, got {plain!r}")
    needed = [item.name for item in fields(kind) if item.default is MISSING]
    missing = [name for name in needed if name not in plain]
    if missing:
        raise BadInput(f"{what} needs {', '.join(missing)}")
    record: Record = build_record(kind, plain)
    return record


def derive_seeds(sha256: str, n: int, taken: Collection[int] = ()) -> list[int]:
    """n seeds that follow from a record's digest, none of them taken.

    >>> derive_seeds("00", 2)
    [314990386, 479266426]
    """
    seeds: list[int] = []
    counter = 0
    while len(seeds) < n:
        word = hashlib.sha256(f"{sha256}/{counter}".encode()).digest()
        seed = int.from_bytes(word[:4], "big") >> 1
        if seed not in taken and seed not in seeds:
            seeds.append(seed)
        counter += 1
    return seeds
