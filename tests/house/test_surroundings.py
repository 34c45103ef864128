"""A run's bits do not depend on how the process or the environment has set torch and Lightning."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager

import pytest
import torch

from tests.stories.processes import train_here
from toyvit.errors import BadInput
from toyvit.runs.folder import RunFolder
from toyvit.surroundings import SETTINGS, describe_surroundings, pin_torch
from toyvit.train.trainer import _build_trainer

OTHERS = {
    "default dtype": torch.float64,
    "matmul precision": "medium",
    "deterministic algorithms": 1,
    "cudnn benchmark": True,
    "cudnn deterministic": True,
    "mkldnn": False,
}
SHORT = ("--train.steps", "6", "--train.checkpoints", "3")


@contextmanager
def set_otherwise(names=tuple(OTHERS)):
    before = {name: SETTINGS[name][0]() for name in names}
    for name in names:
        SETTINGS[name][1](OTHERS[name])
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        for name, value in before.items():
            SETTINGS[name][1](value)


def read_bits(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.glob("checkpoints/*"))}


def test_every_setting_is_pinned_within_and_as_it_was_after():
    assert OTHERS.keys() == SETTINGS.keys()
    with set_otherwise():
        with pin_torch(1), torch.no_grad(), pin_torch(1):
            for name, (read, _, value) in SETTINGS.items():
                assert read() == value, name
            assert torch.get_num_threads() == 1 and torch.is_grad_enabled()
        for name, (read, _, _) in SETTINGS.items():
            assert read() == OTHERS[name], name
        assert torch.get_num_threads() == 2

        with pytest.raises(ZeroDivisionError), pin_torch(1):
            raise ZeroDivisionError
        assert torch.get_num_threads() == 2 and torch.get_default_dtype() == torch.float64


def test_autocast_inference_mode_and_the_default_device_end_at_the_block():
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
        with pin_torch():
            weight = torch.ones(2, 2, requires_grad=True)
            (weight @ weight).sum().backward()
            assert weight.grad is not None and weight.device.type == "cpu"
            assert (weight @ weight).dtype == torch.float32
        assert torch.is_inference_mode_enabled() and torch.zeros(1).device.type == "meta"


@pytest.mark.parametrize("name", [None, *OTHERS, "no_grad", "inference_mode"])
def test_a_run_has_the_same_bits_whatever_the_process_has_set(name, tmp_path):
    plain = read_bits(train_here(tmp_path / "plain", *SHORT))
    if name in ("no_grad", "inference_mode"):
        with getattr(torch, name)():
            other = read_bits(train_here(tmp_path / "other", *SHORT))
    else:
        with set_otherwise((name,) if name else tuple(OTHERS)):
            other = read_bits(train_here(tmp_path / "other", *SHORT))
    assert len(plain) == 3 and other == plain


VARIABLES = {
    "PL_TRAINER_PRECISION": "bf16-mixed",
    "PL_TRAINER_MAX_TIME": "00:00:00:01",
    "PL_TRAINER_MAX_STEPS": "2",
    "PL_TRAINER_LIMIT_TRAIN_BATCHES": "2",
    "PL_TRAINER_ACCUMULATE_GRAD_BATCHES": "2",
    "PL_TRAINER_GRADIENT_CLIP_VAL": "0.001",
    "PL_TRAINER_FAST_DEV_RUN": "True",
    "PL_TRAINER_OVERFIT_BATCHES": "1",
    "PL_TRAINER_DETERMINISTIC": "True",
    "PL_TRAINER_NUM_NODES": "2",
    "PL_TRAINER_DEVICES": "2",
    "PL_TRAINER_STRATEGY": "ddp_spawn",
    "PL_TRAINER_DETECT_ANOMALY": "True",
    "PL_TRAINER_LOGGER": "True",
}


def test_variables_that_lightning_reads_change_nothing(tmp_path, monkeypatch):
    plain = read_bits(train_here(tmp_path / "plain", *SHORT))
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    other = train_here(tmp_path / "other", *SHORT)
    assert read_bits(other) == plain
    assert {path.name for path in tmp_path.iterdir()} == {"plain", "other"}
    assert not (other / "lightning_logs").exists()


OF_LAUNCHERS = {
    "slurm": {
        "SLURM_NTASKS": "4",
        "SLURM_JOB_ID": "1",
        "SLURM_JOB_NAME": "lab",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "1",
        "SLURM_NODEID": "0",
        "SLURM_NTASKS_PER_NODE": "4",
    },
    "torchrun": {
        "TORCHELASTIC_RUN_ID": "1",
        "WORLD_SIZE": "4",
        "RANK": "1",
        "LOCAL_RANK": "1",
        "GROUP_RANK": "0",
        "MASTER_ADDR": "10.0.0.1",
        "MASTER_PORT": "none",
    },
    "lsf": {
        "LSB_JOBID": "1",
        "LSB_DJOB_RANKFILE": "nowhere",
        "JSM_NAMESPACE_LOCAL_RANK": "1",
        "JSM_NAMESPACE_SIZE": "4",
        "JSM_NAMESPACE_RANK": "1",
    },
    "mpi": {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4", "PMI_RANK": "1"},
    "nonsense": {"LOCAL_RANK": "x", "WORLD_SIZE": "", "SLURM_NTASKS": "x", "PL_SEED_WORKERS": "x"},
}


@pytest.mark.parametrize("launcher", OF_LAUNCHERS)
def test_a_run_is_one_process_whatever_started_it(tmp_path, monkeypatch, launcher):
    plain = read_bits(train_here(tmp_path / "plain", *SHORT))
    for name, value in OF_LAUNCHERS[launcher].items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    assert read_bits(train_here(tmp_path / "other", *SHORT)) == plain
    assert dict(os.environ) == before


def test_a_second_rank_does_not_write_the_same_run(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    monkeypatch.setenv("SLURM_PROCID", "1")
    with folder.claim(), pytest.raises(BadInput, match="in use"):
        train_here(folder.path, *SHORT)
    assert not folder.path.exists()


def test_a_variable_is_read_where_an_argument_is_left_open(monkeypatch):
    """The check can fail: Lightning does read them."""
    import pytorch_lightning as pl

    monkeypatch.setenv("PL_TRAINER_MAX_STEPS", "2")
    quiet = {"logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    assert pl.Trainer(**quiet).max_steps == 2
    assert _build_trainer(**quiet, max_steps=7).max_steps == 7


def test_what_cannot_be_pinned_is_written_down(tmp_path, monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("PASSWORD", "secret")
    assert describe_surroundings()["variables"]["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    run = train_here(tmp_path / "run", *SHORT)
    plain = json.loads((run / "config.json").read_text())
    line = json.loads((run / "sessions.jsonl").read_text())
    assert plain["surroundings"] == line["surroundings"] and line["step"] == 0
    assert plain["versions"] == line["versions"] and plain["versions"]["torch"]
    assert "PASSWORD" not in plain["surroundings"]["variables"] and "PASSWORD" in os.environ
