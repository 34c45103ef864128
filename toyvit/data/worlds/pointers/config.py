"""Options of `pointers`, and its declaration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from toyvit.config.fields import choice, number
from toyvit.config.tasks import TaskConfig
from toyvit.data.worlds import WorldEntry
from toyvit.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class PointersConfig(TaskConfig):
    """Pointer-value retrieval: the first cell says which cell holds the answer.

    With two `hops`, it says which cell says which one holds it. `source`: what a cell shows, one
    glyph a number (`glyphs`) or handwritten digits (`mnist`). `aggregate`: of the `window` of cells
    from the one pointed to, the `first` one's value, or their `sum` modulo `n_values`.
    """

    name: ClassVar[str] = "pointers"
    source: str = choice("glyphs", "mnist")
    # Numbers that a cell may show; the pointer is one of them.
    n_values: int = number(8, least=2, most=64)
    rows: int = number(3, least=1, most=16)
    columns: int = number(3, least=1, most=16)
    hops: int = number(1, least=1, most=2)
    aggregate: str = choice("first", "sum")
    window: int = number(1, least=1)
    # Share of the combinations (pointer, value there) that training never shows.
    held_out: float = number(0.1, least=0, most=0.9)
    noise: float = number(0.3, least=0, most=10)

    def __post_init__(self) -> None:
        super().__post_init__()

        if self.n_blocks < self.n_values:
            raise BadInput(
                f"a grid of {self.rows} x {self.columns} cells has {self.n_blocks} cells to point "
                f"to: n_values {self.n_values} is more than that"
            )
        if self.source == "mnist" and self.n_values > 10:
            raise BadInput(f"mnist has 10 digits: n_values {self.n_values} is more than that")
        if self.n_values <= self.hops:
            raise BadInput(
                f"{self.hops} hops need n_values of at least {self.hops + 1}, got {self.n_values}"
            )
        if self.window > (self.n_blocks if self.aggregate == "sum" else 1):
            raise BadInput(
                f"window {self.window} with aggregate {self.aggregate!r}: "
                "at most 1 with 'first' (nothing reads the others), "
                f"at most the {self.n_blocks} cells after the pointer with 'sum'"
            )

    @property
    def schedulable(self) -> tuple[str, ...]:
        return ("noise",)

    @property
    def n_blocks(self) -> int:
        """Cells after the pointer."""
        return self.rows * self.columns - 1


ENTRY = WorldEntry(
    summary="one cell says which cell holds the answer; one hop or two",
    purpose="pointer-value retrieval, one hop and two; glyphs or handwritten digits",
    default=PointersConfig(),
    tasks=(PointersConfig,),
)
