"""Recipes that are asked at every patch what comes next: Markov textures and repeated sequences."""

from __future__ import annotations

from dataclasses import replace

from toyvit.config import ModelConfig, RunConfig, TrainConfig
from toyvit.data.worlds.hidden_states.config import HiddenStatesConfig
from toyvit.data.worlds.markov.config import MarkovConfig
from toyvit.data.worlds.repeats.config import RepeatsConfig


def markov() -> RunConfig:
    """Markov textures, next patch: from counting textures to counting pairs (after Edelman 2024).

    The distance to the true chain, KL, sits near the unigram predictor's (0.19 nats), then falls to
    0.08 (exact Bayes: 0.067) while the first layer learns to look at the patch before. Half a CPU
    minute.
    """
    return RunConfig(
        recipe="markov",
        task=MarkovConfig(),
        model=ModelConfig(
            n_layers=2, n_heads=1, d_model=16, mask="causal", cls_token=False, readout="every"
        ),
        train=TrainConfig(steps=2000, batch_size=64, learning_rate=3e-3),
    )


def markov_control() -> RunConfig:
    """The same with one layer: stays near the unigram predictor's 0.19 nats, at 0.176."""
    run = markov()
    return replace(run, recipe="markov-control", model=replace(run.model, n_layers=1))


def mess3() -> RunConfig:
    """Textures of a process with three hidden states: the stream comes to hold the beliefs.

    After Shai 2024. Within 200 steps predictions are near the best (exact Bayes) while an affine
    map of the last layer comes to give 0.98 of the variance of the beliefs about the hidden state;
    the patch and its place alone give 0.82, the untrained network 0.93. With two random bits and
    their XOR (`--task.process rrxor --model.n_layers 3 --train.steps 4000`) beliefs are more than
    the next patch, and spread over the layers. Half a CPU minute.
    """
    return RunConfig(
        recipe="mess3",
        task=HiddenStatesConfig(),
        model=ModelConfig(
            n_layers=2,
            n_heads=2,
            d_model=64,
            d_mlp=128,
            mask="causal",
            cls_token=False,
            readout="every",
        ),
        train=TrainConfig(steps=1500, batch_size=64, learning_rate=1e-3),
    )


def repeats() -> RunConfig:
    """A repeated sequence with a varying period, next patch: above 0.99 where it repeats.

    Hardly a plateau. 10 CPU seconds.
    """
    return RunConfig(
        recipe="repeats",
        task=RepeatsConfig(),
        model=ModelConfig(
            n_layers=2, n_heads=1, d_model=64, mask="causal", cls_token=False, readout="every"
        ),
        train=TrainConfig(steps=800, batch_size=64, learning_rate=1e-3),
    )


RECIPES = (markov, markov_control, mess3, repeats)
