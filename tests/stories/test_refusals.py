"""What cannot be used is refused in one line, with exit code 2, and nothing on disk changes."""

import fcntl
import shutil
from collections import namedtuple
from urllib.error import URLError

import pytest

from tests.stories.processes import SMALL, contents
from toyvit.__main__ import main
from toyvit.data.worlds.mnist.world import load_mnist
from toyvit.errors import BadInput
from toyvit.recipes import RECIPES
from toyvit.runs.handle import Run
from toyvit.train import fit

TRAIN = ["train", "induction-smoke"]
SWEEP = ["sweep", "induction-smoke", "--seeds", "0", "--jobs", "1", *SMALL, "--train.steps", "2"]

# Arguments, and what the line must say.
NONSENSE = {
    "recipe": (["train", "inducton"], ["inducton", "allowed are", "did you mean 'induction'"]),
    "key": (
        [*TRAIN, "--model.n_layer", "3"],
        ["--model.n_layer", "did you mean '--model.n_layers'"],
    ),
    "part": (
        [*TRAIN, "--modle.n_layers", "3"],
        ["--modle.n_layers", "did you mean '--model.n_layers'"],
    ),
    "norm": (
        [*TRAIN, "--model.norm", "lyer"],
        ["norm", "layer, rms, none", "did you mean 'layer'"],
    ),
    "mask": ([*TRAIN, "--model.mask", "casual"], ["mask", "did you mean 'causal'"]),
    "positions": ([*TRAIN, "--model.positions", "learnt"], ["positions", "did you mean 'learned'"]),
    "activation": ([*TRAIN, "--model.activation", "gleu"], ["activation", "did you mean 'gelu'"]),
    "readout": ([*TRAIN, "--model.readout", "lst"], ["readout", "did you mean 'last'"]),
    "decay": ([*TRAIN, "--train.decay", "linaer"], ["train.decay", "did you mean 'linear'"]),
    "accelerator": (
        [*TRAIN, "--train.accelerator", "gpuu"],
        ["train.accelerator", "did you mean 'gpu'"],
    ),
    "accelerator of others": (
        [*TRAIN, "--train.accelerator", "tpu"],
        ["train.accelerator 'tpu' is not on this machine", "auto, cpu"],
    ),
    "accelerator in a sweep": (
        [*SWEEP, "--train.accelerator", "cpu,tpu"],
        ["train.accelerator 'tpu' is not on this machine"],
    ),
    "threads": ([*TRAIN, "--train.threads", "100000"], ["train.threads must be <= ", "got 100000"]),
    "empty field": ([*TRAIN, "--train.steps", ""], ["--train.steps needs a value, got ''"]),
    "empty field of a sweep": (
        ["sweep", "induction-smoke", "--train.steps="],
        ["--train.steps needs a value, got ''"],
    ),
    "empty steps": (["measure", "nowhere", "--steps", ""], ["--steps needs a value, got ''"]),
    "empty run": (["measure", ""], ["RUN needs a value, got ''"]),
    "empty classes": (["circuit", "nowhere", "--classes="], ["--classes needs a value, got ''"]),
    "empty command": ([""], ["unknown command ''", "allowed are train"]),
    "dashes": ([*TRAIN, "--runs=--"], ["--runs needs a value, got '--'"]),
    "no value": ([*TRAIN, "--train.steps", "--resume"], ["--train.steps needs a value"]),
    "abbreviation": (["measure", "nowhere", "--step", "3"], ["'--step'", "'--steps'"]),
    "a switch with a value": ([*TRAIN, "--resume=yes"], ["--resume", "'yes'"]),
    "field behind --": ([*TRAIN, "--", "--train.steps", "5"], ["recipe '--train.steps'"]),
    "heads": ([*TRAIN, "--model.n_heads", "3"], ["d_model 64 is not a multiple of n_heads 3"]),
    "tiles": (
        ["train", "digits", "--model.patch_size", "3"],
        ["model.patch_size cannot be 3: patches of 3 x 3", "8 x 8", "do not tile"],
    ),
    "cells": ([*TRAIN, "--model.patch_size", "4"], ["model.patch_size is 4", "has 8"]),
    "cls": ([*TRAIN, "--model.readout", "cls"], ["'cls' needs cls_token true"]),
    "answers": ([*TRAIN, "--model.readout", "every"], ["'every'", "cls, mean, pooled, last"]),
    "wide": ([*TRAIN, "--model.d_model", "1000000"], ["GB of memory", "--model.d_model"]),
    "deep": ([*TRAIN, "--model.n_layers", "100000000"], ["GB of memory", "--model.n_layers"]),
    "large batches": ([*TRAIN, "--train.batch_size", "1000000000"], ["GB of memory"]),
    "large images": ([*TRAIN, "--train.n_validation", "1000000000"], ["GB of memory"]),
    "many registers": ([*TRAIN, "--model.n_registers", "1000000"], ["GB of memory"]),
    "zero": ([*TRAIN, "--train.steps", "0"], ["steps must be >= 1, got 0"]),
    "negative": ([*TRAIN, "--model.n_layers", "-2"], ["n_layers must be >= 1, got -2"]),
    "nan": ([*TRAIN, "--train.learning_rate", "nan"], ["learning_rate", "got nan"]),
    "infinite": ([*TRAIN, "--train.weight_decay", "inf"], ["weight_decay", "got inf"]),
    "seed": ([*TRAIN, "--seed", "-1"], ["--seed must be >= 0", "got -1"]),
    "seed of two": (
        [*TRAIN, "digits", "--seed", "5000000000"],
        ["--seed must be", "<= 4294967295, got 5000000000"],
    ),
    "seed twice": (
        [*TRAIN, "--seed", "3", "--seeds.init=7"],
        ["--seed sets --seeds.init and --seeds.data", "--seeds.init cannot be given too"],
    ),
    "seeds of a sweep": (
        ["sweep", "induction-smoke", "--seeds", "0", "--seeds.data", "5,6"],
        ["--seeds sets", "--seeds.data cannot be given too"],
    ),
    "two of one": ([*TRAIN, "digits", "induction-smoke"], ["induction-smoke was given twice"]),
    "a word of two": ([*TRAIN, "digits", "--train.step", "1"], ["did you mean '--train.steps'"]),
    "text": ([*TRAIN, "--train.steps", "many"], ["train.steps", "many"]),
    "fraction": ([*TRAIN, "--train.steps", "1.5"], ["train.steps", "1.5"]),
    "pairs": ([*TRAIN, "--task.n_items", "3"], ["holds 7 pairs", "n_items 3"]),
    "nothing held out": (
        ["train", "dsprites-regress", "--task.held_out", "0.01"],
        ["held_out 0.01 comes to nothing"],
    ),
    "no pair held out": (
        ["train", "counting", "--task.held_out", "0.001"],
        ["held_out 0.001 comes to nothing"],
    ),
    "hidden": (
        ["train", "reconstruct", "--task.hidden", "1"],
        ["hidden 1.0 of 16 patches hides 16", "1 to 15"],
    ),
    "late": (
        [*TRAIN, "--train.steps", "10", "--train.checkpoints", "5,11"],
        ["step 11", "ends at step 10"],
    ),
    "clamp": (
        [*TRAIN, "--train.clamps", "0.0:matsch"],
        ["unknown clamp 'matsch'", "did you mean 'match'"],
    ),
    "clamped layer": (
        [*TRAIN, "--train.clamps", "1.0:match,2.0:frozen"],
        ["'2.0:frozen'", "no layer 2", "nearest is 1"],
    ),
    "clamped head": (
        [*TRAIN, "--train.clamps", "1.1:match"],
        ["'1.1:match'", "no head 1", "nearest is 0"],
    ),
    "nothing to match": (
        ["train", "digits", "--train.clamps", "0:match"],
        ["'0:match'", "task 'classify' does not have"],
    ),
    "swept clamp": (
        ["sweep", "digits", "--train.clamps", "none/0:match"],
        ["'0:match'", "task 'classify' does not have"],
    ),
    "names": (
        ["train", "digits", "induction", "--name", "one"],
        ["--name names one run", "2 recipes"],
    ),
    "path for a name": (
        [*TRAIN, "--name", "../../escape"],
        ["--name takes the name of one folder"],
    ),
    "no name": ([*TRAIN, "--name", ""], ["--name needs a value, got ''"]),
    "name of a sweep": (
        ["sweep", "induction-smoke", "--name", "a/b"],
        ["--name takes the name of one folder", "'a/b'"],
    ),
    "name that rings": ([*TRAIN, "--name", "a\x1b[31mb\x07"], ["control characters", "\\x1b[31m"]),
    "command": (["tran", "induction"], ["tran", "train"]),
    "option": (["measure", "somewhere", "--imges", "3"], ["--imges", "did you mean '--images'"]),
    "run": (["measure", "nowhere"], ["nowhere is not a run folder"]),
    "verify": (["verify", "nowhere"], ["toyvit: nowhere is not a run folder"]),
    "set": (["data", "mnits"], ["mnits", "did you mean 'mnist'"]),
    "folder": (["ls", "nowhere"], ["nowhere is not a folder"]),
    "empty": (["tensorboard", "nowhere"], ["nowhere", "no run"]),
    "sites": (["sites", "digit"], ["did you mean 'digits'"]),
}


