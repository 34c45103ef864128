"""Options of `sort-of-clevr`, and its declaration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from toyvit.config.fields import choice, number
from toyvit.config.tasks import TaskConfig
from toyvit.data.worlds import WorldEntry
from toyvit.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class SortOfClevrConfig(TaskConfig):
    """Six coloured squares and circles, and a question about one of them (Santoro 2017).

    `ask`: about it by itself (`non-relational`), or among the others (`relational`).
    """

    name: ClassVar[str] = "sort-of-clevr"
    ask: str = choice("both", "relational", "non-relational")
    n_objects: int = number(6, least=1, most=6)  # the one asked about, and others
    cell: int = number(8, least=8, most=16)  # pixels a side of a patch, 8 or 16
    # Share of the combinations (colour, question) that training never asks.
    held_out: float = number(0.0, least=0, most=0.9)
    noise: float = number(0.0, least=0, most=10)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cell not in (8, 16):
            raise BadInput(f"cell must be 8 or 16, got {self.cell}")
        if self.n_objects == 1 and self.ask != "non-relational":
            raise BadInput(
                f"one object has no other that is close or far: ask {self.ask!r} "
                "needs n_objects of at least 2"
            )

    @property
    def schedulable(self) -> tuple[str, ...]:
        """Which combinations are held out depends on `ask`."""
        return ("n_objects", "noise") if self.held_out else ("ask", "n_objects", "noise")


ENTRY = WorldEntry(
    summary="six coloured squares and circles, and a question about one",
    purpose="questions about one object, alone or among the others",
    default=SortOfClevrConfig(),
    tasks=(SortOfClevrConfig,),
)
