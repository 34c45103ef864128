"""Options of `induction`, and the declaration of the glyphs that it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from toyvit.config.fields import number
from toyvit.config.tasks import TaskConfig
from toyvit.data.worlds import WorldEntry
from toyvit.errors import BadInput


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
    def schedulable(self) -> tuple[str, ...]:
        return ("noise",)

    @property
    def n_pairs(self) -> int:
        return (self.rows * self.columns - 1) // 2

    @property
    def data_set(self) -> str:
        return "glyphs"


ENTRY = WorldEntry(
    summary="item-label pairs and a query on a grid of glyphs",
    purpose="visual induction: item-label pairs and a query",
    default=InductionConfig(),
    tasks=(InductionConfig,),
)
