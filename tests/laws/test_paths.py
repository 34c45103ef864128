"""The path of a run, `train.path`: how it computes logits, from its first step to its last."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from toyvit.clamps.patterns import PATTERNS, choose_path
from toyvit.config import PATHS, RunConfig, TrainConfig
from toyvit.data.task import loss, resolve_config
from toyvit.errors import BadInput
from toyvit.recipes import RECIPES
from toyvit.runs.folder import RunFolder
from toyvit.train import fit, module
from toyvit.train.module import N_ROWS, VECTOR, ViTModule, pad_classes


def shorten(path: str | None) -> RunConfig:
    """Four steps of the smallest recipe, by a path."""
    run = RECIPES["induction-smoke"]()
    training = replace(run.train, steps=4, batch_size=8, n_validation=8, warmup=0, path=path)
    return resolve_config(replace(run, train=training))


@pytest.mark.parametrize("what", [*PATTERNS, "copy", "carry"])
def test_what_is_read_is_computed_unless_a_pattern_is_clamped(what):
    clamped = TrainConfig(clamps=(f"0.1:{what}",))
    assert choose_path(TrainConfig()) == "read"
    assert choose_path(clamped) == ("full" if what in PATTERNS else "read")
    assert choose_path(replace(clamped, path="full")) == "full"

    if what in PATTERNS:
        with pytest.raises(BadInput, match=rf"is 'read', but the clamp '0.1:{what}' needs 'full'"):
            choose_path(replace(clamped, path="read"))


def test_an_unknown_path_is_refused_before_there_is_a_folder(tmp_path):
    with pytest.raises(BadInput, match=r"unknown train.path 'raed'.*did you mean 'read'"):
        fit(shorten("raed"), tmp_path / "run", progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_record_without_a_path_is_of_a_run_on_the_full_one():
    plain = RECIPES["induction"]().to_json()
    del plain["train"]["path"]
    assert RunConfig.from_json(plain).train.path == "full"


@pytest.mark.parametrize("path", PATHS)
def test_a_run_keeps_the_path_on_which_it_began(path, tmp_path):
    """Left open it is the run's own; another is refused, and named."""
    folder = fit(shorten(path), tmp_path / "run", progress=False)
    assert json.loads(folder.config_file.read_text())["run"]["train"]["path"] == path
    assert fit(shorten(None), folder.path, resume=True, progress=False).path == folder.path

    (other,) = PATHS.keys() - {path}
    with pytest.raises(BadInput, match=f"train.path: {path} -> {other}"):
        fit(shorten(other), folder.path, resume=True, progress=False)


def test_both_paths_train_alike_to_rounding(tmp_path):
    folders = {path: fit(shorten(path), tmp_path / path, progress=False) for path in PATHS}
    losses = [[line["loss"] for line in read_metrics(folder)] for folder in folders.values()]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4) and len(losses[0]) == 4
    hashes = [[entry.sha256 for entry in folder.read_manifest()] for folder in folders.values()]
    assert hashes[0][0] == hashes[1][0] and hashes[0][-1] != hashes[1][-1]


def read_metrics(folder: RunFolder) -> list[dict]:
    return RunFolder(folder.path).read_metrics()


@pytest.mark.parametrize("n_rows", [N_ROWS - 1, N_ROWS])
@pytest.mark.parametrize("n_classes", [2, 4, 10, VECTOR - 1, VECTOR, VECTOR + 1])
def test_classes_of_no_probability_change_no_loss_and_no_gradient(n_classes, n_rows):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(n_rows, n_classes, generator=generator, requires_grad=True)
    target = torch.randint(-1, n_classes, (n_rows,), generator=generator)  # -1: not asked
    padded = pad_classes(logits)
    is_padded = n_rows == N_ROWS and 4 <= n_classes < VECTOR
    assert padded.shape == (n_rows, VECTOR if is_padded else n_classes)
    assert is_padded or padded is logits

    values = [loss(logits, target), loss(padded, target)]
    torch.testing.assert_close(values[1], values[0], rtol=1e-6, atol=0)
    gradients = [torch.autograd.grad(value, logits)[0] for value in values]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("path", PATHS)
def test_only_classes_on_the_path_of_today_are_padded(path, monkeypatch):
    """Runs from before lose no bit, and numbers are no classes."""
    padded = []
    monkeypatch.setattr(module, "pad_classes", lambda logits: padded.append(path) or logits)
    training = ViTModule(shorten(path))
    logits = torch.zeros(N_ROWS, 10)
    training.compute_loss(logits, logits)
    assert padded == []
    training.compute_loss(logits, torch.zeros(N_ROWS, dtype=torch.int64))
    assert padded == ["read"] * (path == "read")
