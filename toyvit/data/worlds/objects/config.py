"""Options of `objects`, and its declaration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from toyvit.config.fields import choice, number
from toyvit.config.tasks import TaskConfig
from toyvit.data.worlds import WorldEntry
from toyvit.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class ObjectsConfig(TaskConfig):
    """One to three objects on a canvas: which class is seen in each patch, or how many are there?

    `source`: shapes (`dsprites`), `glyphs`, or digits (`mnist`). `ask`: the class of every patch, 0
    where there is none (`patches`); the number of objects (`count`).
    """

    name: ClassVar[str] = "objects"
    source: str = choice("dsprites", "glyphs", "mnist")
    size: int = number(48, least=24, most=64)  # pixels a side of the canvas, a multiple of 8
    most: int = number(3, least=1, most=3)  # objects
    ask: str = choice("patches", "count")
    # Share of the classes that training never shows in a quarter of the canvas.
    held_out: float = number(0.0, least=0, most=0.9)
    noise: float = number(0.1, least=0, most=10)

    def __post_init__(self) -> None:
        super().__post_init__()
        least = 24 if self.source == "glyphs" else 40
        if self.size % 8 or self.size < least:
            raise BadInput(
                f"a canvas of {self.source} has a multiple of 8 pixels a side, at least {least}: "
                f"got {self.size}"
            )

    @property
    def schedulable(self) -> tuple[str, ...]:
        return ("most", "noise")


ENTRY = WorldEntry(
    summary="one to three shapes, glyphs or digits at any place, with their masks",
    purpose="glyphs, digits or shapes at any place, with their masks",
    default=ObjectsConfig(),
    tasks=(ObjectsConfig,),
)
