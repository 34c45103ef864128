"""A stretch of a run trained again adds checkpoints and changes nothing that was there."""

from __future__ import annotations

import shutil
import signal
from dataclasses import replace

import pytest

from tests.stories.processes import contents, finish, toyvit, train_here, wait_for
from toyvit.__main__ import main
from toyvit.errors import BadInput
from toyvit.recipes import RECIPES
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run
from toyvit.train import fit, replay

KEPT = ("checkpoints/*", "metrics.jsonl", "config.json", "state*.pt", "states/*")


def small(checkpoints: tuple[int, ...], dropout: float = 0.0):
    config = RECIPES["induction-smoke"]()
    training = replace(
        config.train, steps=60, batch_size=8, n_validation=16, checkpoints=checkpoints
    )
    return replace(config, train=training, model=replace(config.model, dropout=dropout))


def list_steps(path):
    return [entry.step for entry in RunFolder(path).read_manifest()]


@pytest.fixture(scope="module", params=[0.0, 0.2])
def pair(request, tmp_path_factory):
    """A run with every checkpoint, and one with four, without and with dropout."""
    folder = tmp_path_factory.mktemp("pair")
    dense = fit(small(tuple(range(61)), request.param), folder / "dense", progress=False)
    sparse = fit(small((0, 30, 33), request.param), folder / "sparse", progress=False)
    return dense, sparse


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "last", "every"), [(23, 37, 1), (0, 5, 1), (50, 60, 3), (12, 12, 1)]
)
def test_a_replayed_stretch_equals_a_run_that_kept_it_from_the_start(
    pair, tmp_path, first, last, every
):
    dense = pair[0]
    sparse = RunFolder(shutil.copytree(pair[1].path, tmp_path / "sparse"))
    before = contents(sparse.path, *KEPT)
    wanted = set(range(first, last + 1, every))
    added = replay(sparse.path, first, last, every, progress=False)
    assert added == sorted(wanted - {0, 30, 33, 60})

    after = contents(sparse.path, *KEPT)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + len(added)

    steps = sorted(wanted | {0, 30, 33, 60})
    entries = {entry.step: entry for entry in dense.read_manifest()}
    assert sparse.read_manifest() == [entries[step] for step in steps]
    files = contents(sparse.path, "checkpoints/*")
    assert files.items() <= contents(dense.path, "checkpoints/*").items()
    assert sparse.verify() == {}
    assert Run(sparse.path).steps == steps
    assert replay(sparse.path, first, last, every, progress=False) == []


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with its ends alone."""
    return fit(small((0,)), tmp_path_factory.mktemp("trained") / "run", progress=False).path


@pytest.mark.slow
def test_a_lost_or_damaged_state_only_makes_the_way_longer(trained, tmp_path):
    folder = RunFolder(shutil.copytree(trained, tmp_path / "run"))
    states = sorted(folder.states.iterdir())
    states[4].write_bytes(b"damaged")
    states[3].unlink()
    assert replay(folder.path, 26, 28, progress=False) == [26, 27, 28]
    for path in states:
        path.unlink(missing_ok=True)
    assert replay(folder.path, 3, 4, progress=False) == [3, 4]


@pytest.mark.slow
def test_a_run_that_does_not_come_out_the_same_is_refused(tmp_path):
    """As on another kind of processor; here the manifest says other bits."""
    folder = fit(small((0, 31)), tmp_path / "run", progress=False)
    first, second, *rest = folder.read_manifest()
    entries = (first, replace(second, sha256="0" * 64), *rest)
    folder.manifest.write_text("".join(entry.line for entry in entries))
    before = contents(folder.path, "checkpoints/*", "manifest.jsonl")
    message = r"step_00000031.safetensors came out with other bits .* 0 checkpoints"
    with pytest.raises(BadInput, match=message):
        replay(folder.path, 32, 33, progress=False)
    assert contents(folder.path, "checkpoints/*", "manifest.jsonl") == before


def test_what_cannot_be_replayed_is_refused_in_one_line(trained, tmp_path, capsys):
    folder = RunFolder(shutil.copytree(trained, tmp_path / "run"))
    for words, message in {
        ("--between", "5", "61"): "0 to 60, got 5 61",
        ("--between", "7", "5"): "got 7 5",
        ("--between", "1", "2", "--every", "0"): "--every must be at least 1",
    }.items():
        assert main(["replay", str(folder.path), *words]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert message in error

    stretch = ["--between", "1", "2"]
    assert main(["replay", str(tmp_path / "rum"), *stretch]) == 2
    assert "did you mean 'run'" in capsys.readouterr().err
    with folder.lock():
        assert main(["replay", str(folder.path), *stretch]) == 2
    assert "in use" in capsys.readouterr().err
    assert main(["replay", str(folder.path), *stretch]) == 0
    assert "added 2 checkpoints" in capsys.readouterr().out


@pytest.mark.slow
def test_interrupted_and_repeated(tmp_path):
    path = tmp_path / "run"
    known = ",".join(map(str, range(0, 301, 20)))
    train_here(path, "--train.steps", 300, "--train.checkpoints", known)
    process = toyvit("replay", path, "--between", 1, 299)
    wait_for(lambda: len(list_steps(path)) > 40, process)
    process.send_signal(signal.SIGINT)
    code, error = finish(process)
    assert code == 130
    assert "the same command goes on" in error

    assert 40 < len(list_steps(path)) < 301
    assert RunFolder(path).verify() == {}
    assert finish(toyvit("replay", path, "--between", 1, 299))[0] == 0
    assert list_steps(path) == list(range(301))
    assert RunFolder(path).verify() == {}
