"""Counting discs, the lab's recipe: learned smoothly, the control in which no transition may be found."""

from __future__ import annotations

from pathlib import Path

from toyvit.config import Run, rate_changes
from toyvit.recipes import counting
from toyvit.replications.lab import curve, measured, pair
from toyvit.replications.record import LAB, Check, Found, Replication, lines
from toyvit.results import baselines
from toyvit.transitions import found


def run(seed: int, folder: Path, recipe: Run | None = None) -> Found:
    path = measured(recipe or counting(), seed, folder / "run", ["performance"], ["test", "held_out"])
    right = {split: curve(path, "performance", "accuracy", split) for split in ("test", "held_out")}
    numbers = {
        "seen": float(right["test"].iloc[-1]),
        "held_out": float(right["held_out"].iloc[-1]),
        "detected": float(found(right["test"], rate_changes((recipe or counting()).train)) is not None),
    }
    shown = {"pairs that were trained": pair(right["test"]), "pairs kept apart": pair(right["held_out"])}
    level = {name.removeprefix("accuracy."): value for name, value in baselines(path).items() if name == "accuracy.uniform"}
    return Found(
        numbers, [lines("discs on two sides, how many in all", "step", "accuracy", shown, levels=level, scale="symlog")]
    )


ROW = Replication(
    name="counting",
    title="Counting discs: no transition",
    source=LAB,
    compared=(
        "Recipe `counting`: accuracy at the end on pairs of numbers that training showed and on pairs that it did not, "
        "and whether the detector of transitions says that there is none."
    ),
    run=run,
    checks=(
        Check("detected", "transitions found", "none", LAB, 0, 0),
        Check("seen", "accuracy, pairs that were trained", "0.992", LAB, 0.96, 1, must=True),
        Check("held_out", "accuracy, pairs kept apart", "0.938", LAB, 0.85, 1),
    ),
    minutes=0.5,
)
