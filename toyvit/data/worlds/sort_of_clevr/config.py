"""Options of `sort-of-clevr`, and its declaration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from toyvit.config.fields import choice, number
from toyvit.config.tasks import TaskConfig
from toyvit.data.worlds import WorldEntry


@dataclass(frozen=True, kw_only=True)
class SortOfClevrConfig(TaskConfig):
    """Six coloured squares and circles, and a question about one of them (Santoro 2017).

    `ask`: about it by itself (`non-relational`), or among the others (`relational`).
    """

    name: ClassVar[str] = "sort-of-clevr"
    ask: str = choice("both", "relational", "non-relational")
    # Share of the combinations (colour, question) that training never asks.
    held_out: float = number(0.0, least=0, most=0.9)
    noise: float = number(0.0, least=0, most=10)


ENTRY = WorldEntry(
    summary="six coloured squares and circles, and a question about one",
    purpose="questions about one object, alone or among the others",
    default=SortOfClevrConfig(),
    tasks=(SortOfClevrConfig,),
)
