"""Options of the tasks: one record each, and the table of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from toyvit.config.checked import Checked, number
from toyvit.errors import BadInput, choose


@dataclass(frozen=True, kw_only=True)
class TaskConfig(Checked):
    """Options of one task; each task has a subclass of its own in `TASK_CONFIGS`."""

    name: ClassVar[str]


@dataclass(frozen=True, kw_only=True)
class InductionConfig(TaskConfig):
    """Item-label pairs and a query on a grid of glyphs: which label followed the query's item?"""

    name: ClassVar[str] = "induction"
    rows: int = number(5, least=1, most=32)
    columns: int = number(5, least=1, most=32)
    n_items: int = number(64, least=1, most=256)
    n_labels: int = number(32, least=1, most=256)
    noise: float = number(0.3, least=0, most=10)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.n_pairs <= self.n_items:
            raise BadInput(
                f"a grid of {self.rows} x {self.columns} cells holds {self.n_pairs} pairs: "
                f"need at least 1 (3 cells) and at most n_items {self.n_items}"
            )

    @property
    def n_pairs(self) -> int:
        return (self.rows * self.columns - 1) // 2


@dataclass(frozen=True, kw_only=True)
class ClassifyConfig(TaskConfig):
    """Name the class of a picture from a collected data set (`world`)."""

    name: ClassVar[str] = "classify"
    world: str = "digits"


@dataclass(frozen=True, kw_only=True)
class MarkovConfig(TaskConfig):
    """Textures on a grid drawn from a Markov chain that is fresh for each picture: which comes next, or which is hidden?"""

    name: ClassVar[str] = "markov"
    rows: int = number(10, least=1, most=64)
    columns: int = number(10, least=1, most=64)
    n_textures: int = number(3, least=2, most=16)
    form: str = "chain"  # what a cell is drawn from: `chain`, the cell before; `grid`, the left and the upper cell
    ask: str = "next"  # `next`: every cell's successor; `masked`: one hidden cell
    noise: float = number(0.0, least=0, most=10)

    def __post_init__(self) -> None:
        super().__post_init__()
        choose(self.form, ("chain", "grid"), "task.form")
        choose(self.ask, ("next", "masked"), "task.ask")
        if self.n_cells < 2:
            raise BadInput(f"a grid of {self.rows} x {self.columns} cells has no next cell: at least 2 cells")

    @property
    def n_cells(self) -> int:
        return self.rows * self.columns


@dataclass(frozen=True, kw_only=True)
class RepeatsConfig(TaskConfig):
    """A random sequence of glyphs, repeated with a period between `least` and `most`: which comes next, or which is hidden?"""

    name: ClassVar[str] = "repeats"
    rows: int = number(5, least=1, most=32)
    columns: int = number(5, least=1, most=32)
    n_glyphs: int = number(32, least=2, most=256)
    least: int = number(8, least=1)
    most: int = number(12, least=1)
    ask: str = "next"
    noise: float = number(0.3, least=0, most=10)

    def __post_init__(self) -> None:
        super().__post_init__()
        choose(self.ask, ("next", "masked"), "task.ask")
        if not self.least <= self.most < min(self.n_cells - 1, self.n_glyphs + 1):
            raise BadInput(
                f"periods of {self.least} to {self.most} do not repeat on {self.rows} x {self.columns} cells, {self.n_glyphs} "
                f"glyphs: least <= most < {min(self.n_cells - 1, self.n_glyphs + 1)}"
            )

    @property
    def n_cells(self) -> int:
        return self.rows * self.columns


@dataclass(frozen=True, kw_only=True)
class AdditionConfig(TaskConfig):
    """(a + b) mod p from a picture of a and b."""

    name: ClassVar[str] = "addition"
    modulus: int = number(37, least=2, most=255)
    shown: str = "glyphs"  # `glyphs`: [a] [b] [=]; `clock`: two hands on one face
    train_share: float = number(0.8, above=0, most=0.99)
    split: str = "unordered"  # `unordered`: (a, b) and (b, a) on the same side; `ordered`: each by itself

    def __post_init__(self) -> None:
        super().__post_init__()
        choose(self.shown, ("glyphs", "clock"), "task.shown")
        choose(self.split, ("unordered", "ordered"), "task.split")


