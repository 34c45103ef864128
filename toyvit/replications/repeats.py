"""Repeated sequences: two layers learn to go on with them, one layer does not (Olsson 2022)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from toyvit.config import RunConfig
from toyvit.dynamics.transitions import detect_in_curve
from toyvit.recipes.sequences import repeats
from toyvit.replications.lab import to_points, train_and_measure
from toyvit.replications.record import PLOT, TEXT, Check, Outcome, Replication, build_lines


def run_seed(seed: int, folder: Path, recipe: RunConfig | None = None) -> Outcome:
    config = recipe or repeats()
    runs = {}
    for n_layers, name in ((1, "one layer"), (2, "two layers")):
        variant = replace(config, model=replace(config.model, n_layers=n_layers))
        path = folder / name.replace(" ", "-")
        runs[name] = train_and_measure(variant, seed, path, ["performance"])

    right = {name: run.curve("performance", "accuracy") for name, run in runs.items()}
    change = detect_in_curve(right["two layers"], config.train)
    bag = runs["two layers"].baselines["accuracy.bag_of_glyphs"]
    numbers = {
        "one_layer": float(right["one layer"].iloc[-1]),
        "two_layers": float(right["two layers"].iloc[-1]),
        "bag": bag,
        "onset": change.onset if change else None,
    }
    panel = build_lines(
        "next glyph, from the second time on",
        "step",
        "accuracy",
        {name: to_points(values) for name, values in right.items()},
        levels={"bag of glyphs": bag},
    )
    return Outcome(numbers, [panel])


ROW = Replication(
    name="repeats",
    title="Repeated sequences: one layer against two",
    source="Olsson 2022, In-context Learning and Induction Heads",
    compared=(
        "Accuracy of the next glyph from the second time on, recipe `repeats` with 1 and 2 "
        "attention-only layers of one head. A picture shows one random sequence of glyphs over and "
        "over, with a period of 8 to 12 that varies; a fixed period could be learned by position "
        "alone."
    ),
    run=run_seed,
    checks=(
        Check("two_layers", "two layers, at the end", "induction heads form", TEXT, 0.95, 1),
        Check(
            "one_layer",
            "one layer, at the end (position alone gives some of it)",
            "they do not form",
            TEXT,
            0,
            0.5,
        ),
        Check("onset", "onset of a transition with two layers, step", "abrupt", PLOT, 1, 800),
    ),
    minutes=0.5,
    remark=(
        "The transition comes as the warm-up ends, step 100. With warm-ups of 20 and 200 it "
        "comes at 80 and 152."
    ),
)
