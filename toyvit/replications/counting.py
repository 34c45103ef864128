"""Counting discs: learned smoothly, the control in which no transition may be found."""

from __future__ import annotations

from pathlib import Path

from toyvit.config import RunConfig
from toyvit.dynamics.transitions import detect_in_curve
from toyvit.recipes.arithmetic import counting
from toyvit.replications.lab import to_points, train_and_measure
from toyvit.replications.record import LAB, Check, Outcome, Replication, build_lines


def run_seed(seed: int, folder: Path, recipe: RunConfig | None = None) -> Outcome:
    config = recipe or counting()
    splits = ("test", "held_out")
    run = train_and_measure(config, seed, folder / "run", ["performance"], splits)
    trained = run.curve("performance", "accuracy", split="test")
    apart = run.curve("performance", "accuracy", split="held_out")

    change = detect_in_curve(trained, config.train)
    numbers = {
        "seen": float(trained.iloc[-1]),
        "held_out": float(apart.iloc[-1]),
        "detected": float(change is not None),
    }
    panel = build_lines(
        "discs on two sides, how many in all",
        "step",
        "accuracy",
        {
            "pairs that were trained": to_points(trained),
            "pairs kept apart": to_points(apart),
        },
        scale="symlog",
    )
    return Outcome(numbers, [panel])


ROW = Replication(
    name="counting",
    title="Counting discs: no transition",
    source=LAB,
    compared=(
        "Recipe `counting`: accuracy at the end on pairs of numbers that training showed and on "
        "pairs that it did not, and whether the detector of transitions says that there is none."
    ),
    run=run_seed,
    checks=(
        Check("detected", "transitions found", "none", LAB, 0, 0),
        Check("seen", "accuracy, pairs that were trained", "0.992", LAB, 0.96, 1, must=True),
        Check("held_out", "accuracy, pairs kept apart", "0.938", LAB, 0.85, 1),
    ),
    minutes=0.5,
)
