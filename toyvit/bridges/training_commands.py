"""The one command that trains a run again, as its model card has it."""

from __future__ import annotations

import shlex
from pathlib import Path

from toyvit.config import RunConfig
from toyvit.config.field_types import format_value
from toyvit.config.overrides import PARTS
from toyvit.errors import BadInput, escape_text
from toyvit.recipes import find_recipe

# Paths of the machine: what stands there is for the reader to replace.
PATHS = ("npz", "folder", "masks", "pairs")


def write_command(config: RunConfig) -> str | None:
    """The command in one line; None where the recipe is not one that trains.

    Every field that differs from the recipe's is set; files are named without their folders.

    >>> from toyvit.recipes import RECIPES
    >>> write_command(RECIPES["digits"]())
    'toyvit train digits'
    """
    try:
        recipe = find_recipe(config.recipe)()
    except BadInput:
        return None
    if type(recipe.task) is not type(config.task):
        return None
    words = ["toyvit", "train", config.recipe]
    for part in PARTS:
        usual = vars(getattr(recipe, part))
        for name, value in vars(getattr(config, part)).items():
            if value != usual[name] and not _is_decided(name, usual[name]):
                words += [f"--{part}.{name}", _spell(name, value)]
    return escape_text(shlex.join(words))


def _is_decided(name: str, usual: object) -> bool:
    """Whether the task decides a field, or the file itself does."""
    is_digest = name.endswith("_sha256")
    return is_digest or (usual is None and name in ("image_size", "n_channels", "n_classes"))


def _spell(name: str, value: object) -> str:
    text = format_value(value)
    return Path(text).name if name in PATHS else text
