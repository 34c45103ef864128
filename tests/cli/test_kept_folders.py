"""Run folders of version 0.1 are read: config, status, checkpoints, states, circuits, measures."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import torch

from toyvit.__main__ import main
from toyvit.circuits.circuit import load_circuit
from toyvit.config import Clamp
from toyvit.measuring import RunMeasurer, evaluation_id, measure
from toyvit.runs.handle import Run
from toyvit.train import fit
from toyvit.train.states import read_state

KEPT = Path(__file__).parents[1] / "kept"
MIDDLE = {"induction": 10, "digits": 5, "addition": 5}
WRITTEN_WITH = "AVX512"  # the processor's instructions where the folders were trained
every_folder = pytest.mark.parametrize("name", MIDDLE)


@pytest.fixture
def run(name, tmp_path):
    """A copy: opening one in place may write beside it."""
    return Run(shutil.copytree(KEPT / name, tmp_path / name))


@every_folder
def test_config_status_and_checkpoints(run, name, capsys):
    last = 2 * MIDDLE[name]
    assert run.config.seeds.init == 3 and run.config.model.d_model == 8
    assert (run.status, run.steps) == ("finished", [0, MIDDLE[name], last])
    for step, model in run:
        weights = model.state_dict()
        saved = read_state(run.folder, run.folder.states / f"step_{step:08d}.pt") if step else None
        assert saved is None or all(
            torch.equal(weight, saved.model[key]) for key, weight in weights.items()
        )

    assert main(["verify", str(run.path)]) == 0
    assert main(["ls", str(run.path.parent)]) == 0
    assert f"3 checkpoints to step {last} of {last}" in capsys.readouterr().out


@every_folder
def test_a_run_that_was_stopped_goes_on(run, name):
    """To the bits that version 0.1 wrote, with the same torch and the same kind of processor."""
    folder = run.folder
    middle, last = run.entries[MIDDLE[name]], run.entries[run.last_step]
    shutil.copy(folder.states / f"step_{middle.step:08d}.pt", folder.state)
    (folder.states / f"step_{last.step:08d}.pt").unlink()
    assert run.status == "stopped"

    fit(run.config, run.path, resume=True, progress=False)
    run.refresh()
    versions = json.loads(folder.config_file.read_text())["versions"]
    assert (run.status, run.last_step) == ("finished", last.step)
    here = run.entries[last.step]
    assert here.weight_norm == pytest.approx(last.weight_norm, rel=1e-5)
    assert here.loss == pytest.approx(last.loss, rel=1e-4)
    is_there = torch.backends.cpu.get_cpu_capability() == WRITTEN_WITH
    if is_there and versions["torch"] == torch.__version__:
        assert here == last


@every_folder
def test_measures_without_digests_are_refused_set_aside_and_made_again(run, name, capsys, caplog):
    assert main(["report", str(run.path)]) == 2
    error = capsys.readouterr().err
    assert f"`toyvit measure {run.path}` makes it again" in error
    assert error.count("\n") == 1
    words = ["measure", str(run.path), "--images", "16", "--analyses", "performance,norms"]
    assert main(words) == 0
    assert "is measures.old.sqlite now, and measured anew" in caplog.text
    assert {"performance", "norms"} == set(run.refresh().table["analysis"])
    assert set(run.table["step"]) == set(run.steps)
    with closing(sqlite3.connect(run.path / "measures.old.sqlite")) as db:
        assert db.execute("select count(*) from numbers").fetchone()[0] > 50


def test_clamps_are_read_in_the_words_of_today():
    config = Run(KEPT / "induction").config
    assert '"0.0:own"' in (KEPT / "induction/config.json").read_text()
    assert config.train.clamps == ("0.0:frozen", "1.0:copy@5")
    assert str(Clamp.parse("2:own@7")) == "2:frozen@7"


def test_a_circuit_is_read():
    run = Run(KEPT / "induction")
    circuit = load_circuit(run.folder.figures / "circuit.json")
    assert (circuit.ablation, circuit.method) == ("mean", "every fourth edge")
    assert len(circuit.edges) == circuit.edge_mask(run.bare_model()).sum() == 3


@pytest.mark.parametrize("name", ["digits", "addition"])
def test_an_evaluation_has_the_digest_that_it_had(run):
    """Of its pictures and settings; under clamps it has another: these have other names since."""
    with closing(sqlite3.connect(run.folder.measures)) as db:
        digests = {digest for (digest,) in db.execute("select digest from cells")}
    assert digests == {evaluation_id(run.config, "test", run.batch("test", 16))}


@pytest.mark.parametrize("name", ["digits"])
def test_what_is_left_out_is_named_where_all_are_asked_for(run, monkeypatch):
    """And what is asked for by name is never left out."""
    monkeypatch.setattr(RunMeasurer, "write_missing", lambda *words: None)
    unfit = measure(run, images=16, progress=False).unfit
    assert unfit["llc"] == "run only when asked for"
    assert unfit["induction"].startswith("needs ")
    assert "performance" not in unfit
    assert measure(run, analyses=["performance"], images=16, progress=False).unfit == {}
