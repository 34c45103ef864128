"""Options of `dsprites`, and its declaration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from toyvit.config.fields import choice, number
from toyvit.config.tasks import TaskConfig
from toyvit.data.worlds import WorldEntry


@dataclass(frozen=True, kw_only=True)
class DspritesConfig(TaskConfig):
    """dSprites: all factors of one sprite as numbers, or two sprites compared in one factor.

    `ask`: `all` factors; the `same` in `factor`? is the second `larger`? is it further `left`?
    """

    name: ClassVar[str] = "dsprites"
    ask: str = choice("all", "same", "larger", "left")
    factor: str = choice("shape", "scale", "orientation", "x", "y")  # what `same` compares
    # Share of the outlines (shape, scale, orientation) kept from training.
    held_out: float = number(0.2, least=0, most=0.9)
    noise: float = number(0.0, least=0, most=10)

    @property
    def schedulable(self) -> tuple[str, ...]:
        return ("noise",) if self.ask == "all" else ("ask", "factor", "noise")

    @property
    def compared(self) -> str:
        """The factor in which two sprites are compared."""
        return {"larger": "scale", "left": "x"}.get(self.ask, self.factor)


ENTRY = WorldEntry(
    summary="64 x 64 sprites with five factors, and pairs of them",
    purpose="one sprite or two: five factors, all combinations",
    pictures="737,280",
    default=DspritesConfig(),
    tasks=(DspritesConfig,),
)
