"""Hugging Face's Trainer under watch, in a process of its own: see the script.

Needs the extra `peers`; skipped without it. It runs outside the checkout, whose folder `datasets/`
looks to that library like its package of the same name.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from toyvit import Run

ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
from toyvit import torchvision_guard
import torch
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification
import toyvit

torch.manual_seed(0)
sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
model = ViTForImageClassification(ViTConfig(**sizes, image_size=12, patch_size=4, num_labels=3))
images = torch.randn(48, 3, 12, 12, generator=torch.Generator().manual_seed(1))
classes = torch.arange(48) % 3
items = [{"pixel_values": image, "labels": label} for image, label in zip(images, classes)]
arguments = TrainingArguments(
    output_dir="out", max_steps=9, per_device_train_batch_size=8, save_strategy="no",
    report_to=[], use_cpu=True, disable_tqdm=True, logging_strategy="no",
)
watched = [toyvit.HuggingFaceWatch("run", every=4, pictures=(images, classes))]
Trainer(model, arguments, train_dataset=items, callbacks=watched[: int(sys.argv[1])]).train()
torch.save(model.eval()(images[:6]).logits, sys.argv[2])
"""


def run_script(folder, *words):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_model_that_their_trainer_trains(tmp_path):
    pytest.importorskip("transformers", exc_type=ImportError)
    pytest.importorskip("accelerate", exc_type=ImportError)
    import torch

    run_script(tmp_path, "1", "watched.pt")
    run_script(tmp_path, "0", "plain.pt")
    watched = torch.load(tmp_path / "watched.pt", weights_only=True)
    assert torch.equal(watched, torch.load(tmp_path / "plain.pt", weights_only=True))

    run = Run(tmp_path / "run")
    assert run.steps == [0, 4, 8, 9]
    assert run.config.recipe == "vit"
    shown = run.batch("test", 6).images
    assert torch.allclose(run.model()(shown), watched, atol=1e-5 * watched.abs().max().item())
