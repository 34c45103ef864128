"""Where analyses are declared and what follows: names without torch, and one file for a new one."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings, strategies as st

import toyvit.analyses
from tests.analyses.planted import model_for
from toyvit.analyses import ANALYSES, Analysis, Axis, Need, Quantity, Tagged, select_analyses
from toyvit.analyses.names import ENTRIES, NAMES, RENAMED
from toyvit.analyses.registry import explain_skipped, list_crowded_axes
from toyvit.errors import BadInput
from toyvit.measuring import measure, run_analyses
from toyvit.recipes import RECIPES
from toyvit.report.tags import iterate_curves
from toyvit.runs.cells import Cell
from toyvit.runs.events import escape_part
from toyvit.runs.folder import RunFolder
from toyvit.runs.frames import COLUMNS, build_table
from toyvit.runs.handle import load_table
from toyvit.runs.table import (
    build_rows,
    read_whole,
    select_curve,
)
from toyvit.runs.table_writer import MeasureTable
from toyvit.train import fit


def test_what_is_listed_without_torch_is_what_the_rows_say():
    rows = [(row.name, row.computes, row.slow) for row in ANALYSES.values()]
    assert [(entry.name, entry.computes, entry.slow) for entry in ENTRIES] == rows
    assert list(NAMES) == list(ANALYSES)
    for entry in ENTRIES:
        assert ANALYSES[entry.name].measure.__module__ == f"toyvit.analyses.{entry.module}"


def test_no_row_is_forgotten():
    rows = []
    for module in pkgutil.iter_modules(toyvit.analyses.__path__):
        values = vars(import_module(f"toyvit.analyses.{module.name}")).values()
        rows += [value.name for value in values if isinstance(value, Analysis)]
    assert sorted(rows) == sorted(NAMES)


@pytest.mark.slow
def test_names_are_listed_without_torch():
    code = """
