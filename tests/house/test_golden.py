"""What `bench.golden` calls the same and what it calls different, on planted records; and that it
sees everything that a figure draws.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from math import nextafter
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from bench.golden import compare, describe_artists
from bench.renames import MENDED_FIGURES

ROW = "runs/a 20 0123456789ab knock_outs v2 test 64 accuracy [head=0 layer=1]"
RECORD: dict[str, Any] = {
    "checkpoints": {"runs/a 0": "00", "runs/a 20": "01"},
    "measures": {ROW: 0.5},
    "circuits": {"runs/a/figures/circuit.json": {"base": "mean", "edges": [1, 2]}},
    "lenses": {"runs/a/lenses/step_20": "02"},
    "sweep": "seed,accuracy\n0,0.5\n",
    "replication": {"claim": "rank-one", "numbers": [0.5]},
    "figures": {
        "runs/a/figures/knock_outs.png": ["line 00 01", "line 00 02", "text chance"],
        "runs/a/figures/probes.png": ["line 00 03"],
        "runs/a/figures/heads.png": ["image 04"],
    },
}


def rename(record: dict[str, Any]) -> dict[str, Any]:
    """The record as today's tree gives it: the same under new names."""
    new = deepcopy(record)
    new["measures"] = {ROW.replace("knock_outs", "head_ablation"): 0.5}
    new["circuits"] = {"runs/a/figures/circuit.json": {"ablation": "mean", "edges": [1, 2]}}
    drawn = new["figures"].pop("runs/a/figures/knock_outs.png")
    new["figures"]["runs/a/figures/head_ablation.png"] = drawn
    return new


def find_differences(change: Callable[[dict[str, Any]], Any]) -> list[str]:
    new = rename(RECORD)
    change(new)
    return compare(deepcopy(RECORD), new)


def test_what_is_the_same_under_new_names_is_no_difference():
    assert find_differences(lambda new: None) == []


NEW_ROW = ROW.replace("knock_outs", "head_ablation")
FOLDER = "runs/a/figures"
CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "checkpoint": (
        lambda new: new["checkpoints"].update({"runs/a 20": "ff"}),
        "checkpoints runs/a 20: 01 is now ff",
    ),
    "checkpoint lost": (
        lambda new: new["checkpoints"].pop("runs/a 0"),
        "checkpoints runs/a 0: 00 is now None",
    ),
    "checkpoint more": (
        lambda new: new["checkpoints"].update({"runs/a 40": "02"}),
        "checkpoints runs/a 40: None is now 02",
    ),
    "row": (
        lambda new: new["measures"].update({NEW_ROW: nextafter(0.5, 1)}),
        f"measures {NEW_ROW}: 0.5 is now 0.5000000000000001",
    ),
    "row more": (
        lambda new: new["measures"].update({"runs/a 20 x probes v1 test 64 loss []": 0.5}),
        "measures runs/a 20 x probes v1 test 64 loss []: None is now 0.5",
    ),
    "circuit": (
        lambda new: new["circuits"][f"{FOLDER}/circuit.json"].update(edges=[1, 3]),
        f"circuits {FOLDER}/circuit.json: {{'ablation': 'mean', 'edges': [1, 2]}} is now",
    ),
    "lens": (
        lambda new: new["lenses"].update({"runs/a/lenses/step_20": "ff"}),
        "lenses runs/a/lenses/step_20: 02 is now ff",
    ),
    "sweep": (
        lambda new: new.update(sweep="seed,accuracy\n0,0.6\n"),
        "sweep : seed,accuracy\n0,0.5\n is now",
    ),
    "replication": (
        lambda new: new["replication"].update(numbers=[0.6]),
        "replication numbers: [0.5] is now [0.6]",
    ),
    "figure lost": (
        lambda new: new["figures"].pop(f"{FOLDER}/probes.png"),
        f"figures {FOLDER}/probes.png: 1 things drawn before, 0 now",
    ),
    "figure more": (
        lambda new: new["figures"].update({f"{FOLDER}/more.png": ["line 00 05"]}),
        f"figures {FOLDER}/more.png: 0 things drawn before, 1 now",
    ),
    "curve": (
        lambda new: new["figures"].update({f"{FOLDER}/probes.png": ["line 00 ff"]}),
        f"figures {FOLDER}/probes.png: -line 00 03, +line 00 ff",
    ),
    "curve more": (
        lambda new: new["figures"][f"{FOLDER}/probes.png"].append("line 00 05"),
        f"figures {FOLDER}/probes.png: +line 00 05",
    ),
    "curve twice": (
        lambda new: new["figures"][f"{FOLDER}/probes.png"].append("line 00 03"),
        f"figures {FOLDER}/probes.png: +line 00 03",
    ),
    "curve lost of a mended figure": (
        lambda new: new["figures"][f"{FOLDER}/head_ablation.png"].remove("line 00 02"),
        f"figures {FOLDER}/head_ablation.png: -line 00 02",
    ),
    "part lost": (lambda new: new.pop("lenses"), "lenses: 1 before, 0 now"),
    "part empty": (lambda new: new.update(measures={}), "measures: 1 before, 0 now"),
    "part more": (lambda new: new.update(tables={"a": 1}), "tables: 0 before, 1 now"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_planted_difference_is_told(name):
    change, told = CHANGES[name]
    differences = find_differences(change)
    assert differences and differences[0].startswith(told)


def test_a_part_of_which_neither_tree_gave_anything_is_told():
    empty = {part: type(value)() for part, value in RECORD.items()}
    assert len(compare(deepcopy(empty), deepcopy(empty))) == len(RECORD)


def test_what_is_mended_is_no_difference():
    assert MENDED_FIGURES["*/head_ablation"][0] == "+line +text"
    drawn = [f"{FOLDER}/head_ablation.png", f"{FOLDER}/heads.png"]
    assert find_differences(lambda new: new["figures"][drawn[0]].append("line 00 05")) == []
    assert find_differences(lambda new: new["figures"].update({drawn[1]: ["line 00 05"]})) == []


ARTISTS: dict[str, Callable[[Any, float], Any]] = {
    "line": lambda axes, value: axes.plot([0, 1], [0, value]),
    "image": lambda axes, value: axes.imshow([[0, value]]),
    "mesh": lambda axes, value: axes.pcolormesh([[0, value]]),
    "band": lambda axes, value: axes.fill_between([0, 1], [0, 0], [1, value]),
    "patch": lambda axes, value: axes.axvspan(0, value),
    "text": lambda axes, value: axes.text(0, 0, f"{value}"),
}


@pytest.mark.parametrize("kind", ARTISTS)
def test_what_a_figure_draws_is_described_by_its_data(kind):
    """One thing is one line of text, another value is another line, and no other thing is."""

    def describe(value: float) -> list[str]:
        figure = Figure()
        ARTISTS[kind](figure.add_subplot(), value)
        return list(describe_artists(figure))

    (line,) = describe(2.0)
    assert line.split()[0] == kind and describe(2.0) == [line] != describe(3.0)


def test_a_colour_bar_is_no_part_of_what_is_drawn():
    figure = Figure()
    mesh = figure.add_subplot().pcolormesh(np.eye(2))
    figure.colorbar(mesh)
    assert len(list(describe_artists(figure))) == 1


def test_bars_and_arrows_are_described():
    figure = Figure()
    axes = figure.add_subplot()
    axes.bar([0, 1], [2, 3])
    axes.add_patch(FancyArrowPatch((0, 0), (1, 1)))
    assert [line.split()[0] for line in describe_artists(figure)] == ["patch", "patch", "arrow"]
