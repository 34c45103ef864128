"""Options of `relations`, and its declaration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from toyvit.config.fields import choice, number
from toyvit.config.tasks import TaskConfig
from toyvit.data.worlds import WorldEntry
from toyvit.errors import BadInput


@dataclass(frozen=True, kw_only=True)
class RelationsConfig(TaskConfig):
    """Glyphs in some cells of a blank grid: which are alike?

    `ask`: are two objects the `same`; which candidate pair is alike or not as a sample pair is
    (`match`); which object is the `odd` one among others that are all alike.
    """

    name: ClassVar[str] = "relations"
    ask: str = choice("same", "match", "odd")
    rows: int = number(4, least=1, most=32)
    columns: int = number(4, least=1, most=32)
    n_shapes: int = number(64, least=2, most=256)
    noise: float = number(0.3, least=0, most=10)
    n_objects: int = number(6, least=3, most=64)  # of `odd`
    # Share of pictures whose pair (of `match`: sample pair) is alike.
    alike: float = number(0.5, least=0.01, most=0.99)

    def __post_init__(self) -> None:
        super().__post_init__()
        objects = {"same": 2, "match": 6, "odd": self.n_objects}[self.ask]
        if self.rows * self.columns < objects:
            raise BadInput(
                f"a grid of {self.rows} x {self.columns} cells does not hold the {objects} "
                f"objects of {self.ask!r}"
            )
        if self.ask == "match":
            self._check_match()

    @property
    def schedulable(self) -> tuple[str, ...]:
        return ("ask", "alike", "noise")

    def _check_match(self) -> None:
        """BadInput where the three pairs of `match` have too little room or too few shapes."""
        upper = self.rows // 2
        quarter = (self.rows - upper) * (self.columns // 2)

        if min(quarter, upper * self.columns) < 2:
            raise BadInput(
                f"a grid of {self.rows} x {self.columns} cells has no room for the three pairs of "
                "'match': each of the upper half and the lower quarters needs 2 cells"
            )
        if self.n_shapes < 6:
            raise BadInput(
                f"the three pairs of 'match' need n_shapes of at least 6, got {self.n_shapes}"
            )


ENTRY = WorldEntry(
    summary="glyphs in some cells: the same? the odd one out? alike as the sample is?",
    purpose="same or different, match to sample, odd one out",
    default=RelationsConfig(),
    tasks=(RelationsConfig,),
)
