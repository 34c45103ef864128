"""A run that is killed, at any moment and however often, ends with the bytes of one left alone."""

import pickle
import random
import shutil
from dataclasses import replace
from itertools import islice

import pytest
import torch

from tests.stories.processes import contents, finish, kill, n_lines, train, train_here, wait_for
from toyvit.__main__ import main
from toyvit.recipes import RECIPES
from toyvit.runs.folder import RunFolder
from toyvit.train import fit
from toyvit.train.states import read_state
from toyvit.train.stream import BatchStream

BITS = ("checkpoints/*.safetensors", "manifest.jsonl", "metrics.jsonl", "config.json")


def small(dropout=0.0, steps=20):
    config = RECIPES["induction-smoke"]()
    training = replace(config.train, steps=steps, batch_size=8, n_validation=16)
    return replace(config, train=training, model=replace(config.model, dropout=dropout))


def break_after(n, config, path, monkeypatch):
    """Train a run that breaks after n updates."""
    batches = BatchStream.__iter__

    def breaks(self):
        yield from islice(batches(self), n)
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(BatchStream, "__iter__", breaks)
        with pytest.raises(RuntimeError, match="broken"):
            fit(config, path, progress=False)


def load_states(folder):
    """The weights of every kept state, by the name of its file."""
    files = sorted(folder.glob("states/*.pt"))
    return {file.name: read_state(RunFolder(folder), file).model for file in files}


def check_same_bits(folder, other):
    assert contents(folder, *BITS) == contents(other, *BITS)
    left = load_states(folder)
    right = load_states(other)
    assert left.keys() == right.keys()
    assert len(left) == 11
    for name, weights in left.items():
        assert all(torch.equal(weights[key], right[name][key]) for key in weights), name


@pytest.mark.slow
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_killed_five_times_at_random(tmp_path, dropout):
    whole = tmp_path / "whole"
    killed = tmp_path / "killed"
    words = ["--train.steps", 200, "--model.dropout", dropout]
    train_here(whole, *words)
    instants = [*sorted(random.Random(int(10 * dropout)).sample(range(1, 190), 4)), 200]
    for at in instants:
        process = train(killed, *words, followed=at == instants[0])
        wait_for(lambda at=at: n_lines(killed / "metrics.jsonl") >= at, process)
        kill(process)
    assert finish(train(killed, *words))[0] == 0
    check_same_bits(whole, killed)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run left alone."""
    return fit(small(), tmp_path_factory.mktemp("whole") / "run", progress=False).path


@pytest.fixture(scope="module", params=[1, 9, 19])
def broken(request, tmp_path_factory):
    """A run that was stopped at one of three steps."""
    path = tmp_path_factory.mktemp("broken") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        break_after(request.param, small(), path, monkeypatch)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("leftover", ["checkpoint", "part", "manifest", "metrics", "state"])
def test_what_a_kill_leaves_behind_does_no_harm(whole, broken, tmp_path, leftover):
    """Stopped at a step, and then the traces that a kill between two writes leaves."""
    folder = RunFolder(shutil.copytree(broken, tmp_path / "run"))
    leave_behind(folder, leftover)
    fit(small(), folder.path, resume=True, progress=False)
    assert not folder.verify()
    check_same_bits(whole, folder.path)


def leave_behind(folder, leftover):
    if leftover == "checkpoint":  # written, but its line was not
        (folder.checkpoints / "step_00000020.safetensors").write_bytes(b"half")
    elif leftover == "part":
        (folder.checkpoints / "step_00000020.safetensors.part").write_bytes(b"half")
    elif leftover == "manifest":
        folder.manifest.write_bytes(folder.manifest.read_bytes() + b'{"step": 20, "sam')
    elif leftover == "metrics":
        folder.metrics.write_bytes(folder.metrics.read_bytes() + b'{"step": 20')
    elif folder.previous_state.exists():  # cut off: the one before is used
        folder.state.write_bytes(folder.state.read_bytes()[:100])


@pytest.mark.slow
def test_no_state_can_be_read(whole, tmp_path, caplog):
    """All states are damaged: the run starts from step 0, with the same bits in the end.

    It says so.
    """
    folder = RunFolder(shutil.copytree(whole, tmp_path / "run"))
    folder.truncate(10)
    folder.state.write_bytes(b"damaged")
    folder.previous_state.write_bytes(b"damaged too")
    for file in folder.states.iterdir():
        file.write_bytes(file.read_bytes()[:-1])
    fit(small(), folder.path, resume=True, progress=False)
    assert "cannot be read" in caplog.text
    check_same_bits(whole, folder.path)


def test_a_state_that_is_a_program_is_not_run(whole, tmp_path):
    """state.pt is read with weights only: a pickle that would write a file does not."""
    folder = RunFolder(shutil.copytree(whole, tmp_path / "run"))
    folder.truncate(10)

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "evil"), "w"))

    folder.state.write_bytes(pickle.dumps(Evil(), protocol=2))
    fit(small(), folder.path, resume=True, progress=False)
    assert not (tmp_path / "evil").exists()
    assert not folder.verify()


@pytest.mark.slow
def test_a_finished_run_is_left_as_it_is(tmp_path, capsys):
    words = ["train", "induction-smoke", "--runs", str(tmp_path)]
    words += ["--train.steps", "5", "--train.n_validation", "16"]
    assert main(words) == 0
    before = contents(tmp_path)
    assert main([*words, "--resume"]) == 0
    after = contents(tmp_path)
    assert {name: after[name] for name in before} == before
