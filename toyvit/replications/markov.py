"""In-context Markov chains: unigrams first, then bigrams when a previous-patch head forms.

One layer stays with unigrams (Edelman 2024).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from toyvit.config import RunConfig
from toyvit.dynamics.transitions import find_first_step
from toyvit.recipes.sequences import markov, markov_control
from toyvit.replications.lab import to_points, train_and_measure
from toyvit.replications.record import ONE_RUN, PLOT, Check, Outcome, Replication, build_lines

# Attention over 100 tokens is slow to measure.
train_and_look = partial(train_and_measure, images=128, every=4)


def run_seed(
    seed: int, folder: Path, deep: RunConfig | None = None, control: RunConfig | None = None
) -> Outcome:
    analyses = ["strategies", "attention"]
    two = train_and_look(deep or markov(), seed, folder / "two-layers", analyses)
    shallow = control or markov_control()
    single = train_and_look(shallow, seed, folder / "one-layer", ["strategies"])

    truth = two.curve("strategies", "kl", strategy="truth")
    unigram = two.curve("strategies", "kl", strategy="unigram")
    alone = single.curve("strategies", "kl", strategy="truth")
    attention = two.curve("attention", "previous", layer=0)

    levels = {name: two.baselines[f"kl.{name}"] for name in ("uniform", "unigram", "bayes")}
    batch = two.config.train.batch_size
    start = find_first_step(truth < 0.176)
    end = find_first_step(truth < 0.095)
    numbers = {
        "end": float(truth.iloc[-1]),
        "bayes": levels["bayes"],
        "one_layer": float(alone.iloc[-1]),
        "nearest_to_unigram": float(unigram.min()),
        "previous_start": float(attention.iloc[0]),
        "previous_end": float(attention.iloc[-1]),
        "fall_from": None if start is None else start * batch,
        "fall_to": None if end is None else end * batch,
    }

    distances = build_lines(
        "distance from the true chain",
        "sequences seen",
        "KL (nats)",
        {"two layers": to_points(truth, batch), "one layer": to_points(alone, batch)},
        levels=levels,
        scale="symlog",
    )
    masses = build_lines(
        "attention to the patch before, layer 0",
        "sequences seen",
        "mass",
        {"two layers": to_points(attention, batch)},
        scale="symlog",
    )
    return Outcome(numbers, [distances, masses])


ROW = Replication(
    name="markov",
    title="In-context Markov chains: unigrams, then bigrams",
    source="Edelman 2024, The Evolution of Statistical Induction Heads",
    compared=(
        "Distance KL(truth, model) on fresh chains of 3 symbols, 2 layers of 1 head against 1 "
        "layer, and the first layer's attention to the patch before. In pictures: a 10 x 10 grid "
        "of textures, a texture a symbol, instead of a sequence of 100 tokens; recipes `markov` "
        "and `markov-control`, 128,000 sequences."
    ),
    run=run_seed,
    checks=(
        Check(
            "nearest_to_unigram",
            "KL(unigram predictor, model), nats, where it is smallest: the phase of unigrams",
            "near 0 on the plateau",
            PLOT,
            0,
            0.03,
        ),
        Check(
            "end",
            "KL to the truth at the end, two layers, nats (exact Bayes: 0.067)",
            "0.095 after 38,000 sequences",
            ONE_RUN,
            0.06,
            0.1,
        ),
        Check(
            "one_layer",
            "the same with one layer (unigram predictor: 0.190)",
            "0.180 after 64,000 sequences",
            ONE_RUN,
            0.165,
            0.195,
        ),
        Check(
            "previous_end",
            "attention to the patch before, layer 0, at the end",
            "0.80",
            ONE_RUN,
            0.6,
            1,
        ),
        Check(
            "fall_from",
            "sequences when the distance falls under 0.176",
            "19,000",
            ONE_RUN,
            9500,
            38000,
        ),
        Check("fall_to", "sequences when it falls under 0.095", "38,000", ONE_RUN, 19000, 76000),
    ),
    minutes=1.1,
    remark=(
        "The rate, 3e-3, is the recipe's and faster than theirs; the attention is still rising "
        "at the end."
    ),
)
