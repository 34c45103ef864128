"""Options of the tasks: one record each, and the table of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from toyvit.config.fields import Checked, choice, number
from toyvit.errors import BadInput


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
    """Name the value of one factor of a picture: of any world (`toyvit data` lists them), or of your own arrays (`npz`)."""

    name: ClassVar[str] = "classify"
    world: str = (
        ""  # one that `toyvit data` lists; digits where neither a world nor a file is given
    )
    factor: str = "class"
    npz: str = ""  # a file with `images`, `labels` and, where there are any, `factor_NAME`


@dataclass(frozen=True, kw_only=True)
class RegressConfig(TaskConfig):
    """Say the value of one factor as a number, scaled so that equally likely values have mean 0 and variance 1."""

    name: ClassVar[str] = "regress"
    world: str = "dsprites"
    factor: str = "x"


@dataclass(frozen=True, kw_only=True)
class ReconstructConfig(TaskConfig):
    """Patches of a picture are hidden: what did they show?"""

    name: ClassVar[str] = "reconstruct"
    world: str = "digits"
    patch_size: int = number(
        2, least=1
    )  # pixels; where a world is made of cells, a patch is a cell whatever is said here
    hidden: float = number(0.5, above=0, most=1)  # share of the patches


@dataclass(frozen=True, kw_only=True)
class DspritesConfig(TaskConfig):
    """dSprites: all factors of one sprite as numbers (`all`), or two sprites compared in one factor."""

    name: ClassVar[str] = "dsprites"
    ask: str = choice(
        "all", "same", "larger", "left"
    )  # the same in `factor`? which is larger? further left?
    factor: str = choice("shape", "scale", "orientation", "x", "y")  # what `same` compares
    held_out: float = number(
        0.2, least=0, most=0.9
    )  # share of the outlines (shape, scale, orientation) kept from training
    noise: float = number(0.0, least=0, most=10)

    @property
    def compared(self) -> str:
        """The factor in which two sprites are compared."""
        return {"larger": "scale", "left": "x"}.get(self.ask, self.factor)


@dataclass(frozen=True, kw_only=True)
class MarkovConfig(TaskConfig):
    """Textures on a grid drawn from a Markov chain that is fresh for each picture: which comes next, or which is hidden?"""

    name: ClassVar[str] = "markov"
    rows: int = number(10, least=1, most=64)
    columns: int = number(10, least=1, most=64)
    n_textures: int = number(3, least=2, most=16)
    form: str = choice(
        "chain", "grid"
    )  # a cell is drawn from the one before, or from the left and the upper one
    ask: str = choice("next", "masked")  # `next`: every cell's successor; `masked`: one hidden cell
    noise: float = number(0.0, least=0, most=10)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_cells < 2:
            raise BadInput(
                f"a grid of {self.rows} x {self.columns} cells has no next cell: at least 2 cells"
            )

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
    ask: str = choice("next", "masked")
    noise: float = number(0.3, least=0, most=10)

    def __post_init__(self) -> None:
        super().__post_init__()
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
    shown: str = choice("glyphs", "clock")  # `glyphs`: [a] [b] [=]; `clock`: two hands on one face
    train_share: float = number(0.8, above=0, most=0.99)
    split: str = choice(
        "unordered", "ordered"
    )  # `unordered`: (a, b) and (b, a) on the same side; `ordered`: each by itself


@dataclass(frozen=True, kw_only=True)
class CountingConfig(TaskConfig):
    """Discs on the left and on the right: how many in all, how many on the left, or is the left fewer, equal or more?"""

    name: ClassVar[str] = "counting"
    most: int = number(7, least=1, most=16)  # discs on one side
    held_out: float = number(
        0.25, least=0, most=0.9
    )  # share of the pairs (left, right) that training never shows
    noise: float = number(0.1, least=0, most=10)
    ask: str = choice(
        "add", "count", "compare"
    )  # left + right; left; left fewer (0), equal (1) or more (2)
    distractors: int = number(
        0, least=0, most=15
    )  # up to so many squares on each side, which do not count

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.most + self.distractors > 16:
            raise BadInput(
                f"a side of 16 cells does not hold {self.most} discs and {self.distractors} squares: at most 16 in all"
            )


@dataclass(frozen=True, kw_only=True)
class SortOfClevrConfig(TaskConfig):
    """Six coloured squares and circles, and a question about one of them, by itself or among the others (Santoro 2017)."""

    name: ClassVar[str] = "sort-of-clevr"
    ask: str = choice("both", "relational", "non-relational")  # which questions
    held_out: float = number(
        0.0, least=0, most=0.9
    )  # share of the pairs (colour, question) that training never asks
    noise: float = number(0.0, least=0, most=10)


@dataclass(frozen=True, kw_only=True)
class ObjectsConfig(TaskConfig):
    """One to three objects on a canvas: which class is seen in each patch, or how many are there?"""

    name: ClassVar[str] = "objects"
    source: str = choice(
        "dsprites", "glyphs", "mnist"
    )  # what the objects are: shapes, glyphs, digits
    size: int = number(48, least=24, most=64)  # pixels a side of the canvas, a multiple of 8
    most: int = number(3, least=1, most=3)  # objects
    ask: str = choice(
        "patches", "count"
    )  # the class of every patch, 0 where there is none; the number of objects
    held_out: float = number(
        0.0, least=0, most=0.9
    )  # share of the classes that training never shows in a quarter of the canvas
    noise: float = number(0.1, least=0, most=10)

    def __post_init__(self) -> None:
        super().__post_init__()
        least = 24 if self.source == "glyphs" else 40
        if self.size % 8 or self.size < least:
            raise BadInput(
                f"a canvas of {self.source} has a multiple of 8 pixels a side, at least {least}: got {self.size}"
            )


@dataclass(frozen=True, kw_only=True)
class FewshotConfig(TaskConfig):
    """Exemplar-label pairs and a query on one canvas: which label has the query's class?"""

    name: ClassVar[str] = "fewshot"
    source: str = choice(
        "glyphs", "mnist", "omniglot"
    )  # what exemplars are: glyphs, digits, characters
    n_pairs: int = number(12, least=1, most=64)
    n_classes: int = number(64, least=1, most=1024)  # classes that training shows
    n_labels: int = number(32, least=2, most=256)
    burstiness: int = number(
        2, least=0, most=64
    )  # copies of every class of a bursty picture, the query's among them
    p_bursty: float = number(
        1.0, least=0, most=1
    )  # share of bursty pictures; in the others each cell is drawn by itself
    zipf: float = number(0.0, least=0, most=8)  # class c is drawn in proportion to 1 / (c + 1)^zipf
    labels: str = choice(
        "fixed", "random"
    )  # class c always has label c mod n_labels; a label fresh for each picture
    noise: float = number(0.3, least=0, most=10)

    def __post_init__(self) -> None:
        super().__post_init__()
        shown, known = (
            self.n_shown + (self.labels == "fixed"),
            {"glyphs": 1024, "mnist": 9, "omniglot": 964}[self.source],
        )
        if self.burstiness > self.n_pairs:
            raise BadInput(
                f"burstiness {self.burstiness} does not go into n_pairs {self.n_pairs}: at most {self.n_pairs}"
            )
        if self.labels == "random" and not (self.burstiness and self.p_bursty == 1):
            raise BadInput(
                "labels random can be answered only from the context: burstiness at least 1 and p_bursty 1"
            )
        if not shown <= self.n_classes <= known:
            raise BadInput(
                f"{self.n_pairs} pairs, {self.copies} of a class, and a query take {shown} classes, {self.source} can train "
                f"{known}: n_classes {self.n_classes} is not from {shown} to {known}"
            )
        if self.n_held < self.n_shown:
            raise BadInput(
                f"{self.source} leaves {self.n_held} classes that training never shows, a picture takes {self.n_shown}: "
                f"fewer n_classes, fewer pairs or more burstiness"
            )

    @property
    def copies(self) -> int:
        """Copies of a class where copies are laid out: bursty pictures and the splits `in_context` and `in_weights`."""
        return max(1, self.burstiness)

    @property
    def n_shown(self) -> int:
        """Classes in the context of such a picture; the last has fewer copies where the count does not fit."""
        return -(-self.n_pairs // self.copies)

    @property
    def n_held(self) -> int:
        """Classes that training never shows."""
        return {"glyphs": 64, "mnist": 10 - self.n_classes, "omniglot": 659}[self.source]


@dataclass(frozen=True, kw_only=True)
class RelationsConfig(TaskConfig):
    """Glyphs in some cells of a blank grid: same or different, which pair is alike in the same way, which is the odd one?"""

    name: ClassVar[str] = "relations"
    ask: str = choice(
        "same", "match", "odd"
    )  # two objects; a sample pair and two candidates; all alike but one
    rows: int = number(4, least=1, most=32)
    columns: int = number(4, least=1, most=32)
    n_shapes: int = number(64, least=2, most=256)
    noise: float = number(0.3, least=0, most=10)
    n_objects: int = number(6, least=3, most=64)  # of `odd`
    alike: float = number(
        0.5, least=0.01, most=0.99
    )  # share of pictures whose pair (of `match`: sample pair) is alike

    def __post_init__(self) -> None:
        super().__post_init__()
        objects = {"same": 2, "match": 6, "odd": self.n_objects}[self.ask]
        if self.rows * self.columns < objects:
            raise BadInput(
                f"a grid of {self.rows} x {self.columns} cells does not hold the {objects} objects of {self.ask!r}"
            )
        if (
            self.ask == "match"
            and min(
                (self.rows - self.rows // 2) * (self.columns // 2), self.rows // 2 * self.columns
            )
            < 2
        ):
            raise BadInput(
                f"a grid of {self.rows} x {self.columns} cells has no room for the three pairs of 'match': "
                "each of the upper half and the lower quarters needs 2 cells"
            )
        if self.ask == "match" and self.n_shapes < 6:
            raise BadInput(
                f"the three pairs of 'match' need n_shapes of at least 6, got {self.n_shapes}"
            )


@dataclass(frozen=True, kw_only=True)
class PointersConfig(TaskConfig):
    """Pointer-value retrieval: the first cell says which cell holds the answer, or which cell says which cell holds it."""

    name: ClassVar[str] = "pointers"
    source: str = choice(
        "glyphs", "mnist"
    )  # what a cell shows: `glyphs`, one a number; `mnist`, handwritten digits
    n_values: int = number(
        8, least=2, most=64
    )  # numbers that a cell may show; the pointer is one of them
    rows: int = number(3, least=1, most=16)
    columns: int = number(3, least=1, most=16)
    hops: int = number(1, least=1, most=2)
    aggregate: str = choice(
        "first", "sum"
    )  # of the cells of the window: the first one's value; their sum modulo n_values
    window: int = number(1, least=1)  # cells, from the one pointed to
    held_out: float = number(
        0.1, least=0, most=0.9
    )  # share of the pairs (pointer, value there) that training never shows
    noise: float = number(0.3, least=0, most=10)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_blocks < self.n_values:
            raise BadInput(
                f"a grid of {self.rows} x {self.columns} cells has {self.n_blocks} cells to point to: "
                f"n_values {self.n_values} is more than that"
            )
        if self.source == "mnist" and self.n_values > 10:
            raise BadInput(f"mnist has 10 digits: n_values {self.n_values} is more than that")
        if self.n_values <= self.hops:
            raise BadInput(
                f"{self.hops} hops need n_values of at least {self.hops + 1}, got {self.n_values}"
            )
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
        ClassifyConfig,
        RegressConfig,
        ReconstructConfig,
        InductionConfig,
        FewshotConfig,
        MarkovConfig,
        RepeatsConfig,
        RelationsConfig,
        PointersConfig,
        AdditionConfig,
        CountingConfig,
        DspritesConfig,
        SortOfClevrConfig,
        ObjectsConfig,
    )
}