import sys, toyvit.analyses.names
heavy = {"torch", "numpy", "pandas"}
assert not {*heavy, "scipy"} & set(sys.modules)
import toyvit.analyses.registry
assert heavy <= set(sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_what_the_room_has_not_is_no_attribute():
    with pytest.raises(AttributeError, match="no attribute 'ANALYSE'"):
        toyvit.analyses.ANALYSE  # noqa: B018
    assert toyvit.analyses.ANALYSES is ANALYSES


def test_an_analysis_that_cannot_be_run_is_refused_by_name():
    model, batch = model_for("classify")
    for name, analysis in ANALYSES.items():
        if analysis.list_missing(model, batch):
            with pytest.raises(BadInput, match=f"'{name}' needs"):
                select_analyses([name], batch, model)
            assert analysis not in select_analyses(None, batch, model)
            assert explain_skipped(batch, model)[name].startswith("needs ")
    with pytest.raises(BadInput, match="did you mean 'attention'"):
        select_analyses(["atention"], batch, model)


def test_old_names_are_not_names_of_today():
    assert set(RENAMED.values()) <= set(NAMES) and not RENAMED.keys() & set(NAMES)


def test_costs_in_words():
    words = {
        cost: replace(ANALYSES["norms"], cost=cost).rough_cost for cost in (0.3, 63, 4600, 6e4)
    }
    assert list(words.values()) == ["under 1 ms", "about 63 ms", "about 4.6 s", "about 60 s"]


def test_crowded_axes_are_those_that_rows_declare():
    """Values of factors and counts, tokens that are read, neurons: a figure's, not curves."""
    assert list_crowded_axes() == {"level", "count", "key", "neuron"}


def test_an_axis_that_nothing_declares_is_refused():
    with pytest.raises(ValueError, match="no axis 'taste' is declared for mass"):
        replace(ANALYSES["induction"], quantities={"mass": Quantity("layer taste")})


@pytest.mark.parametrize("tag", ["layer", *COLUMNS])
def test_a_tag_with_the_name_of_a_column_is_refused(tag):
    with pytest.raises(ValueError, match=f"cannot be called '{tag}'"):
        build_rows("mass", torch.zeros(2), "layer", {tag: "x"})


def test_a_tensor_without_its_axes_is_refused():
    with pytest.raises(ValueError, match=r"mass has axes \['layer'\], but its tensor 2"):
        build_rows("mass", torch.zeros(2, 2), "layer")


def taste(model, batch, trace):
    """A measure of no sense: NaN at one place, an axis that no other has."""
    value = torch.tensor([[1.0, torch.nan, 3.0]] * model.config.n_layers)
    return {Tagged("sweet", by="a=b,c[d]"): value, "sour": value[0, 0]}


TASTE = Analysis(
    name="taste",
    computes="nothing of sense",
    measure=taste,
    quantities={
        "sweet": Quantity("layer bite", may_be_nan=True),
        "sour": Quantity(only_with=Need("several layers", lambda config, batch: True)),
    },
    own_axes=(Axis("bite", "a mouthful", lambda config, batch: (3,)),),
    cost=1,
    source="nobody",
    truth="none",
    null="none",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = RECIPES["induction-smoke"]()
    train = replace(config.train, steps=2, batch_size=8, n_validation=16, checkpoints=(1,))
    folder = tmp_path_factory.mktemp("runs") / "run"
    return fit(replace(config, train=train), folder, progress=False).path


@pytest.mark.slow
def test_a_new_measure_with_a_new_axis_goes_all_the_way(run, monkeypatch):
    """In the table of analyses it is measured, written, read and drawn; nothing else is told."""
    monkeypatch.setitem(ANALYSES, "taste", TASTE)
    assert measure(run, analyses=["taste"], images=8, progress=False).computed == 3
    frame = load_table(run)
    frame = frame[frame["analysis"] == "taste"]
    assert sorted(frame["bite"].dropna().unique()) == [0, 2]  # NaN has no row
    curve = select_curve(frame, "taste", "sweet", layer=1, bite=2, by="a=b,c[d]")
    assert curve.to_dict() == {0: 3.0, 1: 3.0, 2: 3.0}
    assert select_curve(frame, "taste", "sour").tolist() == [1.0] * 3
    with pytest.raises(BadInput, match=r"unknown axis or tag 'bites'.*did you mean 'bite'"):
        select_curve(frame, "taste", "sweet", bites=2)
    tags = {tag for _, tag, _ in iterate_curves(frame)}
    assert "taste/sweet/by a=b,c[d] layer 1 bite 2" in tags

    crowded = replace(TASTE.own_axes[0], is_crowded=True)
    monkeypatch.setitem(ANALYSES, "taste", replace(TASTE, own_axes=(crowded,)))
    tags = {tag for _, tag, _ in iterate_curves(frame)}
    assert tags == {"taste/sour"}  # a figure's, not a curve each


NAMES_OF_FACTORS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
WEIRD = ("a, b", "[x]", "a=b", "type=[c,d=e]", "x shuffled", "a/b", "'", '"', "%s", "{}")


@pytest.mark.slow
@settings(max_examples=20)
@given(
    names=st.lists(NAMES_OF_FACTORS | st.sampled_from(WEIRD), min_size=1, max_size=3, unique=True)
)
def test_a_factor_may_have_any_name(names, tmp_path_factory):
    """Measured, written, read, drawn like any other: commas, brackets, equals signs, any text."""
    model, batch = model_for("induction 1x7", n=8)
    batch = replace(batch, factors=dict.fromkeys(names, batch.factors["label"]))
    chosen = [ANALYSES[name] for name in ("probes", "by_factor", "factor_superposition")]
    rows = run_analyses(model, batch, chosen)

    folder = RunFolder(tmp_path_factory.mktemp("weird"))
    folder.create(RECIPES["induction-smoke"]())
    with MeasureTable(folder) as table:
        for name, of_analysis in rows.items():
            table.write(Cell(0, "sha", name, 1, "digest"), "test", 8, of_analysis)
    frame = build_table(folder, read_whole(folder), [SimpleNamespace(step=0, sha256="sha")])

    assert list(dict.fromkeys(frame["factor"].dropna())) == names
    for analysis, quantity in (
        ("probes", "accuracy"),
        ("probes", "accuracy_shuffled"),
        ("probes", "accuracy_pixels"),
        ("by_factor", "loss_of_value"),
        ("factor_superposition", "dimensionality"),
    ):
        curves = [select_curve(frame, analysis, quantity, factor=name) for name in names]
        assert all(curve.tolist() == curves[0].tolist() for curve in curves) and len(curves[0])
    tags = [tag for _, tag, _ in iterate_curves(frame)]
    assert len(set(tags)) == len(tags)
    for name in names:
        assert f"probes/accuracy/factor {escape_part(name)} group last layer 0" in tags
