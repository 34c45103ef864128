"""Visual modular addition, the lab's recipe: grokking, training accuracy long before test accuracy."""

from __future__ import annotations

from pathlib import Path

from toyvit.config import Run
from toyvit.recipes import addition
from toyvit.replications.lab import curve, measured, pair, reaching
from toyvit.replications.record import LAB, Check, Found, Replication, lines


def run(seed: int, folder: Path, recipe: Run | None = None) -> Found:
    recipe = recipe or addition()
    path = measured(recipe, seed, folder / "run", ["performance"], ["test", "train"], images=512)
    right = {split: curve(path, "performance", "accuracy", split) for split in ("train", "test")}
    numbers = {
        "training_95": reaching(right["train"], 0.95),
        "test_10": reaching(right["test"], 0.10),
        "test_95": reaching(right["test"], 0.95),
        "test_99": reaching(right["test"], 0.99),
        "best": float(right["test"].max()),
    }
    shown = {"training pairs": pair(right["train"]), "test pairs": pair(right["test"])}
    panel = lines("p = 37, glyphs", "step", "accuracy", shown, levels={"chance": 1 / 37}, scale="symlog")
    return Found(numbers, [panel])


ROW = Replication(
    name="addition",
    title="Visual modular addition: grokking",
    source=LAB,
    compared=(
        "Recipe `addition`: p = 37 in glyphs, unordered pairs apart, one layer with an MLP, full batch, 3,000 steps; the "
        "first checkpoints at which accuracies are reached."
    ),
    run=run,
    checks=(
        Check("training_95", "step of training accuracy 0.95", "50", LAB, 25, 125),
        Check("test_10", "step of test accuracy 0.1", "400 to 1,125", LAB, 200, 1700, must=True),
        Check("test_95", "step of test accuracy 0.95", "1,000 to 1,725", LAB, 600, 2600, must=True),
        Check("test_99", "step of test accuracy 0.99", "1,150 to 1,875", LAB, 700, 2800),
    ),
    minutes=1.4,
)
