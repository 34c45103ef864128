"""A disk that takes no more: one line with the file, nothing torn, and the same command goes on."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import sys

import pytest

from bench import option_sets
from tests.stories.processes import SMALL, contents, train_here
from toyvit.cli.main import DISK, describe_problem, main
from toyvit.runs.folder import RunFolder
from toyvit.train import fit, trainer

STEPS = ["--train.steps", "4"]
TRAIN = ["train", "induction-smoke", "--name", "run", *SMALL, *STEPS]
# Words, and the longest file in bytes that the disk takes.
CASES = {
    "the config": ([*TRAIN, "--resume"], 600),
    "a checkpoint": ([*TRAIN, "--resume"], 100_000),
    "a state": ([*TRAIN, "--resume"], 300_000),
    "a table": (["measure", "runs/there", "--images", "8", "--analyses", "performance"], 9_000),
    "a lens": (["lens", "runs/there", "--images", "8"], 9_000),
    "an export": (["data", "glyphs", "--export", "runs/out", "--samples", "50"], 9_000),
    "a run of a sweep": (
        ["sweep", "induction-smoke", "--seeds", "0", "--images", "8", *SMALL, *STEPS],
        300_000,
    ),
}


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    return train_here(tmp_path_factory.mktemp("trained") / "there", *STEPS)


def run_on_small_disk(monkeypatch, words, place, most):
    """In a fork, where no file may become longer: what is written to it fails as on a full disk."""

    def run(words):
        sys.dont_write_bytecode = True  # Python's own files would be torn
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
        return main(words)

    monkeypatch.setattr(option_sets.command, "main", run)
    return option_sets.run_words(words, place)


@pytest.mark.parametrize("case", CASES)
def test_a_full_disk_is_one_line_and_the_command_goes_on(there, tmp_path, monkeypatch, case):
    words, most = CASES[case]
    shutil.copytree(there, tmp_path / "runs/there")
    outcome = run_on_small_disk(monkeypatch, words, tmp_path, most)
    lines = [line for line in outcome.text.splitlines() if line.startswith("toyvit: ")]
    assert "Traceback" not in outcome.text
    assert outcome.code == 2 and len(lines) == 1, outcome.text
    reasons = [os.strerror(number) for number in (errno.EFBIG, errno.EIO, errno.ENOSPC)]
    assert "runs/" in lines[0] and any(reason in lines[0] for reason in reasons), lines
    assert "what was finished is kept" in lines[0] and "goes on" in lines[0]
    assert not list(tmp_path.rglob("*.part"))

    monkeypatch.chdir(tmp_path)
    assert main(words) == 0
    if "train" in words:
        assert contents(tmp_path / "runs/run", "checkpoints/*") == contents(there, "checkpoints/*")
        assert main(["verify", "runs/run"]) == 0


def test_every_way_in_which_a_disk_refuses_says_how_to_go_on():
    assert {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO} == set(DISK)
    for number in DISK:
        error = OSError(number, os.strerror(number), "runs/run/state.pt")
        line = describe_problem(error, "`--resume` goes on")
        assert line.startswith(f"runs/run/state.pt: {os.strerror(number)}; ")
        assert line.endswith("`--resume` goes on")
    assert describe_problem(OSError(errno.ENOENT, "no such file", "x"), "") == "x: no such file"


def test_a_start_that_fails_leaves_its_name_free(tmp_path, monkeypatch):
    """Whatever it is that fails before the first checkpoint; a checkpoint stays."""

    def fail(*words):
        raise RuntimeError("the driver of the accelerator is too old")

    with monkeypatch.context() as broken:
        broken.setattr(trainer.pl.Trainer, "fit", fail)
        with pytest.raises(RuntimeError, match="too old"):
            train_here(tmp_path / "run", *STEPS)
    assert not (tmp_path / "run").exists()

    path = train_here(tmp_path / "run", *STEPS)
    for file in (path / "state.pt", path / "states/step_00000004.pt"):
        file.unlink()
    before = contents(path, "checkpoints/*", "config.json")
    with monkeypatch.context() as broken:
        broken.setattr(trainer.pl.Trainer, "fit", fail)
        with pytest.raises(RuntimeError, match="too old"):
            fit(RunFolder(path).read_config(), path, resume=True, progress=False)
    assert contents(path, "checkpoints/*", "config.json") == before
