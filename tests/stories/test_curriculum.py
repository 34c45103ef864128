"""A run under a curriculum keeps its bits, stopped or replayed, and says what it was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.stories.processes import contents
from tests.stories.test_resume import break_after, check_same_bits
from toyvit.__main__ import main
from toyvit.errors import BadInput
from toyvit.measuring import measure
from toyvit.recipes import RECIPES
from toyvit.report.curves import mark_rate_changes
from toyvit.report.summary import summarize
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run
from toyvit.sweeping import gather_table
from toyvit.train import fit, replay

CURRICULUM = ("alike=0.9", "alike=0.7@6", "alike=0.5@12")


def small(curriculum: tuple[str, ...] = CURRICULUM, **training: object):
    config = RECIPES["match-to-sample-even"]()
    short = {"steps": 20, "batch_size": 8, "n_validation": 16, "warmup": 0}
    train = replace(config.train, **short | training, curriculum=curriculum)
    return replace(config, train=train, model=replace(config.model, d_model=16, d_mlp=16))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with every checkpoint, left alone."""
    return fit(small(), tmp_path_factory.mktemp("whole") / "run", progress=False)


@pytest.mark.parametrize("at", [6, 9])
def test_a_run_that_was_stopped_ends_with_the_same_bits(whole, tmp_path, monkeypatch, at):
    """At a change of the task, and between two."""
    break_after(at, small(), tmp_path / "run", monkeypatch)
    fit(small(), tmp_path / "run", resume=True, progress=False)
    check_same_bits(whole.path, tmp_path / "run")


def test_a_stretch_over_a_change_is_replayed_with_the_same_bits(whole, tmp_path):
    sparse = fit(small(checkpoints=(0, 4)), tmp_path / "sparse", progress=False)
    assert replay(sparse.path, 5, 8, progress=False) == [5, 6, 7, 8]
    files = contents(sparse.path, "checkpoints/*")
    assert files.items() <= contents(whole.path, "checkpoints/*").items()


def test_it_parts_from_the_run_without_it_where_the_task_changes(whole, tmp_path):
    """Up to the first change the weights are those of the task that it has there."""
    plain = small(())
    first = replace(plain, task=replace(plain.task, alike=0.9))
    other = fit(first, tmp_path / "run", progress=False)
    shas = [
        {entry.step: entry.sha256 for entry in folder.read_manifest()} for folder in (whole, other)
    ]
    assert shas[0].keys() == shas[1].keys() >= set(range(21))
    assert [step for step in range(21) if shas[0][step] == shas[1][step]] == list(range(7))


def test_the_run_says_its_curriculum_and_another_is_refused(whole, tmp_path, capsys):
    path = tmp_path / "run"
    folder = fit(small(steps=14), path, progress=False)
    assert RunFolder(path).read_config().train.curriculum == CURRICULUM
    assert folder.hash_run() != whole.hash_run()
    with pytest.raises(BadInput, match=r"train.curriculum: \['alike=0.9', .*\] -> None"):
        fit(small((), steps=14), path, resume=True, progress=False)

    measure(path, analyses=["performance"], steps=[14], images=16, progress=False)
    assert "measures are of the task that it ends with" in summarize(path)
    labels = [mark.label for mark in mark_rate_changes(Run(path), 14)]
    assert labels.count("the task changes") == 1 and len(labels) >= 2

    plain = fit(small((), steps=14), tmp_path / "plain", progress=False)
    measure(plain.path, analyses=["performance"], steps=[14], images=16, progress=False)
    assert list(gather_table([path, plain.path])["train.curriculum"]) == [[*CURRICULUM], None]
    words = ["train", "match-to-sample-even", "--runs", str(tmp_path), "--name", "late"]
    assert main([*words, "--train.steps", "100"]) == 2
    error = capsys.readouterr().err
    assert "changes the task at step" in error and error.count("\n") == 1
