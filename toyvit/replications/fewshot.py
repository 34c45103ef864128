"""Two exemplar-label pairs and a query: how an induction head forms, unclamped (Singh 2024)."""

from __future__ import annotations

from pathlib import Path

from toyvit.config import ModelConfig, RunConfig, TrainConfig
from toyvit.data.task import accuracy
from toyvit.data.worlds.fewshot.config import FewshotConfig
from toyvit.dynamics.transitions import find_first_step
from toyvit.model.forward import ablate_heads, trace
from toyvit.replications.lab import to_points, train_and_measure
from toyvit.replications.record import PLOT, Check, Outcome, Replication, build_lines
from toyvit.runs.handle import Run

RECIPE = RunConfig(
    recipe="fewshot",
    task=FewshotConfig(n_pairs=2, n_classes=50, n_labels=5, burstiness=1, labels="random"),
    model=ModelConfig(
        n_layers=2, n_heads=8, d_model=64, mask="causal", cls_token=False, readout="last"
    ),
    train=TrainConfig(steps=6000, batch_size=32, learning_rate=1e-4),
)


def score_alone(run: Run) -> float:
    """Accuracy at the last checkpoint with one head of the last layer, the best by itself.

    All others of that layer are silenced.
    """
    batch = run.batch("test", 2048)
    model = run.model(batch=batch)
    cache = trace(model, batch.images, ["blocks.*.resid_pre", "blocks.*.attn.z"])
    last = model.config.n_layers - 1
    heads = range(model.config.n_heads)

    scores = []
    for alone in heads:
        silenced = [(last, head) for head in heads if head != alone]
        scores.append(accuracy(ablate_heads(model, silenced, cache), batch.target).item())
    return max(scores)


def run_seed(seed: int, folder: Path, recipe: RunConfig = RECIPE) -> Outcome:
    run = train_and_measure(recipe, seed, folder / "run", ["performance", "induction"])
    nats = run.curve("performance", "loss")
    right = run.curve("performance", "accuracy")
    strength = run.curve("induction", "strength", layer=1)
    before = run.curve("induction", "previous_cell", layer=0)

    batch = recipe.train.batch_size
    bag = run.baselines["loss.bag_of_labels"]
    start = find_first_step(nats < 0.9 * bag)
    middle = find_first_step(nats < 0.5 * bag)
    plateau = None if start is None else float(nats[nats.index <= start / 2].iloc[-1])
    numbers = {
        "bag": bag,
        "plateau": None if plateau is None else plateau / bag,
        "drop_from": None if start is None else start * batch,
        "drop_middle": None if middle is None else middle * batch,
        "accuracy": float(right.iloc[-1]),
        "strength": float(strength.iloc[-1]),
        "alone": score_alone(run),
    }

    losses = build_lines(
        "loss",
        "sequences seen",
        "cross-entropy (nats)",
        {"all heads": to_points(nats, batch)},
        levels={"bag of labels": bag},
    )
    circuit = build_lines(
        "the circuit, strongest heads",
        "sequences seen",
        "share",
        {
            "accuracy": to_points(right, batch),
            "induction strength, layer 1": to_points(strength, batch),
            "previous cell, layer 0": to_points(before, batch),
        },
        levels={"bag of labels, accuracy": run.baselines["accuracy.bag_of_labels"]},
    )
    return Outcome(numbers, [losses, circuit])


ROW = Replication(
    name="fewshot",
    title="Formation of an induction head from two pairs and a query",
    source="Singh 2024, What needs to go right for an induction head?",
    compared=(
        "Loss and accuracy against sequences seen, the strength (attention to the matching label "
        "minus the other) of the best head of the second layer, and the accuracy with that layer's "
        "other heads silenced. 50 classes, 5 labels, 2 attention-only layers of 8 heads, d 64, as "
        "theirs. Other than theirs: exemplars are glyphs with pixel noise, not embedded Omniglot "
        "pictures; labels are drawn with replacement, so that the plateau is at 0.555 nats and not "
        "at ln 2; the rate is 1e-4 and the batch 32. Without clamps."
    ),
    run=run_seed,
    checks=(
        Check(
            "plateau",
            "loss half-way to the drop, over the loss of the bag of labels",
            "1.00 (ln 2)",
            PLOT,
            0.85,
            1.15,
        ),
        Check(
            "drop_middle",
            "sequences when the loss is half of the plateau's",
            "200,000 to 300,000",
            PLOT,
            100000,
            600000,
        ),
        Check("accuracy", "accuracy at the end", "1.00", PLOT, 0.98, 1),
        Check("strength", "induction strength of the best head", "0.85", PLOT, 0.7, 1),
        Check("alone", "accuracy with that layer's best head alone", "0.98", PLOT, 0.9, 1),
    ),
    minutes=0.6,
    remark=(
        "Sequences to the drop depend on the rate and on the pictures, and are not comparable "
        "one to one."
    ),
)
