"""What every notebook has, which runs are refused, and what the checks of exercises say."""

from __future__ import annotations

import math
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import toyvit
from bench.notebooks import find_notebooks
from tests.notebooks.conftest import NOTEBOOKS, read
from toyvit import sweeping
from toyvit.errors import BadInput
from toyvit.train import fit

from course import exercises, opening  # isort: skip
from course.needs import NEEDS  # isort: skip

NAMES = sorted(file.stem for file in NOTEBOOKS.glob("*.ipynb"))
READS = {
    "01_phase_transition": "induction",
    "02_mnist_circuits": "digits",
    "03_induction_circuit": "induction",
    "04_mnist_full_circuit": "digits",
    "05_grokking": "addition",
    "06_seeds_and_transitions": "seeds",
}
LONGEST = 15  # lines of a cell
LARGEST = 500_000  # bytes


def list_code(name: str) -> list[str]:
    return [cell.source for cell in read(name).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("name", NAMES)
def test_every_notebook_has_its_parts(name):
    """A question, what must be run before, short cells, the page, a checked answer, exercises."""
    cells = read(name).cells
    code = list_code(name)
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    opened = cells[0].source
    assert re.search(r"\*\*Question: [^*\n]+\?\*\*", opened)
    assert "othing has to be run" in opened and "prepared" in opened
    assert max(source.count("\n") + 1 for source in code) <= LONGEST
    assert any("toyvit.view(" in source for source in code)
    assert any(re.search(r"^assert .*, f\"", source, re.M) for source in code)
    asked = [source for source in code if source.startswith("answer = ...\ncheck(")]
    assert 2 <= len(asked) <= 3
    assert text.count("<details><summary>Solution</summary>") == len(asked)


@pytest.mark.parametrize("name", NAMES)
def test_notebooks_are_stored_executed_and_modest(name):
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size < LARGEST
    cells = [cell for cell in read(name).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not re.search(r"/(root|home|work|tmp)/", "".join(map(str, outputs)))
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1


def test_every_notebook_and_exercise_is_listed():
    """In the index, and in the table of checks, in order."""
    index = (NOTEBOOKS / "README.md").read_text()
    assert re.findall(r"\((\d\d_\w+)\.ipynb\)", index) == NAMES
    asked = re.findall(r'check\("(.+?)"', "\n".join(map("\n".join, map(list_code, NAMES))))
    assert asked == list(exercises.EXERCISES)
    opened = {name: re.findall(r'= open_runs?\("(\w+)"\)', list_code(name)[0]) for name in NAMES}
    assert opened == {"00_tour": []} | {name: [need] for name, need in READS.items()}
    for name in READS:
        need = NEEDS[READS[name]]
        row = next(line for line in index.splitlines() if f"({name}.ipynb)" in line)
        assert row.endswith(f"| `{need.command}` | `{need.variable}` |")
        assert need.command in read(name).cells[0].source
        assert need.variable in read(name).cells[0].source


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> dict[str, Path]:
    """For each need, a folder of runs of its kind with three checkpoints and no measures."""
    folder = tmp_path_factory.mktemp("tiny")
    for name in ("induction", "digits", "addition"):
        config = NEEDS[name].config()
        train = replace(config.train, steps=2, batch_size=4, n_validation=4, checkpoints=None)
        fit(replace(config, train=train), folder / name / "seed-0", progress=False)
    shutil.copytree(folder / "induction", folder / "seeds")
    for name in ("addition", "seeds"):
        for seed in (1, 2):
            shutil.copytree(folder / name / "seed-0", folder / name / f"seed-{seed}")
    return {name: folder / name for name in NEEDS}


OF_ANOTHER_KIND = {
    "induction": "digits",
    "digits": "induction",
    "addition": "seeds",
    "seeds": "addition",
}
PROBLEMS = {
    "missing": "nothing is there",
    "no run in it": "has 0",
    "thin": "has 3 checkpoints",
    "of another kind": "is a run of",
    "not measured": "run `toyvit measure",
}


@pytest.mark.parametrize("problem", PROBLEMS)
@pytest.mark.parametrize("name", READS)
def test_what_a_notebook_cannot_use_is_one_sentence(tiny, tmp_path, monkeypatch, name, problem):
    """What is wrong with which folder, and the command that makes the right one."""
    need = NEEDS[READS[name]]
    folder = tiny[need.name]
    if problem == "missing":
        folder = tmp_path / "nowhere"
    if problem == "no run in it":
        folder = tmp_path
    if problem == "of another kind":
        folder = tiny[OF_ANOTHER_KIND[need.name]]
    if problem == "not measured":
        monkeypatch.setitem(opening.NEEDS, need.name, replace(need, least=1))
    monkeypatch.setenv(need.variable, str(folder))
    with pytest.raises(BadInput) as refused:
        opening.open_runs(need.name)
    sentence = str(refused.value)
    assert PROBLEMS[problem] in sentence and str(folder) in sentence
    assert ("\n" not in sentence and f"`{need.command}`" in sentence) or problem == "not measured"


def test_a_part_without_its_run_says_what_makes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TOYVIT_RUNS", str(tmp_path))
    assert opening.find_run("TOYVIT_BIDIRECTIONAL", "induction-bidirectional") is None
    assert "`toyvit train induction-bidirectional`" in capsys.readouterr().out


def test_small_runs_are_not_prepared_where_the_full_one_is(tiny, tmp_path, monkeypatch):
    """Nor again where they were prepared."""
    need = NEEDS["induction"]
    monkeypatch.setenv("TOYVIT_RUNS", str(tmp_path))
    monkeypatch.delenv(need.variable, raising=False)
    calls = []
    monkeypatch.setattr(sweeping, "train_plan", lambda plan, **options: calls.append(list(plan)))
    opening.prepare(need, tmp_path / "prepared" / "induction")
    assert calls == [[tmp_path / "prepared" / "induction"]]
    full = tmp_path / need.full
    full.parent.mkdir()
    os.symlink(tiny["induction"], full)
    assert opening._choose_folder(need) == full and len(calls) == 1


@pytest.mark.parametrize("lacks", ["nothing", "steps", "analyses"])
def test_small_runs_are_ready_when_all_is_measured(tiny, tmp_path, lacks):
    """At every checkpoint; and a run is drawn beside another only when it is measured."""
    need = replace(NEEDS["digits"], analyses=("performance", "norms"))
    path = shutil.copytree(tiny["digits"] / "seed-0", tmp_path / "digits")
    assert opening.find_beside(toyvit.Run(path), "digits") is None
    analyses = [*need.analyses][: 1 if lacks == "analyses" else 2]
    steps = [0, 1] if lacks == "steps" else None
    toyvit.measure(path, images=8, analyses=analyses, steps=steps, progress=False)
    assert opening._is_ready(need, [path]) == (lacks == "nothing")
    assert opening.find_beside(toyvit.Run(path), "digits") is not None


RIGHT = {"word": "k", "place": (1, 0), "step": 380, "share": 0.21}
WRONG = (None, "nonsense", -1.0, (9, 9), [], math.nan, torch.zeros(3), {"a": 1}, object())


@pytest.mark.parametrize("kind", RIGHT)
@pytest.mark.parametrize("name", exercises.EXERCISES)
def test_checks_say_right_or_not_yet_with_a_hint(monkeypatch, name, kind):
    """Whatever is answered; never what is right."""
    exercise = replace(exercises.EXERCISES[name], solve=lambda: RIGHT[kind])
    monkeypatch.setitem(exercises.EXERCISES, name, exercise)
    assert exercises.judge_answer(name, RIGHT[kind]) == "Right."
    assert exercises.judge_answer(name, ...) == exercises.UNANSWERED
    for wrong in WRONG:
        assert exercises.judge_answer(name, wrong) == f"Not yet. {exercise.hint}"


def test_answers_are_taken_in_the_forms_that_they_have():
    agree = exercises.agree
    assert agree(" K", "k") and agree([1.0, 0.0], (1, 0)) and agree(torch.tensor(0.5), 0.51, 0.02)
    assert not agree((1.5, 0), (1, 0)) and not agree(0.5, 0.53, 0.02) and not agree("1", (1,))


def test_notebooks_to_run_are_named_by_name_or_number():
    names = [file.stem for file in find_notebooks(["03", "00_tour"])]
    assert names == ["03_induction_circuit", "00_tour"]
    assert len(find_notebooks([])) == len(list(NOTEBOOKS.glob("*.ipynb")))
    with pytest.raises(BadInput, match="unknown notebook 'tour'"):
        find_notebooks(["tour"])
