"""Experiments known to work, by name: each a function that returns a run's config.

A recipe's name is its function's name with dashes; its docstring gives the expected result and
time. A new one is a function in a family's file and its name in that file's `RECIPES`.
"""

from __future__ import annotations

from collections.abc import Callable

from toyvit.config import RunConfig
from toyvit.recipes import arithmetic, images, induction, relations, sequences

_ORDERED = (
    *induction.RECIPES,
    *images.RECIPES,
    *sequences.RECIPES,
    *arithmetic.RECIPES,
    *relations.RECIPES,
)
RECIPES: dict[str, Callable[[], RunConfig]] = {
    recipe.__name__.replace("_", "-"): recipe for recipe in _ORDERED
}
