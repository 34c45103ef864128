"""Options of `counting`, and its declaration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from toyvit.config.fields import choice, number
from toyvit.config.tasks import TaskConfig
from toyvit.data.worlds import WorldEntry
from toyvit.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class CountingConfig(TaskConfig):
    """Discs on the left and on the right: how many, and where are there more?

    `ask`: left + right (`add`); the left (`count`); has the left fewer (0), as many (1) or more (2)
    (`compare`).
    """

    name: ClassVar[str] = "counting"
    most: int = number(7, least=1, most=16)  # discs on one side
    # Share of the combinations (left, right) that training never shows.
    held_out: float = number(0.25, least=0, most=0.9)
    noise: float = number(0.1, least=0, most=10)
    ask: str = choice("add", "count", "compare")
    # Up to so many squares on each side, which do not count.
    distractors: int = number(0, least=0, most=15)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.most + self.distractors > 16:
            raise BadInput(
                f"a side of 16 cells does not hold {self.most} discs and {self.distractors} "
                "squares: at most 16 in all"
            )

    @property
    def schedulable(self) -> tuple[str, ...]:
        return ("distractors", "noise")


ENTRY = WorldEntry(
    summary="discs on the left and on the right",
    purpose="a smooth rise, the negative control",
    default=CountingConfig(),
    tasks=(CountingConfig,),
)
