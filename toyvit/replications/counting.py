"""Counting discs, the lab's recipe: learned smoothly, the control in which no transition may be found."""

from __future__ import annotations

from pathlib import Path

from toyvit.config import RunConfig, find_rate_changes
from toyvit.dynamics.transitions import detect_in_curve
from toyvit.recipes.arithmetic import counting
from toyvit.replications.lab import load_curve, to_points, train_and_measure
from toyvit.replications.record import LAB, Check, Outcome, Replication, build_lines
from toyvit.runs.handle import load_baselines


def run_seed(seed: int, folder: Path, recipe: RunConfig | None = None) -> Outcome:
    path = train_and_measure(
        recipe or counting(), seed, folder / "run", ["performance"], ["test", "held_out"]
    )
    right = {
        split: load_curve(path, "performance", "accuracy", split) for split in ("test", "held_out")
    }
    numbers = {
        "seen": float(right["test"].iloc[-1]),
        "held_out": float(right["held_out"].iloc[-1]),
        "detected": float(
            detect_in_curve(right["test"], find_rate_changes((recipe or counting()).train))
            is not None
        ),
    }
    shown = {
        "pairs that were trained": to_points(right["test"]),
        "pairs kept apart": to_points(right["held_out"]),
    }
    level = {
        name.removeprefix("accuracy."): value
        for name, value in load_baselines(path).items()
        if name == "accuracy.uniform"
    }
    return Outcome(
        numbers,
        [
            build_lines(
                "discs on two sides, how many in all",
                "step",
                "accuracy",
                shown,
                levels=level,
                scale="symlog",
            )
        ],
    )


ROW = Replication(
    name="counting",
    title="Counting discs: no transition",
    source=LAB,
    compared=(
        "Recipe `counting`: accuracy at the end on pairs of numbers that training showed and on pairs that it did not, "
        "and whether the detector of transitions says that there is none."
    ),
    run=run_seed,
    checks=(
        Check("detected", "transitions found", "none", LAB, 0, 0),
        Check("seen", "accuracy, pairs that were trained", "0.992", LAB, 0.96, 1, must=True),
        Check("held_out", "accuracy, pairs kept apart", "0.938", LAB, 0.85, 1),
    ),
    minutes=0.5,
)
