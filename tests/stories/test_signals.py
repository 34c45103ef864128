"""Signals stop a run between two steps and lose nothing; a loss that is no number ends it."""

import signal

import pytest

from tests.stories.processes import (
    SMALL,
    contents,
    finish,
    n_lines,
    toyvit,
    train,
    train_here,
    wait_for,
)
from toyvit.__main__ import main

BITS = ("checkpoints/*", "manifest.jsonl", "metrics.jsonl")


STEPS = ["--train.steps", 150]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run left alone."""
    return train_here(tmp_path_factory.mktemp("whole") / "run", *STEPS)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_stops(whole, tmp_path, number, code):
    path = tmp_path / "run"
    metrics = path / "metrics.jsonl"
    process = train(path, *STEPS, followed=True)
    wait_for(lambda: n_lines(metrics) >= 20, process)
    process.send_signal(number)
    ended_with, error = finish(process)
    assert ended_with == code
    assert error.count("\n") == 0
    assert "--resume" in error
    assert "Traceback" not in error

    stopped_at = int(error.split("at step ")[1].split(";")[0])
    assert n_lines(metrics) == stopped_at, "nothing of what was done is lost"
    assert finish(train(path, *STEPS))[0] == 0
    assert contents(path, *BITS) == contents(whole, *BITS)


@pytest.mark.slow
def test_a_signal_stops_runs_side_by_side(tmp_path):
    names = ["induction-smoke", "induction"]
    words = ["train", *names, "--runs", tmp_path, *SMALL, "--train.steps", 5000, "--resume"]
    process = toyvit(*words)
    files = [tmp_path / name / "metrics.jsonl" for name in names]
    wait_for(lambda: all(n_lines(file) > 5 for file in files), process)
    process.terminate()
    code, error = finish(process)
    assert code == 143
    assert error.count("--resume") == 2


@pytest.mark.slow
def test_a_run_that_diverges_ends_with_3_and_stays_as_it_is(tmp_path, capsys):
    words = ["train", "induction-smoke", "--runs", str(tmp_path), *SMALL, "--model.norm", "none"]
    words += ["--train.steps", "200", "--train.warmup", "0", "--train.learning_rate", "1e30"]
    files = ("**/checkpoints/*", "**/*.jsonl", "**/*.pt")
    assert main(words) == 3
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "last finite checkpoint" in error
    assert "step_0000" in error
    assert main(["ls", str(tmp_path)]) == 0
    assert "diverged" in capsys.readouterr().out

    before = contents(tmp_path, *files)
    assert main([*words, "--resume"]) == 3
    assert "diverged before" in capsys.readouterr().err
    assert contents(tmp_path, *files) == before
    assert main(["verify", str(tmp_path / "induction-smoke")]) == 0
