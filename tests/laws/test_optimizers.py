"""The optimisers of a run: two updates each by hand, and the bits of runs that were stopped."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from tests.stories.processes import contents
from tests.stories.test_resume import break_after, check_same_bits
from toyvit.config import RunConfig, TrainConfig
from toyvit.errors import BadInput
from toyvit.recipes import RECIPES
from toyvit.train import fit, replay
from toyvit.train.memory import estimate_memory
from toyvit.train.optimizers import build_optimizer

OTHERS: dict[str, dict] = {
    "adam": {"optimizer": "adam", "weight_decay": 0.0},
    "sgd": {"optimizer": "sgd"},
    "momentum": {"optimizer": "sgd", "momentum": 0.9},
}
RATE, DECAY = 0.1, 0.5
BETA1, BETA2, EPSILON = 0.8, 0.6, 1e-3


def update_by_hand(name: str, weight: float, gradients: list[float]) -> float:
    """What is left of a weight after updates with these gradients."""
    mean, square, velocity = 0.0, 0.0, 0.0
    for step, slope in enumerate(gradients, 1):
        if name in ("sgd", "momentum"):
            momentum = 0.9 if name == "momentum" else 0
            velocity = momentum * velocity + slope + DECAY * weight
            weight -= RATE * velocity
            continue
        mean = BETA1 * mean + (1 - BETA1) * slope
        square = BETA2 * square + (1 - BETA2) * slope**2
        if name == "adamw":
            weight -= RATE * DECAY * weight
        root = (square / (1 - BETA2**step)) ** 0.5
        weight -= RATE * mean / (1 - BETA1**step) / (root + EPSILON)
    return weight


@pytest.mark.parametrize("name", ["adamw", *OTHERS])
def test_two_updates_by_hand(name):
    rates = {"beta1": BETA1, "beta2": BETA2, "epsilon": EPSILON, "weight_decay": DECAY}
    config = TrainConfig(learning_rate=RATE, **rates | OTHERS.get(name, {}))
    model = nn.Linear(1, 1, bias=False)
    optimizer = build_optimizer(model, config)
    start = model.weight.item()
    for gradient in (0.7, -0.2):
        model.weight.grad = torch.full((1, 1), gradient)
        optimizer.step()
    expected = update_by_hand(name, start, [0.7, -0.2])
    assert model.weight.item() == pytest.approx(expected, abs=1e-6)


def test_adamw_is_what_it_was_and_is_not_written_into_configs():
    plain = RECIPES["induction"]().to_json()
    assert not {"optimizer", "momentum"} & plain["train"].keys()
    assert RunConfig.from_json(plain).train.optimizer == "adamw"
    other = replace(RECIPES["induction"](), train=TrainConfig(**OTHERS["momentum"]))
    assert RunConfig.from_json(other.to_json()) == other


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"optimizer": "adam"}, r"weight_decay must be 0 with optimizer 'adam' .*, got 0.01"),
        ({"momentum": 0.9}, "momentum is of optimizer 'sgd': with 'adamw' it must be 0"),
        ({"optimizer": "sdg"}, "did you mean 'sgd'"),
    ],
)
def test_what_an_optimiser_does_not_have_is_one_line(options, words):
    with pytest.raises(BadInput, match=words) as caught:
        TrainConfig(**options)
    assert "\n" not in str(caught.value)


def test_memory_counts_the_moments_of_each():
    needed = []
    for name in ("sgd", "momentum", "adam"):
        run = RECIPES["induction"]()
        train = TrainConfig(path="read", **OTHERS[name])
        model = replace(run.model, image_size=(40, 40), patch_size=8, n_channels=1, n_classes=8)
        needed.append(estimate_memory(replace(run, model=model, train=train)))
    assert needed[2] - needed[1] == needed[1] - needed[0] > 0


def shorten(name: str, **training: object) -> RunConfig:
    run = RECIPES["induction-smoke"]()
    short = {"steps": 20, "batch_size": 4, "n_validation": 4, "warmup": 0, "learning_rate": 0.05}
    train = replace(run.train, **short | OTHERS[name] | training)
    return replace(run, train=train, model=replace(run.model, d_model=8))


@pytest.mark.parametrize("name", OTHERS)
def test_a_run_that_was_stopped_or_is_replayed_has_the_same_bits(name, tmp_path, monkeypatch):
    whole = fit(shorten(name), tmp_path / "whole", progress=False)
    break_after(5, shorten(name), tmp_path / "run", monkeypatch)
    fit(shorten(name), tmp_path / "run", resume=True, progress=False)
    check_same_bits(whole.path, tmp_path / "run")

    sparse = fit(shorten(name, checkpoints=(0, 4)), tmp_path / "sparse", progress=False)
    assert replay(sparse.path, 5, 7, progress=False) == [5, 6, 7]
    files = contents(sparse.path, "checkpoints/*")
    assert files.items() <= contents(whole.path, "checkpoints/*").items()
