"""Options of `repeats`, and its declaration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from toyvit.config.fields import choice, number
from toyvit.config.tasks import TaskConfig
from toyvit.data.worlds import WorldEntry
from toyvit.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class RepeatsConfig(TaskConfig):
    """A random sequence of glyphs over and over: which comes next, or which is hidden?

    It is repeated with a period between `least` and `most`.
    """

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
        limit = min(self.n_cells - 1, self.n_glyphs + 1)
        if not self.least <= self.most < limit:
            raise BadInput(
                f"periods of {self.least} to {self.most} do not repeat on {self.rows} x "
                f"{self.columns} cells, {self.n_glyphs} glyphs: least <= most < {limit}"
            )

    @property
    def schedulable(self) -> tuple[str, ...]:
        return ("least", "most", "noise")

    @property
    def n_cells(self) -> int:
        return self.rows * self.columns


ENTRY = WorldEntry(
    summary="a sequence of glyphs over and over, with a varying period",
    purpose="a sequence of glyphs that comes again",
    default=RepeatsConfig(),
    tasks=(RepeatsConfig,),
)
