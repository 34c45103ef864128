"""Seeds and settings in one command: what is done is not done again, whatever was killed."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from tests.stories.processes import SMALL, finish, kill, toyvit, wait_for
from tests.stories.warm import Warm
from toyvit import sweeping
from toyvit.__main__ import main
from toyvit.config import replace_seed
from toyvit.config.overrides import expand_variants
from toyvit.errors import BadInput
from toyvit.recipes import RECIPES
from toyvit.runs.folder import RunFolder
from toyvit.runs.handle import Run, load_table
from toyvit.sweeping import gather_table, halve_best_baseline, train_plan

SHORT = [*SMALL, "--train.steps", "30", "--analyses", "performance", "--images", "32"]


def sweep(folder: Path, *words: object) -> list[str]:
    place = ["--runs", str(folder.parent), "--name", folder.name]
    return ["sweep", "induction-smoke", *place, *SHORT, *map(str, words)]


def read(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "sweep.csv")


def note_times(paths) -> dict[Path, int]:
    """When each file was written."""
    return {path: path.stat().st_mtime_ns for path in paths}


@pytest.mark.slow
def test_every_seed_of_every_setting_is_trained_measured_and_gathered(tmp_path, capsys):
    folder = tmp_path / "all"
    words = sweep(folder, "--seeds", "0,2", "--model.n_layers", "1,2", "--jobs", 1)
    assert main(words) == 0
    printed = capsys.readouterr().out.splitlines()
    frame = read(folder)
    settings = sorted(zip(frame["model.n_layers"], frame["seed"], strict=True))
    assert settings == [(1, 0), (1, 2), (2, 0), (2, 2)]
    assert (frame["status"] == "finished").all()
    for name in ("sweep.png", "sweep_loss.png"):
        assert (folder / name).stat().st_size > 10_000

    for place, row in frame.iterrows():
        run = Run(folder / f"n_layers-{row['model.n_layers']}" / row["run"])
        assert run.config == replace_seed(run.config, row["seed"])
        assert row["accuracy"] == pytest.approx(run.curve("performance", "accuracy").iloc[-1])
        assert f"{row['accuracy']:.3f}" in printed[place + 1]

    written = note_times(folder.glob("**/*.safetensors"))
    assert main(words) == 0
    assert note_times(folder.glob("**/*.safetensors")) == written
    pd.testing.assert_frame_equal(read(folder), frame)


# A process whose workers are forks trains runs that are there, in the order of its words.
IN_WORKERS = """
import sys
from toyvit.runs.handle import Run
from toyvit.sweeping import train_plan
runs = map(Run, sys.argv[3:])
plan = {run.path: run.config for run in runs}
for run in train_plan(plan, jobs=2, analyses=["performance"], images=8):
    print(run.path)
