"""The frame of a table of measures: what was written, in few bytes, and used as texts are."""

from __future__ import annotations

import pandas as pd
import pytest

from bench.table import BYTES, build_run, weigh_row
from tests.report.planted import PERFORMANCE, plant
from toyvit.data.task import resolve_config
from toyvit.dynamics.edge_lifetimes import pivot_edge_scores
from toyvit.model import ViT
from toyvit.recipes import RECIPES
from toyvit.report.tags import iterate_curves
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run, load_table

STEPS = (0, 5, 10)
WIDE = 1 << 15  # the first position that 16 bits do not hold
ROWS = {
    "performance": PERFORMANCE,
    "norms": [("norm", {"layer": layer, "place": 70_000}, layer / 8) for layer in (0, 1, 9)],
    "heads": [
        ("score", {"type": "sink", "layer": 1, "head": 0}, 0.5),
        ("score", {"type": "copy", "layer": 1, "head": WIDE - 1}, 0.25),
        ("null", {"layer": 1, "side": 3}, 0.125),
        ("null", {"layer": 1, "side": "left"}, 0.0),
    ],
    "edges": [
        ("edge_score", {"change": "label", "edge": edge}, value)
        for edge, value in (("logits <- input", 1.0), ("a0.0 <- input", -2.0))
    ],
}


def build_empty(path):
    """A run of three checkpoints of one drawn model, without measures."""
    config = resolve_config(RECIPES["induction-smoke"]())
    folder = RunFolder(path)
    folder.create(config)
    weights = ViT(config.model, seed=0).state_dict()
    for step in STEPS:
        folder.write_checkpoint(step, 8 * step, weights, {"loss": 2.0, "accuracy": 0.1})
    return Run(folder)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = build_empty(tmp_path_factory.mktemp("frames") / "run")
    plant(run, ROWS, STEPS)
    plant(run, {"performance": PERFORMANCE}, STEPS[:1], split="train", images=20)
    return run


def list_rows(frame):
    """Every row of a frame as Python values, without what is missing."""
    rows = []
    for row in frame.astype(object).to_dict("records"):
        rows.append({name: value for name, value in row.items() if pd.notna(value)})
    return rows


def test_a_row_is_what_was_written(run):
    expected = []
    for step in STEPS:
        for analysis, rows in ROWS.items():
            facts = {"run": "run", "step": step, "analysis": analysis, "split": "test"}
            for quantity, place, value in rows:
                number = {"quantity": quantity, "images": 10, "value": value}
                expected.append(facts | place | number)
        if step == 0:
            for quantity, _, value in PERFORMANCE:
                facts = {"run": "run", "step": 0, "analysis": "performance", "split": "train"}
                expected.append(facts | {"quantity": quantity, "images": 20, "value": value})
    assert list_rows(run.table) == expected


def test_texts_are_categories_and_numbers_small(run):
    kinds = {name: str(kind) for name, kind in run.table.dtypes.items()}
    texts = ("run", "analysis", "quantity", "split", "type", "change", "edge", "side")
    assert {name for name, kind in kinds.items() if kind == "category"} == set(texts)
    assert kinds["step"] == kinds["images"] == "int32" and kinds["value"] == "float64"
    assert kinds["layer"] == kinds["head"] == "Int16" and kinds["place"] == "Int32"


@pytest.mark.slow
def test_a_default_run_has_at_most_80_bytes_a_row(tmp_path):
    """Of few checkpoints: the names of the categories weigh more there."""
    build_run(tmp_path / "run", most=3)
    row = weigh_row(tmp_path / "run")
    assert row.bar == BYTES == 80 and row.reached
    assert max(row.ours) < 80 < 300 < min(row.peer)


def test_a_run_of_many_tags_has_at_most_80_bytes_a_row(tmp_path):
    run = build_empty(tmp_path / "run")
    rows = []
    for place in range(400):
        tags = {f"tag{n}": f"value {place % (n + 2)}" for n in range(10)}
        axes = {f"axis{n}": place for n in range(6)}
        rows.append(("score", tags | axes | {"edge": f"edge number {place}"}, 0.5))
    plant(run, {"heads": rows}, STEPS)
    assert run.table.memory_usage(deep=True).sum() <= 80 * len(run.table)


def test_categories_are_used_as_texts_are(run):
    frame = run.table
    assert (frame["quantity"] == "loss").sum() == 4
    assert (frame["type"] == "sink").sum() == 3
    assert not (frame["type"] == "nothing").any()
    assert (frame["type"] != "sink").sum() == len(frame) - 3
    assert frame["quantity"].isin(["loss", "norm"]).sum() == 13
    assert frame["quantity"].str.startswith("edge").sum() == 6
    assert len(frame.query("analysis == 'heads' and layer == 1 and type == 'copy'")) == 3
    assert (frame["side"] == 3).sum() == (frame["side"] == "left").sum() == 3

    by_name = frame.sort_values("analysis", kind="stable")["analysis"]
    assert list(dict.fromkeys(by_name)) == sorted(ROWS)
    sizes = frame.groupby("quantity").size()
    assert sizes.to_dict() == {
        "accuracy": 4, "edge_score": 6, "loss": 4, "norm": 9, "null": 6, "score": 6,
    }  # fmt: skip


def test_frames_of_several_runs_are_concatenated(run, tmp_path):
    other = build_empty(tmp_path / "other")
    plant(other, {"performance": PERFORMANCE}, STEPS)
    both = pd.concat([run.table, other.table], ignore_index=True)
    assert list_rows(both) == list_rows(run.table) + list_rows(other.table)


def test_a_little_arithmetic_on_positions_does_not_overflow(run):
    places = run.table["layer"] * 1000 + run.table["layer"]
    assert places.max() == 9009


def test_a_curve_is_over_steps_of_64_bits(run):
    curve = run.curve("performance", "loss")
    assert curve.index.dtype == "int64" and curve.index.name == "step"


def test_scores_of_edges_have_plain_names_in_the_order_of_the_table(run):
    scores = pivot_edge_scores(run.table, "label")
    assert not isinstance(scores.columns.dtype, pd.CategoricalDtype)
    assert list(scores.columns) == ["logits <- input", "a0.0 <- input"]
    assert scores.to_numpy().tolist() == [[1.0, -2.0]] * 3


def test_a_name_that_is_no_unicode_stays_a_text(tmp_path):
    """Whatever pandas does with categories: curves of several splits are one frame."""
    run = build_empty(tmp_path / "run")
    plant(run, {"heads": [("score", {"factor": name}, 0.5) for name in ("a\udc80b", "c")]}, STEPS)
    plant(run, {"performance": PERFORMANCE}, STEPS, split="train")
    assert set(run.table["factor"].dropna()) == {"a\udc80b", "c"}
    tags = {tag for _, tag, _ in iterate_curves(run.table)}
    assert r"heads/score/factor a\udc80b" in tags
    assert list_rows(pd.concat([run.table, run.table])) == 2 * list_rows(run.table)
    rows = load_table(run, analyses=["heads"])
    assert set(rows["factor"]) == {"a\udc80b", "c"}
