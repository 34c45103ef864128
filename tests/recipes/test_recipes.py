"""The recipes' table: every function of a family is in it, under its own name."""

from __future__ import annotations

import inspect
from importlib import import_module
from pkgutil import iter_modules

import toyvit.recipes
from toyvit.recipes import RECIPES


def test_every_recipe_of_every_family_is_listed_under_its_name():
    listed = set(RECIPES.values())
    families = [module.name for module in iter_modules(toyvit.recipes.__path__)]
    written = {
        function
        for family in families
        for _, function in inspect.getmembers(
            import_module(f"toyvit.recipes.{family}"), inspect.isfunction
        )
        if function.__module__ == f"toyvit.recipes.{family}"
    }
    assert written == listed and len(RECIPES) == len(listed)
    for name, recipe in RECIPES.items():
        assert name == recipe.__name__.replace("_", "-") == recipe().recipe
