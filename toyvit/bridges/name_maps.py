"""A user's own names of tensors, as a family: `--map FILE.json`."""

from __future__ import annotations

from pathlib import Path

from toyvit.config.foreign_files import read_object
from toyvit.errors import BadInput, choose
from toyvit.model.mappings.families import FAMILIES, LAYER, Family

OF_BLOCK = f"blocks.{LAYER}."


def read_name_map(file: Path) -> Family:
    """The family that a JSON file describes: our names of tensors to theirs.

    `{layer}` stands for the number of a block on both sides: `"blocks.{layer}.ln1.gain":
    "layers.{layer}.norm1.weight"`. Names of ours are those of `FAMILIES`. BadInput for another.
    """
    names = read_object(file)
    for ours, theirs in names.items():
        choose(ours, list_names(), f"name in {file}")
        if not isinstance(theirs, str) or not theirs:
            raise BadInput(f"{file}: {ours} must be a text, got {theirs!r}")
        if ours.startswith(OF_BLOCK) != (LAYER in theirs):
            raise BadInput(f"{file}: {ours} and {theirs!r} must both have {LAYER}, or neither")
    block = {
        ours.removeprefix(OF_BLOCK): theirs
        for ours, theirs in names.items()
        if ours.startswith(OF_BLOCK)
    }
    outside = {ours: theirs for ours, theirs in names.items() if not ours.startswith(OF_BLOCK)}
    if not block or not outside:
        raise BadInput(f"{file} names no tensor of a block, or none outside them")
    return Family(name="map", outside=outside, place="", block=block)


def list_names() -> list[str]:
    """Every name of ours that a map may have.

    >>> "blocks.{layer}.attn.qkv.weight" in list_names()
    True
    """
    outside: dict[str, None] = {}
    block: dict[str, None] = {}
    for family in FAMILIES.values():
        outside |= dict.fromkeys(family.outside)
        block |= dict.fromkeys(OF_BLOCK + name for name in family.block)
    return [*outside, *block]
