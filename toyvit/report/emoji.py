"""Emoji of the classes of worlds, as Unicode text: shown beside the class's name, never alone."""

from __future__ import annotations

KEYCAP = "\ufe0f\u20e3"
DIGITS = {str(digit): f"{digit}{KEYCAP}" for digit in range(10)}
SHAPES = {
    "square": "\u25fc\ufe0f",
    "circle": "\u26ab",
    "ellipse": "\U0001f95a",
    "heart": "\u2764\ufe0f",
    "triangle": "\U0001f53a",
    "star": "\u2b50",
    "cross": "\u274c",
    "-": "\u00b7",
}
# World -> the name of a class -> its emoji.
EMOJI: dict[str, dict[str, str]] = {
    "mnist": DIGITS,
    "digits": DIGITS,
    "addition": DIGITS,
    "counting": DIGITS,
    "objects": DIGITS | SHAPES,
    "dsprites": DIGITS | SHAPES,
    "relations": {
        "same": "\U0001f7f0",
        "different": "\U0001f500",
        "left": "\u2b05\ufe0f",
        "right": "\u27a1\ufe0f",
    },
    "sort-of-clevr": DIGITS | SHAPES | {"yes": "\u2705", "no": "\U0001f6ab"},
}


def find_emoji(world: str, name: str) -> str:
    """The emoji of a class; nothing where the table has none.

    >>> find_emoji("relations", "left"), find_emoji("induction", "3")
    ('⬅️', '')
    """
    return EMOJI.get(world, {}).get(name, "")
