"""Every notebook on the small runs that it prepares: its answer, its exercises, its widget."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from tests.notebooks.conftest import read
from toyvit.recipes import RECIPES
from toyvit.train import fit

WIDGET = "application/vnd.jupyter.widget-view+json"
BY_NEED = {
    "induction": ("00_tour", "01_phase_transition", "03_induction_circuit"),
    "digits": ("02_mnist_circuits", "04_mnist_full_circuit"),
    "addition": ("05_grokking",),
    "seeds": ("06_seeds_and_transitions",),
}
WRONG = '[check("{}", wrong, {}) for wrong in (None, "nonsense", -1.0, (9, 9))];'


def answer_exercises(notebook: NotebookNode) -> int:
    """Put wrong answers and the folded solution behind each exercise; how many there are."""
    cells = []
    asked = None
    n = 0
    for cell in notebook.cells:
        cells.append(cell)
        if match := re.fullmatch(r'answer = \.\.\.\ncheck\("(.+)", answer, (.+)\)', cell.source):
            asked = match
        elif asked and (solution := re.search(r"```python\n(.+?)\n```", cell.source, re.S)):
            cells.append(new_code_cell(WRONG.format(*asked.groups())))
            lines = asked[0].removeprefix("answer = ...\n")
            cells.append(new_code_cell(f"{solution[1]}\n{lines}"))
            asked = None
            n += 1
    notebook.cells = cells
    return n


def list_outputs(notebook: NotebookNode) -> list[NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def join_text(notebook: NotebookNode) -> str:
    return "".join(output.get("text", "") for output in list_outputs(notebook))


@pytest.mark.slow
@pytest.mark.parametrize("need", BY_NEED)
def test_notebooks_run_on_what_they_prepare(execute, tmp_path, monkeypatch, need):
    """Answers hold, folded solutions are right, wrong answers get hints, the page is a widget."""
    monkeypatch.setenv("TOYVIT_RUNS", str(tmp_path))
    monkeypatch.setenv("TOYVIT_BIDIRECTIONAL", str(tmp_path / "prepared" / "induction"))
    for variable in ("TOYVIT_RUN", "TOYVIT_SWEEP"):
        monkeypatch.delenv(variable, raising=False)
    for name in BY_NEED[need]:
        notebook = read(name)
        n = answer_exercises(notebook)
        seconds = execute(notebook)
        print(f"{name}: {seconds:.1f} s, what it prepared included")

        outputs = list_outputs(notebook)
        errors = [output.evalue for output in outputs if output.output_type == "error"]
        text = join_text(notebook)
        assert not errors, errors
        assert n >= 2 and text.count("Right.") == n, text
        assert text.count("Not yet. ") == 4 * n
        assert text.count("No answer yet") == n
        assert sum(WIDGET in output.get("data", {}) for output in outputs) == 1
        if name == BY_NEED[need][0] and name != "00_tour":
            assert text.startswith("preparing a small run in")


@pytest.mark.slow
@pytest.mark.parametrize("case", ["a run that is not there", "a name that is taken"])
def test_a_refusal_is_a_sentence_without_a_traceback(execute, tmp_path, monkeypatch, case):
    """By the helper that opens runs, and by the package itself; no cell after it runs."""
    monkeypatch.setenv("TOYVIT_RUNS", str(tmp_path))
    name = "01_phase_transition"
    monkeypatch.setenv("TOYVIT_RUN", str(tmp_path / "nowhere"))
    if case == "a name that is taken":
        name = "00_tour"
        config = RECIPES["digits"]()
        train = replace(config.train, steps=1, batch_size=4, n_validation=4)
        fit(replace(config, train=train), tmp_path / "prepared" / "induction", progress=False)
    notebook = read(name)
    with pytest.raises(CellExecutionError):
        execute(notebook, stops=True)
    text = join_text(notebook)
    assert str(tmp_path) in text and text.count("\n") <= 2 and "Traceback" not in text
    assert not [output for output in list_outputs(notebook) if output.output_type == "error"]
