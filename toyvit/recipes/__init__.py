"""Experiments known to work, by name: each a function that returns a run's config.

A recipe's name is its function's name with dashes; its docstring gives the expected result and
time. A new one is a function in a family's file and its name in that file's `RECIPES`.
"""

from __future__ import annotations

from collections.abc import Callable

from toyvit.config import RunConfig
from toyvit.config.extensions import merge_extensions
from toyvit.errors import choose
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

# What a transition is judged by beside the loss: a measure, named before the recipe is run.
ORDER_PARAMETERS: dict[str, tuple[str, str]] = {
    "induction": ("induction", "mass"),
    "induction-control": ("induction", "mass"),
    "induction-heads": ("induction", "mass"),
    "induction-smoke": ("induction", "mass"),
    "induction-bidirectional": ("induction", "mass"),
    "fewshot": ("induction", "mass"),
    "two-pairs": ("induction", "mass"),
}


def list_recipes() -> dict[str, Callable[[], RunConfig]]:
    """Every recipe by its name: the lab's own, then those from outside."""
    return merge_extensions(RECIPES, "recipes")


def find_recipe(name: str) -> Callable[[], RunConfig]:
    """The function of a recipe; BadInput that names the nearest where there is none.

    >>> find_recipe("digits")().model.n_classes is None
    True
    """
    if name in RECIPES:
        return RECIPES[name]
    recipes = list_recipes()
    return recipes[choose(name, recipes, "recipe")]
