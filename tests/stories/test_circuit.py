"""`toyvit circuit` and the slower analyses on small runs: what is found is saved, drawn, and can be
run again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from toyvit.__main__ import main
from toyvit.circuits.circuit import load_circuit
from toyvit.circuits.evaluate import CircuitEvaluator
from toyvit.circuits.search import select_pairs
from toyvit.errors import BadInput
from toyvit.instruments.lenses import load_lens
from toyvit.measuring import measure
from toyvit.recipes import RECIPES
from toyvit.report import FIGURES, draw
from toyvit.runs.handle import Run, load_table
from toyvit.runs.table import select_main_rows
from toyvit.train import fit

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, made = tmp_path_factory.mktemp("runs"), {}
    for name, steps in (("induction-smoke", 400), ("digits", 60)):
        run = RECIPES[name]()
        training = replace(run.train, steps=steps, n_validation=32, checkpoints=(0, 10, steps))
        fit(replace(run, train=training), folder / name, progress=False)
        made[name] = folder / name
    return made


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("induction-smoke", ["--change", "item"]),
        (
            "induction-smoke",
            ["--change", "label", "--method", "acdc", "--ablation", "zero", "--null", "0"],
        ),
        (
            "digits",
            [
                "--classes",
                "4,9",
                "--method",
                "eap",
                "--metric",
                "probability",
                "--ablation",
                "mean",
            ],
        ),
    ],
)
def test_a_circuit_is_found_saved_and_runs_again(runs, capsys, name, words):
    path = runs[name]
    assert main(["circuit", str(path), "--pairs", "12", "--null", "3", *words]) == 0
    out = capsys.readouterr().out
    record, picture = (
        Path(line.removeprefix("wrote ")) for line in out.splitlines() if line.startswith("wrote")
    )
    with Image.open(picture) as drawn:
        assert min(drawn.size) > 200
    circuit, trajectory = load_circuit(record), Run(path)
    model = trajectory.bare_model(int(circuit.checkpoint.split(" at ")[1].split(",")[0]))
    classes = (4, 9) if name == "digits" else None
    change = words[1] if name != "digits" else None
    parts = select_pairs(Run(path), change, classes, 24).split(12)
    scores = [
        CircuitEvaluator(
            model=model, pairs=pairs, metric=circuit.metric, ablation=circuit.ablation
        ).judge(circuit.edge_mask(model))
        for pairs in parts
    ]
    assert [circuit.searched, circuit.tested] == scores and scores[0] != scores[1]
    line = next(line for line in out.splitlines() if line.startswith("faithfulness"))
    own, test = (score.faithfulness for score in scores)
    assert f" {test:.3f}; {own:.3f} on the {scores[0].n_pairs} pairs it was" in line
    assert all(edge in out for edge in circuit.edges)


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("induction-smoke", ["--change", "items"], "did you mean 'item'"),
        ("induction-smoke", ["--step", "11"], "step 11"),
        ("induction-smoke", ["--method", "acd"], "did you mean 'acdc'"),
        ("induction-smoke", ["--metric", "logits"], "unknown metric"),
        ("induction-smoke", ["--ablation", "corupt"], "did you mean 'corrupt'"),
        ("induction-smoke", ["--faithful", "1.2"], "between 0 and 1, got 1.2"),
        ("induction-smoke", ["--pairs", "0"], "at least 1"),
        (
            "induction-smoke",
            ["--threshold", "0.1"],
            "--threshold 0.1 is of no use to eap-ig: it takes --faithful",
        ),
        ("induction-smoke", ["--method", "acdc", "--faithful", "0.5"], "it takes --threshold"),
        ("induction-smoke", ["--method", "acdc", "--threshold", "-1"], "at least 0 nats, got -1"),
        ("induction-smoke", ["--method", "acdc", "--threshold", "nan"], "at least 0 nats, got nan"),
        ("induction-smoke", ["--null", "-1"], "--null must be at least 0, got -1"),
        (
            "induction-smoke",
            ["--step", "0", "--change", "item"],
            "nothing to explain: cutting every edge moves",
        ),
        ("induction-smoke", ["--pairs", "1", "--change", "item"], "nothing to explain"),
        ("induction-smoke", ["--change", "item", "--classes", "1,2"], "give one of them"),
        ("digits", [], "cannot draw counterfactual pairs: compare two classes, --classes A,B"),
        ("digits", ["--classes", "4,4"], "a pair is of two classes, got 4 and 4"),
        ("digits", ["--classes", "4"], "takes two classes"),
        ("digits", ["--classes", "4,12"], "no pairs of classes 4 and 12"),
        ("digits", ["--classes", "4,nine"], "whole numbers"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_a_line(runs, capsys, name, words, message):
    before = sorted(runs[name].rglob("*"))
    assert main(["circuit", str(runs[name]), "--pairs", "12", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert sorted(runs[name].rglob("*")) == before


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_search(runs, capsys, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode, **how: False)
    assert main(["circuit", str(runs["digits"]), "--classes", "4,9"]) == 2
    assert "digits cannot be written to" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["induction-smoke", "digits"])
def test_a_tuned_lens_is_fitted_kept_and_no_worse_than_the_logit_lens(runs, capsys, name):
    assert main(["lens", str(runs[name]), "--images", "40", "--step", "10"]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if " lens " in line]
    plain, tuned = ([float(value) for value in row[3:]] for row in rows[:2])
    assert all(one <= other for one, other in zip(tuned, plain, strict=True)) and tuned[-1] == 0
    edge_mask = Path(out.splitlines()[-1].removeprefix("wrote "))
    assert load_lens(edge_mask, Run(runs[name]).model(10)).step == 10
    assert (
        main(["lens", str(runs[name]), "--step", "11"]) == 2
        and main(["lens", str(runs[name]), "--images", "0"]) == 2
    )


def test_slow_analyses_run_when_asked_for_and_are_drawn(runs, monkeypatch):
    path = runs["induction-smoke"]
    done = measure(path, images=40, steps=[0, 400], progress=False)
    assert {"edges", "patching"} <= set(done.unfit) and done.unfit[
        "edges"
    ] == "run only when asked for"
    assert "predictors" in done.unfit["strategies"]
    slow = ["edges", "patching", "attention_knockout"]
    measure(path, images=40, steps=[0, 400], analyses=slow, progress=False)
    frame = select_main_rows(load_table(path))
    assert {"edges", "patching", "attention_knockout"} <= set(frame["analysis"])
    scores = frame[(frame["quantity"] == "edge_score") & (frame["step"] == 400)]
    assert set(scores["change"]) == {"query", "item", "label"} and scores["edge"].nunique() == 12
    few = {name: FIGURES[name] for name in (*slow, "lens", "attribution")}
    monkeypatch.setattr("toyvit.report.FIGURES", few)
    assert {figure.file.stem for figure in draw(path)} == set(few)
    with pytest.raises(
        BadInput, match="'edges' needs counterfactual pairs, which this run does not have"
    ):
        measure(runs["digits"], images=40, analyses=["edges"], progress=False)
