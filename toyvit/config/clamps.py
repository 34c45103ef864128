"""How a run says that heads are held while it trains: `0.3:previous@500`, in a config or typed."""

from __future__ import annotations

import re
from dataclasses import dataclass

from toyvit.errors import BadInput

SPELLING = (
    "LAYER.HEAD:WHAT@STEP, or LAYER:WHAT for every head of a layer from step 0 on; "
    "several stand between commas"
)
PATTERN = re.compile(r"(?P<layer>\d+)(\.(?P<head>\d+))?:(?P<what>[a-z]+)(@(?P<start>\d+))?")
OLD_NAMES = {"own": "frozen"}  # what stands in run folders of version 0.1: the name of today


@dataclass(frozen=True, kw_only=True)
class Clamp:
    """One head (None: every head) of a layer is held to `what`, a name in `CLAMPS`, from a step on.

    From `start` on: in every forward pass of a model that has seen at least `start` updates.

    >>> Clamp.parse("0.3:previous@500")
    Clamp(layer=0, head=3, what='previous', start=500)
    """

    layer: int
    head: int | None
    what: str
    start: int = 0

    @staticmethod
    def parse(text: str) -> Clamp:
        """A clamp from its spelling, that of version 0.1 too; BadInput for any other text."""
        match = PATTERN.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise BadInput(f"a clamp is spelt {SPELLING}, got {text!r}")

        head = match["head"]
        return Clamp(
            layer=int(match["layer"]),
            head=None if head is None else int(head),
            what=OLD_NAMES.get(match["what"], match["what"]),
            start=int(match["start"] or 0),
        )

    @property
    def heads(self) -> slice:
        """Its heads, as an index."""
        return slice(None) if self.head is None else slice(self.head, self.head + 1)

    def __str__(self) -> str:
        head = "" if self.head is None else f".{self.head}"
        start = f"@{self.start}" if self.start else ""
        return f"{self.layer}{head}:{self.what}{start}"
