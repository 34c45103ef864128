"""Visual modular addition, the lab's recipe: grokking, training accuracy long before test accuracy."""

from __future__ import annotations

from pathlib import Path

from toyvit.config import RunConfig
from toyvit.recipes.arithmetic import addition
from toyvit.replications.lab import find_reaching, load_curve, to_points, train_and_measure
from toyvit.replications.record import LAB, Check, Outcome, Replication, build_lines


def run_seed(seed: int, folder: Path, recipe: RunConfig | None = None) -> Outcome:
    recipe = recipe or addition()
    path = train_and_measure(
        recipe, seed, folder / "run", ["performance"], ["test", "train"], images=512
    )
    right = {
        split: load_curve(path, "performance", "accuracy", split) for split in ("train", "test")
    }
    numbers = {
        "training_95": find_reaching(right["train"], 0.95),
        "test_10": find_reaching(right["test"], 0.10),
        "test_95": find_reaching(right["test"], 0.95),
        "test_99": find_reaching(right["test"], 0.99),
        "best": float(right["test"].max()),
    }
    shown = {"training pairs": to_points(right["train"]), "test pairs": to_points(right["test"])}
    panel = build_lines(
        "p = 37, glyphs", "step", "accuracy", shown, levels={"chance": 1 / 37}, scale="symlog"
    )
    return Outcome(numbers, [panel])


ROW = Replication(
    name="addition",
    title="Visual modular addition: grokking",
    source=LAB,
    compared=(
        "Recipe `addition`: p = 37 in glyphs, unordered pairs apart, one layer with an MLP, full batch, 3,000 steps; the "
        "first checkpoints at which accuracies are reached."
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
