"""`toyvit ls`: filters, order, columns, comparisons, formats."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from tests.report.planted import PERFORMANCE, plant
from toyvit.__main__ import main
from toyvit.data.task import resolve_config
from toyvit.model import ViT
from toyvit.recipes import RECIPES
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run
from toyvit.runs.run_table import is_same

SCORES = {"a": 0.1, "b": 0.9, "c": 0.5}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs, of one, two and three layers, whose last checkpoint has these accuracies."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = RECIPES["induction-smoke"]()
    for place, (name, accuracy) in enumerate(SCORES.items()):
        model = replace(recipe.model, n_layers=place + 1)
        config = resolve_config(replace(recipe, model=model))
        run = RunFolder(folder / name)
        run.create(config)
        weights = ViT(config.model, seed=0).state_dict()
        run.write_checkpoint(0, 0, weights, {"loss": 2.0, "accuracy": 0.0})
        run.write_checkpoint(20, 0, weights, {"loss": 1.0, "accuracy": accuracy})
    mass = [("mass", {"layer": 0, "head": 0}, 0.25), ("mass", {"layer": 0, "head": 1}, 0.75)]
    rows = {"performance": PERFORMANCE, "induction": mass}
    plant(Run(folder / "b"), rows, steps=[0, 20])
    return folder


def ls(capsys, *words: object) -> str:
    assert main(["ls", *map(str, words)]) == 0
    return capsys.readouterr().out


def names(text: str) -> list[str]:
    return [Path(line.split()[0]).name for line in text.splitlines()]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "abc"),
        (["--where", "model.n_layers=2"], "b"),
        (["--where", "model.n_layers=1,3"], "ac"),
        (["--where", "model.n_layers=1,3", "--where", "accuracy=0.5"], "c"),
        (["--where", "recipe=INDUCTION-SMOKE"], "abc"),
        (["--where", "induction.mass=0.75"], "b"),
        (["--status", "stopped"], "abc"),
        (["--status", "finished"], ""),
        (["--sort", "accuracy"], "acb"),
        (["--sort", "accuracy", "--reverse"], "bca"),
        (["--sort", "induction.mass"], "bac"),
        (["--sort", "path", "--reverse"], "cba"),
    ],
)
def test_runs_are_chosen_and_ordered(place, capsys, words, expected):
    assert names(ls(capsys, place, *words)) == list(expected)


def test_any_column_is_shown(place, capsys):
    """Of the strongest head; none where it was not measured."""
    words = ["--columns", "model.n_layers,induction.mass", "--format"]
    rows = json.loads(ls(capsys, place, *words, "json"))
    assert [row["induction.mass"] for row in rows] == [None, 0.75, None]
    assert [row["model.n_layers"] for row in rows] == [1, 2, 3]
    table = list(csv.reader(io.StringIO(ls(capsys, place, *words, "csv"))))
    assert table[0] == ["path", "model.n_layers", "induction.mass"]
    assert [row[1:] for row in table[1:]] == [["1", "none"], ["2", "0.75"], ["3", "none"]]
    text = ls(capsys, place, *words, "text").splitlines()
    assert text[0].split() == ["path", "model.n_layers", "induction.mass"] and len(text) == 4


def test_runs_are_compared(place, capsys):
    """Scores, and the fields that differ alone."""
    rows = json.loads(ls(capsys, place, "--compare", "--format", "json"))
    table = {row[""]: list(row.values())[1:] for row in rows}
    assert table["accuracy"] == list(SCORES.values())
    assert table["model.n_layers"] == [1, 2, 3] and "model.n_heads" not in table
    assert [line[-1] for line in table["accuracy over training"]] == ["▂", "▇", "▅"]


def test_several_folders_are_listed(place, capsys):
    assert names(ls(capsys, place / "c", place / "a")) == ["c", "a"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--where", "model.n_layer=2"], "did you mean 'model.n_layers'?"),
        (["--columns", "induction.mas"], "did you mean 'induction.mass'?"),
        (["--sort", "acuracy"], "did you mean 'accuracy'?"),
        (["--where", "accuracy"], "where is FIELD=VALUE, got 'accuracy'"),
        (["--where", "=2"], "where is FIELD=VALUE"),
        (["--status", "done"], "status"),
        (["--format", "xml"], "format"),
    ],
)
def test_what_there_is_not_is_said(place, capsys, words, problem):
    assert main(["ls", str(place), *words]) == 2
    error = capsys.readouterr().err
    assert problem in error and error.count("\n") == 1


def test_where_nothing_is_listed_it_is_told_why(place, tmp_path, capsys):
    assert main(["ls", str(place), "--where", "accuracy=0.123"]) == 0
    assert capsys.readouterr() == ("", f"none of the 3 runs in {place} matches\n")
    assert main(["ls", str(tmp_path)]) == 0
    assert capsys.readouterr() == ("", f"no run in {tmp_path}\n")
    assert main(["ls", str(tmp_path), "--format", "json"]) == 0
    assert capsys.readouterr() == ("[]\n", "")


@given(number=st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_what_its_text_says(number):
    assert is_same(number, str(number)) and is_same(number, f" {number} ".strip())
    assert not is_same(number, "none") and not is_same(None, str(number))
