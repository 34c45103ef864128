"""Grokking on 1,000 pictures of MNIST, when an MLP starts with large weights (Liu 2022).

Eight times too large.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from toyvit.data.worlds.mnist.world import load_mnist
from toyvit.model.toys import MLP
from toyvit.replications.record import ONE_RUN, Check, Outcome, Panel, Replication, build_lines
from toyvit.replications.training import descend, space_steps

WIDTHS = (784, 200, 200, 10)
SCALE = 8.0
STEPS = 100_000
BATCH = 200
RATE = 1e-3
DECAY = 0.01
PICTURES = 1000
TESTED = 2000


def check_ready() -> None:
    """BadInput where MNIST is not here."""
    load_mnist()


def load_pictures(split: str, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """n pictures of a split, 0 to 1 (picture pixel), and their digits.

    Drawn without replacement.
    """
    mnist = load_mnist()
    rows = mnist.splits[split]
    drawn = rows[torch.randperm(len(rows), generator=generator)[:n].numpy()]
    pictures = torch.from_numpy(mnist.images[drawn]).flatten(1) / 255
    return pictures, torch.from_numpy(mnist.known["class"][drawn])


def measure_length(model: nn.Module) -> float:
    """The norm of all weights together."""
    return torch.cat([weight.flatten() for weight in model.parameters()]).norm().item()


def run_seed(seed: int, folder: Path, steps: int = STEPS) -> Outcome:
    generator = torch.Generator().manual_seed(2**20 + seed)
    pictures, digits = load_pictures("train", PICTURES, generator)
    unseen, answers = load_pictures("test", TESTED, generator)
    codes = F.one_hot(digits, 10).float()
    model = MLP(WIDTHS, SCALE, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY, fused=True)

    compared = [step for step in (2000, 8000) if step <= steps]
    when = sorted({*space_steps(steps), *compared})
    curves: dict[str, dict[int, float]] = {"training": {}, "test": {}, "length": {}}

    def loss(step: int) -> Tensor:
        rows = torch.randint(PICTURES, (BATCH,), generator=generator)
        return F.mse_loss(model(pictures[rows]), codes[rows])

    def look(step: int) -> None:
        for name, x, y in (("training", pictures, digits), ("test", unseen, answers)):
            curves[name][step] = (model(x).argmax(1) == y).float().mean().item()
        curves["length"][step] = measure_length(model)

    descend(model, optimizer, loss, steps, look, when)
    numbers = {
        "training_at_2000": curves["training"].get(2000),
        "test_at_8000": curves["test"].get(8000),
        "test_at_end": curves["test"][steps],
        "shrunk": curves["length"][steps] / curves["length"][0],
    }
    return Outcome(numbers, _build_panels(curves))


def _build_panels(curves: dict[str, dict[int, float]]) -> list[Panel]:
    points = {name: (list(curve), list(curve.values())) for name, curve in curves.items()}
    accuracies = build_lines(
        "1,000 pictures, weights times 8",
        "step",
        "accuracy",
        {name: points[name] for name in ("training", "test")},
        levels={"chance": 0.1},
        scale="symlog",
    )

    lengths = build_lines(
        "length of all weights", "step", "norm", {"weights": points["length"]}, scale="symlog"
    )
    return [accuracies, lengths]


ROW = Replication(
    name="omnigrok",
    title="Grokking on 1,000 pictures of MNIST",
    source="Liu 2022, Omnigrok",
    compared=(
        "Accuracy on the 1,000 training pictures and on 2,000 test pictures of an MLP (784, 200, "
        "200, 10; ReLU) whose first weights are 8 times torch's, squared error on one-hot codes, "
        "AdamW at 1e-3 with weight decay 0.01, batches of 200, 100,000 steps."
    ),
    run=run_seed,
    ready=check_ready,
    checks=(
        Check("training_at_2000", "training accuracy at step 2,000", "1.00", ONE_RUN, 0.98, 1),
        Check("test_at_8000", "test accuracy at step 8,000", "0.17 to 0.20", ONE_RUN, 0.1, 0.3),
        Check("test_at_end", "test accuracy at step 100,000", "0.89", ONE_RUN, 0.84, 0.94),
    ),
    minutes=6.2,
)
