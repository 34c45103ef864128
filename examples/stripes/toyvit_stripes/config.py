"""Options of the world `stripes`, and its declaration. Nothing here imports torch or numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from toyvit.config import TaskConfig
from toyvit.config.fields import number
from toyvit.data.worlds import WorldEntry


@dataclass(frozen=True, kw_only=True)
class StripesConfig(TaskConfig):
    """Stripes on a square picture: which way do they run?"""

    name: ClassVar[str] = "stripes"
    size: int = number(16, least=8, most=64)  # pixels a side
    n_orientations: int = number(8, least=2, most=64)
    period: float = number(5.0, least=2, most=32)  # pixels from one stripe to the next
    noise: float = number(0.5, least=0, most=10)


ENTRY = WorldEntry(
    name="stripes",
    module="toyvit_stripes.world",
    summary="stripes at one of a few orientations, at any phase",
    purpose="an example of a world from another package",
    default=StripesConfig(),
    tasks=(StripesConfig,),
)
