"""Grokking on 1,000 pictures of MNIST, when an MLP starts with weights eight times too large (Liu 2022)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from toyvit.data.worlds.mnist.world import load_mnist
from toyvit.model.toys import MLP
from toyvit.replications.record import ONE_RUN, Check, Outcome, Replication, build_lines
from toyvit.replications.training import descend, space_steps

WIDTHS, SCALE = (784, 200, 200, 10), 8.0
STEPS, BATCH, RATE, DECAY = 100_000, 200, 1e-3, 0.01
PICTURES, TESTED = 1000, 2000


def check_ready() -> None:
    """BadInput where MNIST is not here."""
    load_mnist()


def load_pictures(split: str, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """n pictures of a split, drawn without replacement, 0 to 1 (picture pixel), and their digits."""
    mnist = load_mnist()
    rows = mnist.splits[split]
    chosen = rows[torch.randperm(len(rows), generator=generator)[:n].numpy()]
    return torch.from_numpy(mnist.images[chosen]).flatten(1) / 255, torch.from_numpy(
        mnist.known["class"][chosen]
    )


def run_seed(seed: int, folder: Path, steps: int = STEPS) -> Outcome:
    generator = torch.Generator().manual_seed(2**20 + seed)
    (seen, digits), (unseen, others) = (
        load_pictures("train", PICTURES, generator),
        load_pictures("test", TESTED, generator),
    )
    codes, model = F.one_hot(digits, 10).float(), MLP(WIDTHS, SCALE, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
    curves: dict[str, list[float]] = {"training": [], "test": [], "length": []}
    when = sorted({*space_steps(steps), *(step for step in (2000, 8000) if step <= steps)})

    def loss(step: int) -> Tensor:
        rows = torch.randint(PICTURES, (BATCH,), generator=generator)
        return F.mse_loss(model(seen[rows]), codes[rows])

    def look(step: int) -> None:
        for name, x, y in (("training", seen, digits), ("test", unseen, others)):
            curves[name].append((model(x).argmax(1) == y).float().mean().item())
        curves["length"].append(
            torch.cat([weight.flatten() for weight in model.parameters()]).norm().item()
        )

    descend(model, optimizer, loss, steps, look, when)
    at = {name: dict(zip(when, values, strict=True)) for name, values in curves.items()}
    numbers = {
        "training_at_2000": at["training"].get(2000),
        "test_at_8000": at["test"].get(8000),
        "test_at_end": at["test"][steps],
        "shrunk": at["length"][steps] / at["length"][0],
    }
    panel = partial(build_lines, x="step", scale="symlog")
    shown = {name: (when, curves[name]) for name in ("training", "test")}
    return Outcome(
        numbers,
        [
            panel(
                "1,000 pictures, weights times 8",
                y="accuracy",
                curves=shown,
                levels={"chance": 0.1},
            ),
            panel("length of all weights", y="norm", curves={"weights": (when, curves["length"])}),
        ],
    )


ROW = Replication(
    name="omnigrok",
    title="Grokking on 1,000 pictures of MNIST",
    source="Liu 2022, Omnigrok",
    compared=(
        "Accuracy on the 1,000 training pictures and on 2,000 test pictures of an MLP (784, 200, 200, 10; ReLU) whose "
        "first weights are 8 times torch's, squared error on one-hot codes, AdamW at 1e-3 with weight decay 0.01, batches "
        "of 200, 100,000 steps."
    ),
    run=run_seed,
    ready=check_ready,
    checks=(
        Check("training_at_2000", "training accuracy at step 2,000", "1.00", ONE_RUN, 0.98, 1),
        Check("test_at_8000", "test accuracy at step 8,000", "0.17 to 0.20", ONE_RUN, 0.1, 0.3),
        Check(
            "test_at_end", "test accuracy at step 100,000", "0.89", ONE_RUN, 0.84, 0.94, must=True
        ),
    ),
    minutes=6.2,
)
