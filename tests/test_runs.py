"""A run from end to end: train, stop, go on bit for bit, measure once, find damage, refuse nonsense in one line."""

from dataclasses import replace

import pytest

from toyvit.__main__ import main
from toyvit.errors import BadInput
from toyvit.measure import measure
from toyvit.recipes import RECIPES
from toyvit.results import table
from toyvit.runs import RunFolder
from toyvit.train import fit
from toyvit.train.data import Stream

SMALL = ["--train.steps", "40", "--train.batch_size", "8", "--train.n_validation", "16"]


def small(dropout: float = 0.0):
    run = RECIPES["induction-smoke"]()
    return replace(
        run, train=replace(run.train, steps=40, batch_size=8, n_validation=16), model=replace(run.model, dropout=dropout)
    )


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("at", [1, 17, 39])
def test_a_broken_run_goes_on_bit_for_bit(tmp_path, monkeypatch, dropout, at):
    whole = fit(small(dropout), tmp_path / "whole", progress=False)
    batch = Stream.batch

    def breaks(self, step):
        if step > at:
            raise RuntimeError("broken")
        return batch(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Stream, "batch", breaks)
        with pytest.raises(RuntimeError, match="broken"):
            fit(small(dropout), tmp_path / "broken", progress=False)
    again = fit(small(dropout), tmp_path / "broken", resume=True, progress=False)
    assert again.manifest.read_bytes() == whole.manifest.read_bytes()
    assert again.metrics.read_bytes() == whole.metrics.read_bytes()
    assert not again.verify() and not whole.verify()


def test_measuring_twice_computes_nothing(tmp_path):
    fit(small(), tmp_path / "run", progress=False)
    first = measure(tmp_path / "run", steps=[0, 40], images=32, progress=False)
    again = measure(tmp_path / "run", steps=[0, 40], images=32, progress=False)
    assert first.computed == again.found > 0 == again.computed
    assert set(table(tmp_path / "run")["step"]) == {0, 40}


def test_damage_is_found_and_named(tmp_path, capsys):
    folder = fit(small(), tmp_path / "run", progress=False)
    file = folder.checkpoints / "step_00000005.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert list(folder.verify()) == [file.name]
    assert main(["verify", str(tmp_path / "run")]) == 2
    with pytest.raises(BadInput, match="step_00000005"):
        measure(tmp_path / "run", images=32, progress=False)
    done = measure(tmp_path / "run", steps=[4, 5, 6], images=32, skip_corrupt=True, progress=False)
    assert list(done.skipped) == [file.name] and set(table(tmp_path / "run")["step"]) == {4, 6}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["train", "inducton"], "did you mean 'induction'"),
        (["train", "induction", "--model.n_layer", "3"], "did you mean '--model.n_layers'"),
        (["train", "induction", "--model.n_heads", "3"], "d_model 64 is not a multiple of n_heads 3"),
        (["train", "induction", "--train.steps", "0"], "must be >= 1"),
        (["train", "induction", "--train.learning_rate", "nan"], "learning_rate"),
        (["train", "induction", "--model.norm", "lyer"], "did you mean 'layer'"),
        (["train", "digits", "--model.patch_size", "3"], "do not tile"),
        (["measure", "nowhere"], "not a run folder"),
        (["tran", "induction"], "invalid choice"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(tmp_path, capsys, words, says):
    runs = ["--runs", str(tmp_path / "runs")] if words[0] == "train" else []
    assert main([*words, *runs]) == 2
    captured = capsys.readouterr()
    assert says in captured.err and captured.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_a_finished_run_is_not_trained_again(tmp_path):
    words = ["train", "induction-smoke", "--name", "run", "--runs", str(tmp_path), *SMALL]
    assert main(words) == 0
    before = RunFolder(tmp_path / "run").manifest.read_bytes()
    assert main(words) == 2
    assert main([*words, "--resume"]) == 0
    assert main([*words[:-2], "--resume"]) == 2
    assert RunFolder(tmp_path / "run").manifest.read_bytes() == before


def test_report_draws_a_measured_run(tmp_path, capsys):
    fit(small(), tmp_path / "run", progress=False)
    measure(tmp_path / "run", steps=[0, 40], images=32, progress=False)
    assert main(["report", str(tmp_path / "run")]) == 0
    assert "bag-of-labels ceiling" in capsys.readouterr().out
    assert (tmp_path / "run/figures/phase_transition.png").stat().st_size > 10_000