def refused(capsys, words, says):
    """The one line on standard error."""
    assert main([str(word) for word in words]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and "Traceback" not in line, line
    for part in says:
        assert part in line
    return line


@pytest.mark.parametrize("case", NONSENSE)
def test_nonsense(tmp_path, monkeypatch, capsys, case):
    monkeypatch.chdir(tmp_path)
    refused(capsys, *NONSENSE[case])
    assert contents(tmp_path) == {}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained") / "run"
    place = ["--runs", str(path.parent), "--name", "run"]
    assert main([*TRAIN, *place, *SMALL, "--train.steps", "20"]) == 0
    return path


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def again(run, *words):
    return [*TRAIN, "--runs", run.parent, "--name", run.name, *SMALL, "--train.steps", "20", *words]


@pytest.mark.slow
def test_a_folder_in_use_a_folder_without_resume_and_another_config(run, capsys):
    before = contents(run)
    refused(capsys, again(run), [str(run), "--resume", "--name"])
    refused(
        capsys,
        again(run, "--resume", "--model.n_layers", "3"),
        ["another config", "model.n_layers: 2 -> 3"],
    )
    (run / "states/step_00000020.pt").unlink()  # as if it had been stopped before its end
    before.pop("states/step_00000020.pt")
    with (run / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused(capsys, again(run, "--resume"), ["in use", "another process"])
    after = contents(run)
    assert {name: after[name] for name in before} == before


def test_a_folder_that_is_no_run(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/thesis.txt").write_text("precious")
    refused(capsys, again(tmp_path / "run", "--resume"), ["not a run folder"])
    refused(capsys, ["report", tmp_path / "run"], ["config.json"])
    assert contents(tmp_path) == {"run/thesis.txt": b"precious"}


def test_a_place_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    refused(capsys, again(tmp_path / "file/run"), ["file/run"])
    refused(capsys, [*TRAIN, "--runs", "/proc/nowhere"], ["/proc/nowhere"])
    assert contents(tmp_path) == {"file": b"in the way"}


def test_a_disk_too_small_for_the_planned_checkpoints(tmp_path, monkeypatch, capsys):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6))
    refused(capsys, again(tmp_path / "run"), ["MB", "1.0 MB are free", "checkpoints"])
    assert contents(tmp_path) == {}


def test_measuring_what_is_not_there(run, capsys):
    before = contents(run)
    refused(
        capsys,
        ["measure", run, "--analyses", "induktion"],
        ["induktion", "did you mean 'induction'"],
    )
    refused(
        capsys, ["measure", run, "--steps", "7,25"], ["no checkpoint at step 25", "nearest is 20"]
    )
    refused(capsys, ["measure", run, "--steps", "x"], ["--steps", "'x'"])
    refused(capsys, ["measure", run, "--images", "1"], ["--images", "got 1"])
    refused(capsys, ["measure", run, "--jobs", "0"], ["--jobs", "got 0"])
    refused(capsys, ["report", run, "--no-page"], ["is not measured", "toyvit measure"])
    with pytest.raises(BadInput, match="nearest is 20"):
        Run(run).model(25)
    assert contents(run) == before


def test_an_analysis_that_the_task_cannot_give_is_refused_by_name(tmp_path, capsys):
    assert main(["train", "digits", "--runs", str(tmp_path), *SMALL, "--train.steps", "5"]) == 0
    capsys.readouterr()
    refused(
        capsys,
        ["measure", tmp_path / "digits", "--analyses", "induction"],
        ["'induction'", "pairs"],
    )


def test_mnist_without_network(tmp_path, monkeypatch, capsys):
    from toyvit.torchvision_guard import torchvision

    def offline(*args, **kwargs):
        raise URLError("no network")

    load_mnist.cache_clear()  # another test may have read MNIST
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOYVIT_DATA", raising=False)
    monkeypatch.setattr(torchvision.datasets.MNIST, "download", offline)
    refused(
        capsys,
        ["train", "mnist-mlp"],
        ["toyvit data mnist", "train-images-idx3-ubyte.gz", "MNIST/raw"],
    )
    refused(capsys, ["data", "mnist"], ["no network", "train-images-idx3-ubyte.gz"])


def test_the_library_refuses_the_same(trained):
    with pytest.raises(BadInput, match="exists already"):
        fit(RECIPES["induction-smoke"](), trained, progress=False)