@dataclass(frozen=True, kw_only=True)
class CountingConfig(TaskConfig):
    """Discs on the left and on the right: how many in all?"""

    name: ClassVar[str] = "counting"
    most: int = number(7, least=1, most=16)  # discs on one side
    held_out: float = number(0.25, least=0, most=0.9)  # share of the pairs (left, right) that training never shows
    noise: float = number(0.1, least=0, most=10)


@dataclass(frozen=True, kw_only=True)
class RelationsConfig(TaskConfig):
    """Glyphs in some cells of a blank grid: same or different, which pair is alike in the same way, which is the odd one?"""

    name: ClassVar[str] = "relations"
    ask: str = "same"  # `same`: two objects; `match`: a sample pair and two candidates; `odd`: all alike but one
    rows: int = number(4, least=1, most=32)
    columns: int = number(4, least=1, most=32)
    n_shapes: int = number(64, least=2, most=256)
    noise: float = number(0.3, least=0, most=10)
    n_objects: int = number(6, least=3, most=64)  # of `odd`
    alike: float = number(0.5, least=0.01, most=0.99)  # share of pictures whose pair (of `match`: sample pair) is alike

    def __post_init__(self) -> None:
        super().__post_init__()
        choose(self.ask, ("same", "match", "odd"), "task.ask")
        objects = {"same": 2, "match": 6, "odd": self.n_objects}[self.ask]
        if self.rows * self.columns < objects:
            raise BadInput(f"a grid of {self.rows} x {self.columns} cells does not hold the {objects} objects of {self.ask!r}")
        if self.ask == "match" and min((self.rows - self.rows // 2) * (self.columns // 2), self.rows // 2 * self.columns) < 2:
            raise BadInput(
                f"a grid of {self.rows} x {self.columns} cells has no room for the three pairs of 'match': "
                "each of the upper half and the lower quarters needs 2 cells"
            )
        if self.ask == "match" and self.n_shapes < 6:
            raise BadInput(f"the three pairs of 'match' need n_shapes of at least 6, got {self.n_shapes}")


@dataclass(frozen=True, kw_only=True)
class PointersConfig(TaskConfig):
    """Pointer-value retrieval: the first cell says which cell holds the answer, or which cell says which cell holds it."""

    name: ClassVar[str] = "pointers"
    source: str = "glyphs"  # what a cell shows: `glyphs`, one a number; `mnist`, handwritten digits
    n_values: int = number(8, least=2, most=64)  # numbers that a cell may show; the pointer is one of them
    rows: int = number(3, least=1, most=16)
    columns: int = number(3, least=1, most=16)
    hops: int = number(1, least=1, most=2)
    aggregate: str = "first"  # of the cells of the window: `first`, the first one's value; `sum`, modulo n_values
    window: int = number(1, least=1)  # cells, from the one pointed to
    held_out: float = number(0.1, least=0, most=0.9)  # share of the pairs (pointer, value there) that training never shows
    noise: float = number(0.3, least=0, most=10)

    def __post_init__(self) -> None:
        super().__post_init__()
        choose(self.source, ("glyphs", "mnist"), "task.source")
        choose(self.aggregate, ("first", "sum"), "task.aggregate")
        if self.n_blocks < self.n_values:
            raise BadInput(
                f"a grid of {self.rows} x {self.columns} cells has {self.n_blocks} cells to point to: "
                f"n_values {self.n_values} is more than that"
            )
        if self.source == "mnist" and self.n_values > 10:
            raise BadInput(f"mnist has 10 digits: n_values {self.n_values} is more than that")
        if self.n_values <= self.hops:
            raise BadInput(f"{self.hops} hops need n_values of at least {self.hops + 1}, got {self.n_values}")
        if self.window > (self.n_blocks if self.aggregate == "sum" else 1):
            raise BadInput(
                f"window {self.window} with aggregate {self.aggregate!r}: at most 1 with 'first' (nothing reads the others), "
                f"at most the {self.n_blocks} cells after the pointer with 'sum'"
            )

    @property
    def n_blocks(self) -> int:
        """Cells after the pointer."""
        return self.rows * self.columns - 1


TASK_CONFIGS: dict[str, type[TaskConfig]] = {
    kind.name: kind
    for kind in (
        InductionConfig,
        ClassifyConfig,
        MarkovConfig,
        RepeatsConfig,
        AdditionConfig,
        CountingConfig,
        RelationsConfig,
        PointersConfig,
    )
}
