"""Seeds and settings in one command: what is done is not done again, whatever was killed on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.stories.processes import SMALL, finish, kill, toyvit, wait_for
from toyvit.__main__ import main
from toyvit.cli.overrides import expand_variants
from toyvit.config import replace_seed
from toyvit.dynamics.transitions import find_first_step
from toyvit.errors import BadInput
from toyvit.recipes import RECIPES
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import load_table
from toyvit.sweeping import gather_table, halve_best_baseline

SHORT = [*SMALL, "--train.steps", "50", "--analyses", "performance", "--images", "32"]


def sweep(folder: Path, *words: object) -> list[str]:
    return [
        "sweep",
        "induction-smoke",
        "--runs",
        str(folder.parent),
        "--name",
        folder.name,
        *SHORT,
        *map(str, words),
    ]


def read(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "sweep.csv")


@pytest.mark.slow
def test_every_seed_of_every_setting_is_trained_measured_and_gathered(tmp_path, capsys):
    folder = tmp_path / "all"
    assert main(sweep(folder, "--seeds", "0,2", "--model.n_layers", "1,2", "--jobs", 1)) == 0
    said = capsys.readouterr().out
    frame = read(folder)
    assert sorted(zip(frame["model.n_layers"], frame["seed"], strict=True)) == [
        (1, 0),
        (1, 2),
        (2, 0),
        (2, 2),
    ]
    assert (frame["status"] == "finished").all() and all(
        (folder / name).stat().st_size > 10_000 for name in ("sweep.png", "sweep_loss.png")
    )
    for place, row in frame.iterrows():
        path = folder / f"n_layers-{row['model.n_layers']}" / row["run"]
        assert RunFolder(path).read_config() == replace_seed(
            RunFolder(path).read_config(), row["seed"]
        )
        values = load_table(path).query("quantity == 'accuracy'")["value"]
        assert (
            row["accuracy"] == pytest.approx(values.iloc[-1])
            and f"{row['accuracy']:.3f}" in said.splitlines()[place + 1]
        )
    written = {path: path.stat().st_mtime_ns for path in folder.glob("**/*.safetensors")}
    assert main(sweep(folder, "--seeds", "0,2", "--model.n_layers", "1,2", "--jobs", 1)) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("**/*.safetensors")} == written
    pd.testing.assert_frame_equal(read(folder), frame)


@pytest.mark.slow
def test_the_notebook_of_seeds_runs_on_a_small_sweep(pictures_of, tmp_path, monkeypatch):
    folder = tmp_path / "seeds"
    words = [
        *SMALL,
        "--train.steps",
        "60",
        "--analyses",
        "performance,induction",
        "--images",
        "32",
        "--jobs",
        "1",
    ]
    assert (
        main(
            [
                "sweep",
                "induction-smoke",
                "--runs",
                str(tmp_path),
                "--name",
                "seeds",
                "--seeds",
                "0,1",
                *words,
            ]
        )
        == 0
    )
    monkeypatch.setenv("TOYVIT_SWEEP", str(folder))
    assert pictures_of("06_seeds_and_transitions") == 1


def test_the_step_of_half_the_naive_loss():
    """Of the best naive predictor; a curve that never gets there has none."""
    naive = {"loss.uniform": 1.6, "loss.bag_of_labels": 0.6, "accuracy.uniform": 0.2}
    assert (
        halve_best_baseline(naive) == pytest.approx(0.3)
        and halve_best_baseline({"accuracy.uniform": 0.2}) is None
    )
    curve = pd.Series([1.6, 0.6, 0.3, 0.4, 0.1], index=[0, 10, 20, 30, 40])
    assert find_first_step(curve <= 0.3) == 20 and find_first_step(curve <= 0.05) is None


def test_performance_is_measured_whatever_is_asked_for(tmp_path):
    assert main([*sweep(tmp_path / "s", "--seeds", "0", "--jobs", 1), "--analyses", "norms"]) == 0
    assert (
        set(load_table(tmp_path / "s/seed-0")["analysis"]) == {"performance", "norms"}
        and read(tmp_path / "s")["accuracy"].notna().all()
    )
    assert (
        main([*sweep(tmp_path / "s", "--seeds", "0", "--jobs", 1), "--model.n_heads", "2"]) == 2
    )  # another config is there


def test_a_setting_is_one_variant():
    run = RECIPES["induction-smoke"]()
    made = expand_variants(
        run,
        [
            "--model.n_layers",
            "1,2",
            "--train.checkpoints",
            "0,10",
            "--train.learning_rate",
            "0.01,0.1",
        ],
    )
    assert set(made) == {
        f"n_layers-{n}_learning_rate-{rate}" for n in (1, 2) for rate in ("0.01", "0.1")
    }
    one = made["n_layers-1_learning_rate-0.1"]
    assert (one.model.n_layers, one.train.learning_rate, one.train.checkpoints) == (1, 0.1, (0, 10))
    assert expand_variants(run, []) == {"": run}


def test_a_run_that_diverges_is_noted_and_the_others_go_on(tmp_path):
    folder = tmp_path / "some"
    assert (
        main(sweep(folder, "--seeds", "0", "--train.learning_rate", "0.001,1e30", "--jobs", 1)) == 0
    )
    frame = read(folder).set_index("train.learning_rate")
    assert frame.loc[0.001, "status"] == "finished" and frame.loc[1e30, "status"] == "diverged"
    assert pd.isna(frame.loc[1e30, "accuracy"])


@pytest.mark.slow
def test_runs_of_different_recipes_are_not_gathered(tmp_path):
    for name in ("induction-smoke", "digits"):
        words = ["train", name, "--runs", str(tmp_path), *SMALL, "--train.steps", "5"]
        assert main(words) == 0
    with pytest.raises(BadInput, match=r"different recipes .* digits, induction-smoke"):
        gather_table([tmp_path / "induction-smoke", tmp_path / "digits"])


@pytest.mark.slow
def test_what_cannot_be_swept_is_refused_in_one_line(tmp_path, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = free.getsockname()[1]
    for words, says in {
        ("--seeds", "3..1"): "--seeds takes",
        ("--seeds", "a"): "'a'",
        ("--seeds", "1,1"): "each seed once",
        ("--jobs", "0"): "--jobs must be at least 1",
        ("--images", "0"): "--images must be at least 2, got 0",
        ("--model.n_layer", "1,2"): "did you mean '--model.n_layers'",
        ("--model.n_layers", "1,0"): "n_layers must be >= 1, got 0",
        ("--model.readout", "last,every"): "one for each image: allowed are cls, mean, last",
        (
            "--train.steps",
            "50",
            "--train.checkpoints",
            "5,60",
        ): "step 60, but training ends at step 50",
        ("--analyses", "performance,nroms"): "did you mean 'norms'",
        ("--analyses", "strategies"): "needs predictors that know the world",
        ("--cluster", f"tcp://127.0.0.1:{nobody}"): "no Dask cluster answers at tcp://127.0.0.1",
    }.items():
        assert main(sweep(tmp_path / "x", *words)) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and says in said, said
        assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_killed_and_restarted_at_random(tmp_path):
    """Ten seeds, killed five times with all its workers: the table is the undisturbed one's."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(sweep(whole, "--seeds", "0..9", "--jobs", 1)) == 0
    rng = random.Random(0)
    for goal in sorted(rng.sample(range(20, 400), 5)):
        process = toyvit(*sweep(killed, "--seeds", "0..9", "--jobs", 2))
        wait_for(lambda goal=goal: len(list(killed.glob("**/*.safetensors"))) >= goal, process)
        os.killpg(process.pid, signal.SIGKILL)
        kill(process)
    assert main(sweep(killed, "--seeds", "0..9", "--jobs", 2)) == 0
    pd.testing.assert_frame_equal(read(killed), read(whole))
    for path in whole.glob("**/manifest.jsonl"):
        assert (killed / path.relative_to(whole)).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_a_dask_cluster_that_loses_a_worker(tmp_path):
    """A scheduler and two workers, processes of their own over TCP, one killed while it trains."""
    address = tmp_path / "scheduler.json"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    local = ["--host", "127.0.0.1", "--no-dashboard"]
    scheduler = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "distributed.cli.dask_scheduler",
            *local,
            "--port",
            "0",
            "--scheduler-file",
            str(address),
        ],
        **quiet,
    )
    workers = []
    try:
        wait_for(address.exists, scheduler)
        words = ["--scheduler-file", str(address), "--nthreads", "1", "--no-nanny", *local]
        workers = [
            subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_worker", *words], **quiet)
            for _ in range(2)
        ]
        folder = tmp_path / "swept"
        cluster = json.loads(address.read_text())["address"]
        process = toyvit(*sweep(folder, "--seeds", "0..5", "--cluster", cluster))
        wait_for(lambda: len(list(folder.glob("**/measures.sqlite"))) >= 2, process)
        done = {
            path: path.stat().st_mtime_ns
            for run in folder.iterdir()
            if finished(run)
            for path in run.glob("checkpoints/*")
        }
        workers[0].kill()
        code, said = finish(process)
        assert code == 0, said
        assert {path: path.stat().st_mtime_ns for path in done} == done
    finally:
        for process in [*workers, scheduler]:
            process.kill()
            process.wait()
    alone = tmp_path / "alone"
    assert main(sweep(alone, "--seeds", "0..5", "--jobs", 2)) == 0
    pd.testing.assert_frame_equal(read(folder), read(alone))


def finished(path: Path) -> bool:
    return (
        path.is_dir()
        and RunFolder(path).config_file.exists()
        and RunFolder(path).read_status() == "finished"
    )
