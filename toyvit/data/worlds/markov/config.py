"""Options of `markov`, and its declaration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from toyvit.config.fields import choice, number
from toyvit.config.tasks import TaskConfig
from toyvit.data.worlds import WorldEntry
from toyvit.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class TextureGridConfig(TaskConfig):
    """A grid of cells of which, in raster order, each is followed by another."""

    rows: int = number(10, least=1, most=64)
    columns: int = number(10, least=1, most=64)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_cells < 2:
            raise BadInput(
                f"a grid of {self.rows} x {self.columns} cells has no next cell: at least 2 cells"
            )

    @property
    def schedulable(self) -> tuple[str, ...]:
        return ("noise",)

    @property
    def n_cells(self) -> int:
        return self.rows * self.columns


@dataclass(frozen=True, kw_only=True)
class MarkovConfig(TextureGridConfig):
    """Textures on a grid drawn from a Markov chain that is fresh for each picture.

    `form`: a cell is drawn given the one before (`chain`), or the left and the upper one (`grid`).
    `ask`: every cell's successor (`next`), or what one hidden cell shows (`masked`).
    """

    name: ClassVar[str] = "markov"
    n_textures: int = number(3, least=2, most=16)
    form: str = choice("chain", "grid")
    ask: str = choice("next", "masked")
    noise: float = number(0.0, least=0, most=10)


ENTRY = WorldEntry(
    summary="textures drawn from a Markov chain that is fresh for each picture",
    purpose="textures with exact Bayes, unigram and uniform predictors",
    default=MarkovConfig(),
    tasks=(MarkovConfig,),
)
