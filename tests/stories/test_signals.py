"""Signals stop a run between two steps and lose nothing; a loss that is no number ends it and says so."""

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


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_stops(tmp_path, number, code):
    words = ["--train.steps", 300]
    process = train(tmp_path / "run", *words)
    wait_for(lambda: n_lines(tmp_path / "run/metrics.jsonl") >= 20, process)
    process.send_signal(number)
    found, said = finish(process)
    assert (
        found == code and said.count("\n") == 0 and "--resume" in said and "Traceback" not in said
    )
    stopped_at = int(said.split("at step ")[1].split(";")[0])
    assert n_lines(tmp_path / "run/metrics.jsonl") == stopped_at  # nothing of what was done is lost
    assert finish(train(tmp_path / "run", *words))[0] == 0
    whole = train_here(tmp_path / "whole", *words)
    assert contents(tmp_path / "run", *BITS) == contents(whole, *BITS)


@pytest.mark.slow
def test_a_signal_stops_runs_side_by_side(tmp_path):
    words = [
        "train",
        "induction-smoke",
        "induction",
        "--runs",
        tmp_path,
        *SMALL,
        "--train.steps",
        5000,
        "--resume",
    ]
    process = toyvit(*words)
    files = [tmp_path / name / "metrics.jsonl" for name in ("induction-smoke", "induction")]
    wait_for(lambda: all(n_lines(file) > 5 for file in files), process)
    process.terminate()
    code, said = finish(process)
    assert code == 143 and said.count("--resume") == 2


@pytest.mark.slow
def test_a_run_that_diverges_ends_with_3_and_stays_as_it_is(tmp_path, capsys):
    words = [
        "train",
        "induction-smoke",
        "--runs",
        str(tmp_path),
        *SMALL,
        "--train.steps",
        "200",
        "--train.warmup",
        "0",
    ]
    assert main([*words, "--train.learning_rate", "1e30", "--model.norm", "none"]) == 3
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "last finite checkpoint" in said and "step_0000" in said
    assert main(["ls", str(tmp_path)]) == 0
    assert "diverged" in capsys.readouterr().out
    before = contents(tmp_path, "**/checkpoints/*", "**/*.jsonl", "**/*.pt")
    assert main([*words, "--train.learning_rate", "1e30", "--model.norm", "none", "--resume"]) == 3
    assert "diverged before" in capsys.readouterr().err
    assert contents(tmp_path, "**/checkpoints/*", "**/*.jsonl", "**/*.pt") == before
    assert main(["verify", str(tmp_path / "induction-smoke")]) == 0
