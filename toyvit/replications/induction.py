"""Visual induction, the default recipe: a phase transition with two layers, none with one."""

from __future__ import annotations

from pathlib import Path

from toyvit.config import RunConfig
from toyvit.dynamics.transitions import detect_in_curve, find_window, relative_width
from toyvit.recipes.induction import induction, induction_control
from toyvit.replications.lab import to_points, train_and_measure
from toyvit.replications.record import LAB, Check, Outcome, Replication, build_lines


def run_seed(
    seed: int, folder: Path, deep: RunConfig | None = None, control: RunConfig | None = None
) -> Outcome:
    analyses = ["performance", "induction", "head_ablation"]
    two = train_and_measure(deep or induction(), seed, folder / "two-layers", analyses)
    shallow = control or induction_control()
    single = train_and_measure(shallow, seed, folder / "one-layer", ["performance"])

    right = two.curve("performance", "accuracy")
    alone = single.curve("performance", "accuracy")
    mass = two.curve("induction", "mass", layer=1)
    before = two.curve("induction", "previous_cell", layer=0)
    without = two.curve("head_ablation", "accuracy", layer=1, ablation="zero")

    bag = two.baselines["accuracy.bag_of_labels"]
    rise = find_window(right, bag)
    change = detect_in_curve(right, two.config.train)
    change_alone = detect_in_curve(alone, single.config.train)
    numbers = {
        "bag": bag,
        "onset": float(rise[0]) if rise else None,
        "end": float(rise[1]) if rise else None,
        "width": relative_width(rise) if rise else None,
        "detected": change.onset if change else None,
        "accuracy": float(right.iloc[-1]),
        "mass": float(mass.iloc[-1]),
        "previous_cell": float(before.iloc[-1]),
        "cut_out": float(without.iloc[-1]),
        "one_layer": float(alone.iloc[-1]),
        "one_layer_detected": float(change_alone is not None),
    }

    accuracies = build_lines(
        "5 x 5 glyphs",
        "step",
        "accuracy",
        {"two layers": to_points(right), "one layer": to_points(alone)},
        levels={"bag of labels": bag},
    )
    circuit = build_lines(
        "the circuit",
        "step",
        "attention mass",
        {"induction, layer 1": to_points(mass), "previous cell, layer 0": to_points(before)},
    )
    return Outcome(numbers, [accuracies, circuit])


ROW = Replication(
    name="induction",
    title="Visual induction: the lab's phase transition",
    source=LAB,
    compared=(
        "Recipes `induction` and `induction-control`: steps from 10 % to 90 % of the way from the "
        "bag of labels to the last accuracy, and what the circuit comes to. Steps of the onset "
        "belong to one machine and are not compared."
    ),
    run=run_seed,
    checks=(
        Check(
            "width",
            "steps of the rise over the steps before",
            "0.10 to 0.17",
            LAB,
            0.05,
            0.25,
            must=True,
        ),
        Check("accuracy", "accuracy at the end", "0.998 to 1.000", LAB, 0.98, 1, must=True),
        Check("mass", "induction mass, last layer", "0.96 to 0.97", LAB, 0.94, 1),
        Check(
            "previous_cell",
            "previous-cell mass of the first layer, label cells",
            "0.91 to 0.95",
            LAB,
            0.88,
            1,
        ),
        Check("cut_out", "accuracy without the induction head", "0.05 to 0.08", LAB, 0.03, 0.1),
        Check(
            "one_layer",
            "accuracy of one layer (bag of labels: 0.177)",
            "0.158 to 0.172",
            LAB,
            0.1,
            0.2,
        ),
        Check("one_layer_detected", "transitions found with one layer", "none", LAB, 0, 0),
    ),
    minutes=1.1,
)
