"""How a run says that heads are held while it trains: `0.3:previous@500` in a config and on the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass

from toyvit.errors import BadInput

SPELLING = "LAYER.HEAD:WHAT@STEP, or LAYER:WHAT for every head of a layer from step 0 on; several stand between commas"


@dataclass(frozen=True, kw_only=True)
class Clamp:
    """One head (None: every head) of a layer is held to `what`, a name in `circuits.clamps.CLAMPS`, from step `start` on.

    From `start` on: in every forward pass of a model that has seen at least `start` updates.
    """

    layer: int
    head: int | None
    what: str
    start: int = 0

    @staticmethod
    def parse(text: str) -> Clamp:
        """A clamp from its spelling."""
        found = (
            re.fullmatch(r"(\d+)(?:\.(\d+))?:([a-z]+)(?:@(\d+))?", text)
            if isinstance(text, str)
            else None
        )
        if found is None:
            raise BadInput(f"a clamp is spelt {SPELLING}, got {text!r}")
        layer, head, what, start = found.groups()
        return Clamp(
            layer=int(layer),
            head=None if head is None else int(head),
            what=what,
            start=int(start or 0),
        )

    @property
    def heads(self) -> slice:
        """Its heads, as an index."""
        return slice(None) if self.head is None else slice(self.head, self.head + 1)

    def __str__(self) -> str:
        head, start = (
            "" if self.head is None else f".{self.head}",
            f"@{self.start}" if self.start else "",
        )
        return f"{self.layer}{head}:{self.what}{start}"
