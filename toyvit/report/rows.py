"""What a figure is to the report: its name, which runs have it, how it is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from toyvit.config import ModelConfig
from toyvit.errors import DataMissing
from toyvit.report.panels import FigureData
from toyvit.runs.handle import Run
from toyvit.runs.table import select_main_rows


@dataclass(frozen=True, kw_only=True)
class FigureRow:
    """A figure of a run, declared beside its function.

    A run has it if all analyses in `needs` and none in `lacks` were made on its test pictures, and
    its model is one that the figure is of.
    """

    extends: ClassVar[str] = "figures"

    name: str
    draw: Callable[[Run, Run | None], FigureData]
    needs: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()
    fits: Callable[[ModelConfig], bool] = lambda config: True
    at_step: Callable[[Run, int], FigureData] | None = None  # of another checkpoint, if of one
    is_headline: bool = False  # a report ends with the first four; the rest is its appendix

    @property
    def code(self) -> Callable[[Run, Run | None], FigureData]:
        """Where its work is done."""
        return self.draw


def count_pictures(run: Run) -> int:
    """The test pictures that most was measured on."""
    return int(select_main_rows(run.table)["images"].max())


def check_pictures(n: int, least: int) -> None:
    """DataMissing where n test pictures are too few for a figure to mean anything."""
    if n < least:
        raise DataMissing(f"{n} test pictures are too few: at least {least} are needed")


def list_analyses(run: Run) -> frozenset[str]:
    """What was measured on a run's test pictures."""
    return frozenset(select_main_rows(run.table)["analysis"])


def has_figure(row: FigureRow, run: Run, analyses: frozenset[str]) -> bool:
    """Whether a run that these analyses were made of has the figure."""
    return row.needs <= analyses and not row.lacks & analyses and row.fits(run.config.model)