"""


@pytest.mark.slow
def test_the_runs_of_a_plan_come_back_open_and_in_its_order(tmp_path):
    """From this process and from others; the table is made of them or of their paths."""
    config = RECIPES["induction-smoke"]()
    words = ["--train.steps", "2", *SMALL]
    (config,) = expand_variants(config, words).values()
    plan = {tmp_path / f"seed-{seed}": replace_seed(config, seed) for seed in (2, 0)}
    options = {"analyses": ["performance"], "images": 8}
    runs = train_plan(plan, **options)
    assert [run.path for run in runs] == list(plan)
    assert [run.steps for run in runs] == [[0, 1, 2]] * 2
    in_workers = Warm("-c", IN_WORKERS, *map(str, plan))
    printed, _ = in_workers.communicate()
    assert in_workers.returncode == 0
    assert printed.splitlines() == list(map(str, plan))
    frame = gather_table(runs)
    assert frame["seed"].tolist() == [2, 0]
    pd.testing.assert_frame_equal(frame, gather_table(list(plan)))


# Steps that are measured of a run of four; what the table and the command say of it.
PARTS = {
    "all": (None, 4, None),
    "the last alone": ([4], 4, "4 of 5 checkpoints are left out, the last is measured"),
    "not the last": (
        [0, 2],
        2,
        "3 of 5 checkpoints are left out, step 2 of 4 is the last measured: it has no final score",
    ),
}


@pytest.mark.parametrize("case", PARTS)
def test_a_partly_measured_run_has_no_final_score(tmp_path, capsys, monkeypatch, case):
    steps, last, line = PARTS[case]
    monkeypatch.setattr(sweeping, "measure", partial(sweeping.measure, steps=steps))
    words = ["sweep", "induction-smoke", "--runs", str(tmp_path), "--name", "some", *SMALL]
    words += ["--train.steps", "4", "--train.checkpoints", "1,2,3", "--seeds", "0", "--jobs", "1"]
    assert main([*words, "--analyses", "performance", "--images", "16"]) == 0
    printed = capsys.readouterr().out
    expected = f"{tmp_path}/some/seed-0 is partly measured: {line}" if line else ""
    assert expected in printed and printed.count("is partly measured") == bool(line)

    row = read(tmp_path / "some").iloc[0]
    curve = Run(tmp_path / "some/seed-0").curve("performance", "loss")
    assert row["measured_step"] == last == curve.index[-1]
    is_final = last == 4
    assert pd.notna(row["accuracy"]) == pd.notna(row["loss"]) == is_final
    assert not is_final or row["loss"] == pytest.approx(curve[4])


def test_half_of_the_best_naive_loss():
    baselines = {"loss.uniform": 1.6, "loss.bag_of_labels": 0.6, "accuracy.uniform": 0.2}
    assert halve_best_baseline(baselines) == pytest.approx(0.3)
    assert halve_best_baseline({"accuracy.uniform": 0.2}) is None


@pytest.mark.slow
def test_performance_is_measured_whatever_is_asked_for(tmp_path):
    words = sweep(tmp_path / "s", "--seeds", "0", "--jobs", 1)
    assert main([*words, "--analyses", "norms"]) == 0
    assert set(load_table(tmp_path / "s/seed-0")["analysis"]) == {"performance", "norms"}
    assert read(tmp_path / "s")["accuracy"].notna().all()
    assert main([*words, "--model.n_heads", "2"]) == 2, "another config is there"


def test_a_setting_is_one_variant():
    config = RECIPES["induction-smoke"]()
    words = ["--model.n_layers", "1,2", "--train.checkpoints", "0,10"]
    variants = expand_variants(config, [*words, "--train.learning_rate", "0.01,0.1"])
    assert set(variants) == {
        "n_layers-1_learning_rate-0.01",
        "n_layers-1_learning_rate-0.1",
        "n_layers-2_learning_rate-0.01",
        "n_layers-2_learning_rate-0.1",
    }
    variant = variants["n_layers-1_learning_rate-0.1"]
    assert variant.model.n_layers == 1
    assert variant.train.learning_rate == 0.1
    assert variant.train.checkpoints == (0, 10)
    assert expand_variants(config, []) == {"": config}


@pytest.mark.slow
def test_a_run_that_diverges_is_noted_and_the_others_go_on(tmp_path):
    folder = tmp_path / "some"
    words = ["--seeds", "0", "--train.learning_rate", "0.001,1e30", "--jobs", 1]
    assert main(sweep(folder, *words)) == 0
    frame = read(folder).set_index("train.learning_rate")
    assert frame.loc[0.001, "status"] == "finished"
    assert frame.loc[1e30, "status"] == "diverged"
    assert pd.isna(frame.loc[1e30, "accuracy"])


@pytest.mark.slow
def test_runs_of_different_recipes_are_not_gathered(tmp_path):
    for name in ("induction-smoke", "digits"):
        words = ["train", name, "--runs", str(tmp_path), *SMALL, "--train.steps", "5"]
        assert main(words) == 0
    with pytest.raises(BadInput, match=r"different recipes .* digits, induction-smoke"):
        gather_table([tmp_path / "induction-smoke", tmp_path / "digits"])


REFUSALS = {
    ("--seeds", "3..1"): "--seeds takes",
    ("--seeds", "a"): "'a'",
    ("--seeds", "1,1"): "each seed once",
    ("--jobs", "0"): "--jobs must be at least 1",
    ("--images", "0"): "--images must be at least 2, got 0",
    ("--model.n_layer", "1,2"): "did you mean '--model.n_layers'",
    ("--model.n_layers", "1,0"): "n_layers must be >= 1, got 0",
    ("--model.readout", "last,every"): "one for each image: allowed are cls, mean, pooled, last",
    ("--train.steps", "50", "--train.checkpoints", "5,60"): "step 60, but training ends at step 50",
    ("--analyses", "performance,nroms"): "did you mean 'norms'",
    ("--analyses", "strategies"): "needs predictors that know the world",
}


@pytest.mark.slow
def test_what_cannot_be_swept_is_refused_in_one_line(tmp_path, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    nobody = {("--cluster", address): "no Dask cluster answers at tcp://127.0.0.1"}
    for words, message in (REFUSALS | nobody).items():
        assert main(sweep(tmp_path / "x", *words)) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert message in error
        assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_killed_and_restarted_at_random(tmp_path):
    """Six seeds, killed five times with all its workers: the table is the undisturbed one's."""
    whole = tmp_path / "whole"
    killed = tmp_path / "killed"
    assert main(sweep(whole, "--seeds", "0..5", "--jobs", 1)) == 0
    words = sweep(killed, "--seeds", "0..5", "--jobs", 2)
    for goal in sorted(random.Random(0).sample(range(12, 145), 5)):
        process = toyvit(*words)
        wait_for(lambda goal=goal: len(list(killed.glob("**/*.safetensors"))) >= goal, process)
        os.killpg(process.pid, signal.SIGKILL)
        kill(process)

    assert finish(toyvit(*words))[0] == 0
    pd.testing.assert_frame_equal(read(killed), read(whole))
    for path in whole.glob("**/manifest.jsonl"):
        assert (killed / path.relative_to(whole)).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_a_dask_cluster_that_loses_a_worker(tmp_path):
    """A scheduler and two workers, processes of their own over TCP, one killed while it trains."""
    folder = tmp_path / "swept"
    address = tmp_path / "scheduler.json"
    processes = [start_dask(tmp_path, "scheduler", "--port", "0")]
    try:
        wait_for(address.exists, processes[0])
        for _ in range(2):
            processes.append(start_dask(tmp_path, "worker", "--nthreads", "1", "--no-nanny"))
        cluster = json.loads(address.read_text())["address"]
        process = toyvit(*sweep(folder, "--seeds", "0..3", "--cluster", cluster))
        wait_for(lambda: len(list(folder.glob("**/measures.sqlite"))) >= 2, process)

        finished = filter(is_finished, folder.iterdir())
        done = [path for run in finished for path in run.glob("checkpoints/*")]
        written = note_times(done)
        processes[1].kill()
        code, error = finish(process)
        assert code == 0, error
        assert note_times(done) == written
    finally:
        for process in reversed(processes):
            kill(process)
    alone = tmp_path / "alone"
    assert main(sweep(alone, "--seeds", "0..3", "--jobs", 1)) == 0
    pd.testing.assert_frame_equal(read(folder), read(alone))


DASK = """
import runpy, sys
del sys.argv[:3]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def start_dask(folder: Path, kind: str, *words: str) -> Warm:
    """A scheduler or worker on this machine, which meet in a file of the folder."""
    local = ["--host", "127.0.0.1", "--no-dashboard"]
    place = ["--scheduler-file", str(folder / "scheduler.json")]
    return Warm("-c", DASK, f"distributed.cli.dask_{kind}", *local, *place, *words, cwd=folder)


def is_finished(path: Path) -> bool:
    folder = RunFolder(path)
    return folder.config_file.exists() and folder.read_status() == "finished"
