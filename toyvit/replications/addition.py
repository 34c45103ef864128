"""Visual modular addition: grokking, training accuracy long before test accuracy."""

from __future__ import annotations

from pathlib import Path

from toyvit.config import RunConfig
from toyvit.dynamics.transitions import find_first_step
from toyvit.recipes.arithmetic import addition
from toyvit.replications.lab import to_points, train_and_measure
from toyvit.replications.record import LAB, Check, Outcome, Replication, build_lines


def run_seed(seed: int, folder: Path, recipe: RunConfig | None = None) -> Outcome:
    config = recipe or addition()
    splits = ("test", "train")
    run = train_and_measure(config, seed, folder / "run", ["performance"], splits, images=512)
    training = run.curve("performance", "accuracy", split="train")
    test = run.curve("performance", "accuracy", split="test")

    numbers = {
        "training_95": find_first_step(training >= 0.95),
        "test_10": find_first_step(test >= 0.10),
        "test_95": find_first_step(test >= 0.95),
        "test_99": find_first_step(test >= 0.99),
        "best": float(test.max()),
    }
    panel = build_lines(
        "p = 37, glyphs",
        "step",
        "accuracy",
        {"training pairs": to_points(training), "test pairs": to_points(test)},
        levels={"chance": 1 / 37},
        scale="symlog",
    )
    return Outcome(numbers, [panel])


ROW = Replication(
    name="addition",
    title="Visual modular addition: grokking",
    source=LAB,
    compared=(
        "Recipe `addition`: p = 37 in glyphs, unordered pairs apart, one layer with an MLP, full "
        "batch, 3,000 steps; the first checkpoints at which accuracies are reached."
    ),
    run=run_seed,
    checks=(
        Check("training_95", "step of training accuracy 0.95", "50", LAB, 25, 125),
        Check("test_10", "step of test accuracy 0.1", "400 to 1,125", LAB, 200, 1700, must=True),
        Check("test_95", "step of test accuracy 0.95", "1,000 to 1,725", LAB, 600, 2600, must=True),
        Check("test_99", "step of test accuracy 0.99", "1,150 to 1,875", LAB, 700, 2800),
    ),
    minutes=1.4,
)
