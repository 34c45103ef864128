"""Options of `addition`, and its declaration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from toyvit.config.fields import choice, number
from toyvit.config.tasks import TaskConfig
from toyvit.data.worlds import WorldEntry


@dataclass(frozen=True, kw_only=True)
class AdditionConfig(TaskConfig):
    """(a + b) mod p from a picture of a and b.

    `shown`: three cells [a] [b] [=] (`glyphs`), or two hands on one face (`clock`). `split`: (a, b)
    and (b, a) are on the same side (`unordered`), or each by itself (`ordered`).
    """

    name: ClassVar[str] = "addition"
    modulus: int = number(37, least=2, most=255)
    shown: str = choice("glyphs", "clock")
    train_share: float = number(0.8, above=0, most=0.99)
    split: str = choice("unordered", "ordered")


ENTRY = WorldEntry(
    summary="two operands, as glyphs or as the hands of a clock",
    purpose="grokking: modular addition of glyphs or clock hands",
    pictures="1,369",
    default=AdditionConfig(),
    tasks=(AdditionConfig,),
)
