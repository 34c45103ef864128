"""Options of `hidden-states`, and its declaration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from toyvit.config.fields import choice, number
from toyvit.data.worlds import WorldEntry
from toyvit.data.worlds.markov.config import TextureGridConfig


@dataclass(frozen=True, kw_only=True)
class HiddenStatesConfig(TextureGridConfig):
    """Textures on a grid that a process with hidden states emits in raster order; which is next?

    `process`: `mess3` (three states, three textures) or `rrxor` (two random bits, then their XOR).
    """

    name: ClassVar[str] = "hidden-states"
    rows: int = number(4, least=1, most=64)
    columns: int = number(4, least=1, most=64)
    process: str = choice("mess3", "rrxor")
    noise: float = number(0.0, least=0, most=10)


ENTRY = WorldEntry(
    summary="textures that a process with hidden states emits",
    purpose="textures of a hidden process, with the exact beliefs about its state",
    default=HiddenStatesConfig(),
    tasks=(HiddenStatesConfig,),
)
