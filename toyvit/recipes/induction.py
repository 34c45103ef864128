"""Recipes that learn from the context: visual induction and few shots."""

from __future__ import annotations

from dataclasses import replace

from toyvit.config import ModelConfig, RunConfig, TrainConfig
from toyvit.data.worlds.fewshot.config import FewshotConfig
from toyvit.data.worlds.glyphs.config import InductionConfig


def induction() -> RunConfig:
    """Visual induction on 5 x 5 glyphs: a phase transition. Two attention-only layers of one head.

    Accuracy sits at or under the bag-of-labels ceiling (0.174), then rises to above 0.98 within a
    fifth of the steps that came before, while an induction head forms in the second layer. About
    half a CPU minute.
    """
    return RunConfig(
        recipe="induction",
        task=InductionConfig(),
        model=ModelConfig(
            n_layers=2, n_heads=1, d_model=64, mask="causal", cls_token=False, readout="last"
        ),
        train=TrainConfig(steps=2000, batch_size=64, learning_rate=5e-4),
    )


def induction_control() -> RunConfig:
    """The same with one layer, which cannot build the circuit: accuracy stays under 0.25.

    About 20 CPU seconds.
    """
    run = induction()
    return replace(run, recipe="induction-control", model=replace(run.model, n_layers=1))


def induction_heads() -> RunConfig:
    """The same with four heads a layer and a higher rate: induction heads in all of the last layer.

    Half a CPU minute.
    """
    run = induction()
    return replace(
        run,
        recipe="induction-heads",
        model=replace(run.model, n_heads=4),
        train=replace(run.train, learning_rate=1e-3),
    )


def induction_smoke() -> RunConfig:
    """4 x 4 glyphs and 16 labels: the same transition in about 5 CPU seconds."""
    run = induction()
    return replace(
        run,
        recipe="induction-smoke",
        task=InductionConfig(rows=4, columns=4, n_labels=16),
        train=replace(run.train, steps=500, learning_rate=1e-3),
    )


def induction_bidirectional() -> RunConfig:
    """3 x 3 glyphs, attention in both directions: rises with most seeds, by another circuit.

    Seeds 0 and 1 end at 0.99. Their label cells attend to every item but the one before
    them, and the last layer finds the label that lacks the query's item. A CPU minute.
    """
    run = induction()
    return replace(
        run,
        recipe="induction-bidirectional",
        task=InductionConfig(rows=3, columns=3, n_labels=16),
        model=replace(run.model, mask="bidirectional"),
        train=replace(run.train, steps=5000, learning_rate=1e-3),
    )


def fewshot() -> RunConfig:
    """Few shots (after Chan 2022): many bursty classes teach the model to read the context.

    It does not learn to know the classes. On those never trained, `in_context`, accuracy stays
    under a bag of labels (0.23) to step 400, then rises past 0.9 by step 703 and ends at 0.98 to
    0.99, while an induction head forms; `in_weights` ends at 0.05 to 0.06 (chance 0.03). With 32
    classes and no bursts (`--task.n_classes 32 --task.p_bursty 0`) in_context ends at 0.03,
    in_weights is 1.00 from step 75 on. Seeds 0, 1, 2; a third of a CPU minute.
    """
    return RunConfig(
        recipe="fewshot",
        task=FewshotConfig(n_classes=512),
        model=ModelConfig(
            n_layers=2, n_heads=1, d_model=64, mask="causal", cls_token=False, readout="last"
        ),
        train=TrainConfig(steps=1500, batch_size=64, learning_rate=1e-3),
    )


def two_pairs() -> RunConfig:
    """Two exemplar-label pairs and a query (after Singh 2024): a plateau, then an induction head.

    The plateau is at the two labels. Seeds 0, 1, 2: half of the loss of a bag of labels (0.27 nats)
    at step 264, 282, 360; 0.99 of the test pictures at last. A previous-cell pattern held from the
    start (`--train.clamps 0.0:previous`): step 162, 178, 192; the match held (`1.0:match`): step
    100 in all, without a plateau. An eighth of a CPU minute.

    Omniglot's handwritten characters need an MLP and longer (`--task.source omniglot
    --task.n_classes 900 --task.noise 0 --model.n_heads 4 --model.d_model 128 --model.d_mlp 512
    --train.steps 4000 --train.learning_rate 5e-4`, seed 0): at the two labels (0.61) to step 2,800,
    then up, 0.88 of the test pictures at 4,000, 0.84 of those of characters never trained on.
    """
    return RunConfig(
        recipe="two-pairs",
        task=FewshotConfig(n_pairs=2, n_classes=50, n_labels=5, labels="random", burstiness=1),
        model=ModelConfig(
            n_layers=2, n_heads=8, d_model=64, mask="causal", cls_token=False, readout="last"
        ),
        train=TrainConfig(steps=600, batch_size=64, learning_rate=1e-3),
    )


RECIPES = (
    induction,
    induction_control,
    induction_heads,
    induction_smoke,
    induction_bidirectional,
    fewshot,
    two_pairs,
)
